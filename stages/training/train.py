"""Train a network and its loss prediction module on the labelled set."""

from collections.abc import Callable
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
) -> None:
    """Train in place; the weights after the last epoch are the result.

    Args:
        module: the loss prediction module, or None to train the network alone.
        optimizer: over the parameters of both.
        training: epochs, lr_drop_epoch and lr_drop_factor.
        loss_prediction: margin, weight and detach_epoch.
        epoch_seed: epoch (from 0) to the seed of its batches.
        on_epoch: called after each epoch.

    Raises:
        Diverged: the loss of an epoch is NaN or infinite.
    """
    schedule = MultiStepLR(optimizer, [training.lr_drop_epoch], training.lr_drop_factor)
    network.train()
    for epoch in range(training.epochs):
        # Summed where the images lie and read once an epoch: no wait for the device in between.
        loss_sum = correct = torch.zeros((), device=batches.labels.device)
        for images, labels in batches.epoch(epoch_seed(epoch)):
            logits, features = network(normalise(images))
            losses = F.cross_entropy(logits, labels, reduction="none")
            loss = losses.mean()
            if module is not None:
                if epoch >= loss_prediction.detach_epoch:
                    features = [feature.detach() for feature in features]
                loss = loss + loss_prediction.weight * ranking_loss(module(features), losses, loss_prediction.margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum = loss_sum + loss.detach() * len(labels)
            correct = correct + (logits.detach().argmax(dim=1) == labels).sum()
        schedule.step()
        count = len(batches.labels)
        done = Epoch(epoch + 1, loss_sum.item() / count, correct.item() / count)
        if not torch.isfinite(loss_sum):
            raise Diverged(f"the loss is {done.loss} in epoch {done.number}")
        on_epoch(done)
