"""Train a network and its loss prediction module on the labelled set."""

from collections.abc import Callable
from time import perf_counter
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from stages.model.loss_prediction import ranking_loss
from stages.training.batches import TrainingBatches


class Epoch(NamedTuple):
    """number: from 1; loss: mean over images, of network and module together; accuracy: 0 … 1, on the crops."""

    number: int
    loss: float
    accuracy: float


class Diverged(Exception):
    """Something is no longer a finite number; the message says what, and in which epoch."""


def train(
    network: nn.Module,
    module: nn.Module | None,
    optimizer: Optimizer,
    batches: TrainingBatches,
    normalise: Callable[[Tensor], Tensor],
    training: SimpleNamespace,
    loss_prediction: SimpleNamespace,
    epoch_seed: Callable[[int], int],
    on_epoch: Callable[[Epoch], None],
    is_compiled: bool = False,
) -> float:
    """Train in place; the weights after the last epoch are the result.

    Args:
        module: the loss prediction module, or None to train the network alone.
        optimizer: over the parameters of both.
        training: epochs, lr_drop_epoch and lr_drop_factor.
        loss_prediction: margin, weight and detach_epoch.
        epoch_seed: epoch (from 0) to the seed of its batches.
        on_epoch: called after each epoch.
        is_compiled: compile the losses and their gradient for whole batches. A smaller last batch runs
            without: each cycle's has another size, and would be compiled anew.

    Returns:
        The seconds that the first compiled batch took, compilation for the most part; 0 without.

    Raises:
        Diverged: the loss of an epoch is NaN or infinite.
    """
    schedule = MultiStepLR(optimizer, [training.lr_drop_epoch], training.lr_drop_factor)
    network.train()
    device = batches.labels.device

    def objective(images: Tensor, labels: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and how many of its images are classified correctly."""
        logits, features = network(normalise(images))
        losses = F.cross_entropy(logits, labels, reduction="none")
        loss = losses.mean()
        if module is not None:
            predicted = module(features, gate)
            loss = loss + loss_prediction.weight * ranking_loss(predicted, losses, loss_prediction.margin)
        return loss, (logits.detach().argmax(dim=1) == labels).sum()

    whole_batch = objective
    compile_seconds = 0.0
    if is_compiled:
        # On CUDA also recorded as a graph: a batch is hundreds of kernels, each shorter than its launch.
        mode = "reduce-overhead" if device.type == "cuda" else None
        whole_batch = torch.compile(objective, dynamic=False, mode=mode)

    for epoch in range(training.epochs):
        # Summed where the images lie and read once an epoch: no wait for the device in between.
        loss_sum = correct_sum = torch.zeros((), device=device)
        gate = torch.tensor(float(epoch < loss_prediction.detach_epoch), device=device)
        for images, labels in batches.epoch(epoch_seed(epoch)):
            started = perf_counter()
            is_whole = len(labels) == batches.batch_size
            loss, correct = (whole_batch if is_whole else objective)(images, labels, gate)
            optimizer.zero_grad()
            loss.backward()
            if is_compiled and is_whole and not compile_seconds:
                compile_seconds = perf_counter() - started
            optimizer.step()
            loss_sum = loss_sum + loss.detach() * len(labels)
            correct_sum = correct_sum + correct
        schedule.step()
        count = len(batches.labels)
        done = Epoch(epoch + 1, loss_sum.item() / count, correct_sum.item() / count)
        if not torch.isfinite(loss_sum):
            raise Diverged(f"the loss is {done.loss} in epoch {done.number}")
        on_epoch(done)
    return compile_seconds
