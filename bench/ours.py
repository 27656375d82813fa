"""Our side of the benchmarks: the training of a cycle, called as ``bench.baseline`` is."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

from bench import baseline
from lab.data.dataset import Split
from lab.model import loss_prediction, resnet
from lab.training import optimizers
from lab.training import train as training
from lab.training.batches import Normaliser, TrainingBatches

SGD = SimpleNamespace(lr=baseline.LR, momentum=0.9, nesterov=True, weight_decay=5e-4)


def networks(
    arch: str, width: int, seed: int, precision: torch.dtype, device: torch.device
) -> tuple[resnet.ResNet, loss_prediction.LossPrediction]:
    """The network and the loss prediction module of either side; the same seed gives the same weights."""
    network = resnet.build(arch, 10, width, seed, precision).to(device)
    return network, loss_prediction.build(network.stage_channels, 128, seed).to(device)


def train(
    network: resnet.ResNet,
    module: loss_prediction.LossPrediction,
    images: Split,
    normalise: Normaliser,
    schedule: baseline.Schedule,
    device: torch.device,
    on_batch: Callable[[int], None],
    seed: int = 0,
    is_compiled: bool = False,
) -> None:
    """As ``baseline.train``, by our loop. seed: of the batches."""
    batches = _Batches(
        torch.from_numpy(images.images).to(device),
        torch.from_numpy(images.labels).to(device),
        schedule.batch_size,
        padding=4,
        flip=True,
    )
    batches.on_batch = on_batch
    network.to(memory_format=torch.channels_last)
    training.train(
        network,
        module,
        optimizers.build("sgd", SGD, [*network.parameters(), *module.parameters()]),
        batches,
        normalise,
        SimpleNamespace(epochs=schedule.epochs, lr_drop_epoch=schedule.drop_epoch, lr_drop_factor=0.1),
        SimpleNamespace(margin=1.0, weight=1.0, detach_epoch=schedule.detach_epoch),
        lambda epoch: seed * schedule.epochs + epoch,
        on_epoch=lambda epoch: None,
        is_compiled=is_compiled,
    )


class _Batches(TrainingBatches):
    """Reports each batch once it is trained on."""

    on_batch: Callable[[int], None]

    def epoch(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in super().epoch(seed):
            yield images, labels
            self.on_batch(len(labels))
