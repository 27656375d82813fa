"""A network with its loss prediction module: built, trained and asked for predictions in one place."""

from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab import choices
from lab.data.dataset import Split
from lab.data.pixels import SMALL
from lab.data.prepared import Rows, Statistics
from lab.model.loss_prediction import LossPrediction
from lab.model.resnet import ResNet, folded
from lab.training import optimizers
from lab.training.batches import Normaliser, TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.prediction import Output, Predictions, predict
from lab.training.train import Epoch, Recipe, Trained, train

Network = TypeVar("Network", bound=nn.Module)


class Shape(NamedTuple):
    """What a learner is built from, whatever its weights.

    arch: a file of ``lab/model/architectures``. width: channels of the first stage. hidden: units of the module's
    layers; None for no module. precision: of the convolutions.
    """

    arch: str
    width: int
    hidden: int | None
    precision: torch.dtype = torch.float32


class Learner(NamedTuple):
    """network, module (or None) and how images reach them; all on ``device``."""

    network: ResNet
    module: LossPrediction | None
    normalise: Normaliser
    device: torch.device
    shape: Shape

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
    ) -> Trained:
        """Train network and module in place, as ``train`` does. optimizer: a block of ``optimizers`` in params.yaml."""
        parameters = [*self.network.parameters(), *(self.module.parameters() if self.module else ())]
        return train(
            self.network,
            self.module,
            optimizers.phases_of(optimizer, len(batches.labels), parameters),
            batches,
            self.normalise,
            recipe,
            epoch_seed,
            on_epoch,
            checkpoint,
            is_compiled=is_compiled,
        )

    def batches(self, split: Split, batch_size: int, padding: int, flip: bool) -> TrainingBatches:
        """The training batches of images and labels, on this device; changed as the data set allows."""
        images, statistics = split.images, self.normalise.statistics
        return TrainingBatches(
            images if isinstance(images, Rows) else torch.from_numpy(images).to(self.device),
            torch.from_numpy(split.labels).to(self.device),
            batch_size,
            padding,
            flip and statistics.augmentation.flip,
            statistics.augmentation.smallest_crop,
            statistics.pixels,
        )

    def predict(
        self,
        images: NDArray[np.uint8],
        indices: NDArray[np.int64],
        on_batch: Callable[[int], None],
        outputs: Collection[Output] = ("logits", "predicted_loss"),
    ) -> Predictions:
        """Predict for images[indices], as ``lab.training.prediction.predict`` does."""
        return predict(self.network, self.module, images, indices, self.normalise, self.device, on_batch, outputs)

    def last_layer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight (classes, features) and bias (classes,), which make logits of embeddings."""
        weight, bias = (tensor.detach().cpu().numpy() for tensor in (self.network.fc.weight, self.network.fc.bias))
        return weight, bias

    def state(self) -> dict[str, Tensor]:
        """Copies of all weights and running statistics, by name; on the CPU."""
        return {
            f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
            for part, module in self._parts().items()
            for name, tensor in module.state_dict().items()
        }

    def load(self, state: dict[str, Tensor], shrink: float = 1.0, noise: float = 0.0, seed: int = 0) -> None:
        """Take over a state of ``state``: as it is, or shrunk and perturbed (Ash and Adams, 2020, section 4).

        Args:
            shrink: what all trained parameters are multiplied by; running statistics are taken as they are.
            noise: the standard deviation of the Gaussian noise that is added to them.
            seed: of the noise.
        """
        draw = torch.Generator().manual_seed(seed)
        for part, module in self._parts().items():
            trained = {name for name, _ in module.named_parameters()}
            module.load_state_dict(
                {
                    name: shrink * value + noise * torch.randn(value.shape, generator=draw)
                    if name in trained
                    else value
                    for name, value in ((name, state[f"{part}.{name}"]) for name in module.state_dict())
                }
            )

    def _parts(self) -> dict[str, nn.Module]:
        return {"network": self.network} | ({"module": self.module} if self.module else {})

    def for_scoring(self) -> "Learner":
        """A copy that predicts faster: batch norms are folded into the convolutions before them."""
        return self._replace(network=folded(self.network))


def build(
    shape: Shape, statistics: Statistics, device: torch.device, *, seed: int = 0, module_seed: int = 0
) -> Learner:
    """A freshly initialised learner; the same seeds give the same weights.

    Args:
        seed, module_seed: of the initial weights. Apart, so that the network is the same without a module.
    """
    architecture = choices.load("model/architectures", shape.arch)
    is_large = (statistics.pixels or 0) > SMALL
    network: ResNet = _seeded(
        seed, lambda: architecture.build(len(statistics.classes), shape.width, shape.precision, is_large)
    )
    module, hidden = None, shape.hidden
    if hidden is not None:
        module = _seeded(module_seed, lambda: LossPrediction(network.stage_channels, hidden)).to(device)
    # Channels last: the images lie so already, and convolutions are faster on them.
    network = network.to(memory_format=torch.channels_last).to(device)
    return Learner(network, module, Normaliser(statistics, device), device, shape)


def _seeded(seed: int, make: Callable[[], Network]) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()
