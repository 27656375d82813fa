"""Train a network and its loss prediction module on the labelled set."""

from collections.abc import Callable
from itertools import islice
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.errors import Diverged
from lab.model.loss_prediction import ranking_loss
from lab.training.batches import TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.optimizers import Phase
from lab.training.schedule import factor_at

# Of what is trained: each has a state.
Part = nn.Module | torch.optim.Optimizer


class Epoch(NamedTuple):
    """number: from 1; loss: mean over images, of network and module together; accuracy: 0 … 1, on the crops.

    learning_rate: of its last update.
    """

    number: int
    loss: float
    accuracy: float
    learning_rate: float


class Trained(NamedTuple):
    """What training took and reached.

    seconds: those before a checkpoint included; compiling: of the first compiled batch among them. epochs: all that are
    done, those before a checkpoint too.
    """

    seconds: float
    compiling: float
    epochs: list[Epoch]


class Recipe(NamedTuple):
    """How a network is trained.

    schedule: of the learning rate, as ``lab.training.schedule`` has it. margin, weight: of the ranking loss.
    detach_at: the share of training after which the module's gradient no longer reaches the network; 1 for never.
    """

    epochs: int
    schedule: dict
    margin: float
    weight: float
    detach_at: float


def train(
    network: nn.Module,
    module: nn.Module | None,
    phases: list[Phase],
    batches: TrainingBatches,
    normalise: Callable[[Tensor], Tensor],
    recipe: Recipe,
    epoch_seed: Callable[[int], int],
    on_epoch: Callable[[Epoch], None],
    checkpoint: Checkpoint | None = None,
    *,
    is_compiled: bool = False,
) -> Trained:
    """Train in place; the weights after the last epoch are the result.

    Args:
        module: the loss prediction module, or None to train the network alone.
        phases: optimizers over the parameters of both, each until a share of training.
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
    parts: dict[str, Part] = {"network": network}
    parts |= {f"optimizer {number}": phase.optimizer for number, phase in enumerate(phases)}
    if module is not None:
        parts["module"] = module
    objective = _objective(network, module, normalise, recipe)
    whole_batch = objective
    if is_compiled:
        # On CUDA also recorded as a graph: a batch is hundreds of kernels, each shorter than its launch.
        mode = "reduce-overhead" if device.type == "cuda" else None
        whole_batch = torch.compile(objective, dynamic=False, mode=mode)

    updates = recipe.epochs * len(batches)
    attached, detached = torch.ones((), device=device), torch.zeros((), device=device)
    nothing = torch.zeros((), device=device)
    at, before = _restore(parts, checkpoint, device) or (_Position(0, 0, nothing, nothing), Trained(0.0, 0.0, []))
    begun = perf_counter()
    compiling, epochs = 0.0, before.epochs

    def optimizer_at(done: float) -> tuple[torch.optim.Optimizer, float]:
        """The optimizer after a share of the updates, and its learning rate there."""
        optimizer = next(phase.optimizer for phase in phases if done < phase.until)
        return optimizer, optimizer.defaults["lr"] * factor_at(recipe.schedule, done)

    def trained() -> Trained:
        return Trained(before.seconds + perf_counter() - begun, before.compiling + compiling, epochs)

    network.train()
    while at.epoch < recipe.epochs:
        for images, labels in islice(batches.epoch(epoch_seed(at.epoch)), at.batch, None):
            started = perf_counter()
            is_whole = len(labels) == batches.batch_size
            done = (at.epoch * len(batches) + at.batch + 0.5) / updates
            optimizer, rate = optimizer_at(done)
            for group in optimizer.param_groups:
                group["lr"] = rate
            gate = attached if done < recipe.detach_at else detached
            optimizer.zero_grad()
            loss, correct = (whole_batch if is_whole else objective)(images, labels, gate)
            loss.backward()
            if is_compiled and is_whole and not compiling:
                compiling = perf_counter() - started
            optimizer.step()
            # Summed where the images lie and read once an epoch: no wait for the device in between.
            at = at.after_batch(loss.detach() * len(labels), correct)
            if checkpoint is not None:
                checkpoint.offer(lambda: _state(parts, at, trained()), is_epoch_done=False)  # noqa: B023 (called at once)
        count = len(batches.labels)
        _, rate = optimizer_at(((at.epoch + 1) * len(batches) - 0.5) / updates)
        epoch = Epoch(at.epoch + 1, at.loss_sum.item() / count, at.correct_sum.item() / count, rate)
        if not torch.isfinite(at.loss_sum):
            raise Diverged(f"the loss is {epoch.loss} in epoch {epoch.number}")
        on_epoch(epoch)
        epochs.append(epoch)
        at = _Position(at.epoch + 1, 0, nothing, nothing)
        if checkpoint is not None:
            checkpoint.offer(lambda: _state(parts, at, trained()), is_epoch_done=True)  # noqa: B023 (called at once)
    if checkpoint is not None:
        # Whatever it costs: scoring the pool comes next, and is not checkpointed.
        checkpoint.save(_state(parts, at, trained()))
    return trained()


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


def _state(parts: dict[str, Part], at: _Position, trained: Trained) -> dict:
    """All that training needs to go on from a position; random numbers are drawn anew from each epoch's seed."""
    return {
        "position": tuple(at),
        "trained": (trained.seconds, trained.compiling, [tuple(epoch) for epoch in trained.epochs]),
        **{name: part.state_dict() for name, part in parts.items()},
    }


def _restore(
    parts: dict[str, Part], checkpoint: Checkpoint | None, device: torch.device
) -> tuple[_Position, Trained] | None:
    """Load the parts in place from the checkpoint; None where there is none."""
    kept = checkpoint.load() if checkpoint is not None else None
    if kept is None:
        return None
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    epoch, batch, *sums = kept["position"]
    at = _Position(epoch, batch, *(total.to(device) for total in sums))
    print(f"going on from the checkpoint: {at.epoch} epochs and {at.batch} batches are done", flush=True)
    seconds, compiling, epochs = kept["trained"]
    return at, Trained(seconds, compiling, [Epoch(*epoch) for epoch in epochs])
