"""What a study will cost: image passes, and the time they take at the speed measured here."""

from functools import cache
from time import perf_counter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from lab.data.prepared import Statistics
from lab.model import loss_prediction, resnet
from lab.process.check import POOL_SIZES
from lab.query.strategies import STRATEGIES
from lab.study.plan import Arm
from lab.training import device as devices
from lab.training import optimizers
from lab.training.batches import Normaliser, TrainingBatches
from lab.training.prediction import BATCH_SIZE, predict
from lab.training.train import train

TEST_SIZES = {"cifar10": 10_000, "digits": 500}
CLASSES = 10


class Passes(NamedTuple):
    """Images that pass through the network: in training, forward and back; in evaluation and query, forward."""

    training: int
    forward: int


def labels_of(arm: Arm) -> list[int]:
    """Labelled images of each cycle."""
    protocol = _protocol(arm)
    return [
        protocol["cold_start"] + number * protocol["query"]["labels"] for number in range(len(arm.params["cycles"]))
    ]


def passes_of(arm: Arm) -> list[Passes]:
    """The image passes of each cycle."""
    protocol = _protocol(arm)
    dataset = arm.params["datasets"][arm.params["protocol"]]
    found = []
    for labels in labels_of(arm):
        scored = 0
        if arm.params["strategy"] == "loss_prediction":
            scored = min(POOL_SIZES[dataset] - labels, protocol["query"]["pool_subset"] or POOL_SIZES[dataset])
        found.append(Passes(labels * protocol["training"]["epochs"], TEST_SIZES[dataset] + scored))
    return found


def operations_of(arm: Arm) -> list[int]:
    """Floating-point operations of each cycle's training, evaluation and query; a step back costs two forward."""
    flops = _flops(arm.params["arch"], _protocol(arm)["width"])
    return [flops * (3 * passes.training + passes.forward) for passes in passes_of(arm)]


def seconds_of(arm: Arm) -> list[float]:
    """Seconds of each cycle on this machine with the threads that PyTorch has now, as two batches tell.

    Optimizers are taken to cost alike: a step is small beside the gradient.
    """
    protocol = _protocol(arm)
    speed = _seconds_an_image(
        arm.params["arch"],
        STRATEGIES[arm.params["strategy"]].trains_module,
        protocol["width"],
        protocol["training"]["batch_size"],
        protocol["numerics"]["precision"],
    )
    return [speed.training * passes.training + speed.forward * passes.forward for passes in passes_of(arm)]


class _Speed(NamedTuple):
    """Seconds an image."""

    training: float
    forward: float


@cache
def _flops(arch: str, width: int) -> int:
    return resnet.count_flops(resnet.build(arch, CLASSES, width, 0), 32)


@cache
def _seconds_an_image(arch: str, trains_module: bool, width: int, batch_size: int, precision: str) -> _Speed:
    """Train and predict on two batches of noise, the first of which only warms up."""
    device = devices.choose()
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (BATCH_SIZE, 32, 32, 3), dtype=np.uint8)
    statistics = Statistics(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), [""] * CLASSES)
    normalise = Normaliser(statistics, device)
    network = resnet.build(arch, CLASSES, width, 0, devices.precision_of(precision, device)).to(
        device, memory_format=torch.channels_last
    )
    module = loss_prediction.build(network.stage_channels, 128, 0).to(device) if trains_module else None
    parameters = [*network.parameters(), *(module.parameters() if module else ())]
    batches = TrainingBatches(
        torch.zeros(batch_size, 32, 32, 3, dtype=torch.uint8, device=device),
        torch.zeros(batch_size, dtype=torch.int64, device=device),
        batch_size,
        4,
        True,
    )
    ends = [perf_counter()]
    train(
        network,
        module,
        optimizers.build("adam", SimpleNamespace(lr=1e-3), parameters),
        batches,
        normalise,
        SimpleNamespace(epochs=2, lr_drop_epoch=2, lr_drop_factor=1.0),
        SimpleNamespace(margin=1.0, weight=1.0, detach_epoch=2),
        lambda epoch: epoch,
        lambda epoch: ends.append(perf_counter()),
    )
    training = (ends[2] - ends[1]) / batch_size
    scorer = resnet.folded(network)
    seconds = []
    for _ in range(2):
        begun = perf_counter()
        predict(scorer, module, images, np.arange(BATCH_SIZE), normalise, device, lambda count: None)
        seconds.append((perf_counter() - begun) / BATCH_SIZE)
    return _Speed(training, seconds[-1])


def _protocol(arm: Arm) -> dict:
    return arm.params["protocols"][arm.params["protocol"]]
