"""Train a network and its loss prediction module on the labelled set."""

from collections.abc import Callable
from itertools import islice
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from lab.errors import Diverged
from lab.model.loss_prediction import ranking_loss
from lab.training.batches import TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.schedule import epoch_of


class Epoch(NamedTuple):
    """number: from 1; loss: mean over images, of network and module together; accuracy: 0 … 1, on the crops."""

    number: int
    loss: float
    accuracy: float


class Spent(NamedTuple):
    """Seconds of training, those before a checkpoint included; compiling: of the first compiled batch among them."""

    training: float
    compiling: float


class Recipe(NamedTuple):
    """How a network is trained.

    lr_drop_at: the share of the epochs after which the learning rate is multiplied by ``lr_drop_factor``; 1 for never.
    margin, weight: of the ranking loss. detach_at: the share of the epochs after which the module's gradient no longer
    reaches the network; 1 for never.
    """

    epochs: int
    lr_drop_at: float
    lr_drop_factor: float
    margin: float
    weight: float
    detach_at: float


def train(
    network: nn.Module,
    module: nn.Module | None,
    optimizer: Optimizer,
    batches: TrainingBatches,
    normalise: Callable[[Tensor], Tensor],
    recipe: Recipe,
    epoch_seed: Callable[[int], int],
    on_epoch: Callable[[Epoch], None],
    checkpoint: Checkpoint | None = None,
    *,
    is_compiled: bool = False,
) -> Spent:
    """Train in place; the weights after the last epoch are the result.

    Args:
        module: the loss prediction module, or None to train the network alone.
        optimizer: over the parameters of both.
        epoch_seed: epoch (from 0) to the seed of its batches.
        on_epoch: called after each epoch.
        checkpoint: where to go on from, and to save the state; None to do neither.
        is_compiled: compile the losses and their gradient for whole batches. A smaller last batch runs
            without: each cycle's has another size, and would be compiled anew.

    Raises:
        Diverged: the loss of an epoch is NaN or infinite.
        Interrupted: a signal asked to stop; the state is in the checkpoint.
    """
    device = batches.labels.device
    parts: dict[str, nn.Module | Optimizer] = {"network": network, "optimizer": optimizer}
    if module is not None:
        parts["module"] = module
    objective = _objective(network, module, normalise, recipe)
    whole_batch = objective
    if is_compiled:
        # On CUDA also recorded as a graph: a batch is hundreds of kernels, each shorter than its launch.
        mode = "reduce-overhead" if device.type == "cuda" else None
        whole_batch = torch.compile(objective, dynamic=False, mode=mode)

    drop, detachment = epoch_of(recipe.lr_drop_at, recipe.epochs), epoch_of(recipe.detach_at, recipe.epochs)
    nothing = torch.zeros((), device=device)
    at, before = _restore(parts, checkpoint, device) or (_Position(0, 0, nothing, nothing), Spent(0.0, 0.0))
    begun = perf_counter()
    compiling = 0.0

    def spent() -> Spent:
        return Spent(before.training + perf_counter() - begun, before.compiling + compiling)

    network.train()
    while at.epoch < recipe.epochs:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * (recipe.lr_drop_factor if at.epoch >= drop else 1)
        gate = torch.tensor(float(at.epoch < detachment), device=device)
        for images, labels in islice(batches.epoch(epoch_seed(at.epoch)), at.batch, None):
            started = perf_counter()
            is_whole = len(labels) == batches.batch_size
            optimizer.zero_grad()
            loss, correct = (whole_batch if is_whole else objective)(images, labels, gate)
            loss.backward()
            if is_compiled and is_whole and not compiling:
                compiling = perf_counter() - started
            optimizer.step()
            # Summed where the images lie and read once an epoch: no wait for the device in between.
            at = at.after_batch(loss.detach() * len(labels), correct)
            if checkpoint is not None:
                checkpoint.offer(lambda: _state(parts, at, spent()), is_epoch_done=False)  # noqa: B023 (called at once)
        count = len(batches.labels)
        done = Epoch(at.epoch + 1, at.loss_sum.item() / count, at.correct_sum.item() / count)
        if not torch.isfinite(at.loss_sum):
            raise Diverged(f"the loss is {done.loss} in epoch {done.number}")
        on_epoch(done)
        at = _Position(at.epoch + 1, 0, nothing, nothing)
        if checkpoint is not None:
            checkpoint.offer(lambda: _state(parts, at, spent()), is_epoch_done=True)  # noqa: B023 (called at once)
    if checkpoint is not None:
        # Whatever it costs: scoring the pool comes next, and is not checkpointed.
        checkpoint.save(_state(parts, at, spent()))
    return spent()


class _Position(NamedTuple):
    """Where training is: epochs that are done, batches of the next one, and sums over its images so far."""

    epoch: int
    batch: int
    loss_sum: Tensor
    correct_sum: Tensor

    def after_batch(self, loss: Tensor, correct: Tensor) -> "_Position":
        return _Position(self.epoch, self.batch + 1, self.loss_sum + loss, self.correct_sum + correct)


def _objective(
    network: nn.Module,
    module: nn.Module | None,
    normalise: Callable[[Tensor], Tensor],
    recipe: Recipe,
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The function of a batch that training descends: its loss, and how many of its images are classified correctly."""

    def objective(images: Tensor, labels: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = network(normalise(images))
        losses = F.cross_entropy(logits, labels, reduction="none")
        loss = losses.mean()
        if module is not None:
            predicted = module(features, gate)
            loss = loss + recipe.weight * ranking_loss(predicted, losses, recipe.margin)
        return loss, (logits.detach().argmax(dim=1) == labels).sum()

    return objective


def _state(parts: dict[str, nn.Module | Optimizer], at: _Position, spent: Spent) -> dict:
    """All that training needs to go on from a position; random numbers are drawn anew from each epoch's seed."""
    return {"position": tuple(at), "spent": tuple(spent), **{name: part.state_dict() for name, part in parts.items()}}


def _restore(
    parts: dict[str, nn.Module | Optimizer], checkpoint: Checkpoint | None, device: torch.device
) -> tuple[_Position, Spent] | None:
    """Load the parts in place from the checkpoint; None where there is none."""
    kept = checkpoint.load() if checkpoint is not None else None
    if kept is None:
        return None
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    epoch, batch, *sums = kept["position"]
    at = _Position(epoch, batch, *(total.to(device) for total in sums))
    print(f"going on from the checkpoint: {at.epoch} epochs and {at.batch} batches are done", flush=True)
    return at, Spent(*kept["spent"])
