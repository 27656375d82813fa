"""A network with its loss prediction module: built, trained and asked for predictions in one place."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lab import choices
from lab.data.dataset import Split
from lab.data.prepared import Statistics
from lab.model.loss_prediction import LossPrediction
from lab.model.resnet import ResNet, folded
from lab.training import optimizers
from lab.training.batches import Normaliser, TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.prediction import Predictions, predict
from lab.training.train import Epoch, Recipe, Spent, train

Network = TypeVar("Network", bound=nn.Module)


class Learner(NamedTuple):
    """network, module (or None) and how images reach them; all on ``device``."""

    network: ResNet
    module: LossPrediction | None
    normalise: Normaliser
    device: torch.device

    def fit(
        self,
        batches: TrainingBatches,
        optimizer: dict,
        recipe: Recipe,
        epoch_seed: Callable[[int], int],
        on_epoch: Callable[[Epoch], None],
        checkpoint: Checkpoint | None = None,
        *,
        is_compiled: bool = False,
    ) -> Spent:
        """Train network and module in place, as ``train`` does. optimizer: a block of ``optimizers`` in params.yaml."""
        parameters = [*self.network.parameters(), *(self.module.parameters() if self.module else ())]
        return train(
            self.network,
            self.module,
            optimizers.build(optimizer, parameters),
            batches,
            self.normalise,
            recipe,
            epoch_seed,
            on_epoch,
            checkpoint,
            is_compiled=is_compiled,
        )

    def batches(self, split: Split, batch_size: int, padding: int, flip: bool) -> TrainingBatches:
        """The training batches of images and labels, on this device."""
        images, labels = (torch.from_numpy(array).to(self.device) for array in split)
        return TrainingBatches(images, labels, batch_size, padding, flip)

    def predict(
        self, images: NDArray[np.uint8], indices: NDArray[np.int64], on_batch: Callable[[int], None]
    ) -> Predictions:
        """Predict for images[indices], as ``lab.training.prediction.predict`` does."""
        return predict(self.network, self.module, images, indices, self.normalise, self.device, on_batch)

    def for_scoring(self) -> "Learner":
        """A copy that predicts faster: batch norms are folded into the convolutions before them."""
        return self._replace(network=folded(self.network))


def build(
    arch: str,
    width: int,
    hidden: int | None,
    statistics: Statistics,
    device: torch.device,
    *,
    seed: int = 0,
    module_seed: int = 0,
    precision: torch.dtype = torch.float32,
) -> Learner:
    """A freshly initialised learner; the same seeds give the same weights.

    Args:
        arch: a file of ``lab/model/architectures``.
        width: channels of the first stage.
        hidden: units of the module's layers; None for no module.
        seed, module_seed: of the initial weights. Apart, so that the network is the same without a module.
        precision: of the convolutions.
    """
    architecture = choices.load("model/architectures", arch)
    network: ResNet = _seeded(seed, lambda: architecture.build(len(statistics.classes), width, precision))
    module = None
    if hidden is not None:
        module = _seeded(module_seed, lambda: LossPrediction(network.stage_channels, hidden)).to(device)
    # Channels last: the images lie so already, and convolutions are faster on them.
    network = network.to(memory_format=torch.channels_last).to(device)
    return Learner(network, module, Normaliser(statistics, device), device)


def recipe_of(training: SimpleNamespace, loss_prediction: SimpleNamespace) -> Recipe:
    """The recipe of two blocks of a protocol."""
    return Recipe(
        training.epochs,
        training.lr_drop_at,
        training.lr_drop_factor,
        loss_prediction.margin,
        loss_prediction.weight,
        loss_prediction.detach_at,
    )


def _seeded(seed: int, make: Callable[[], Network]) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
