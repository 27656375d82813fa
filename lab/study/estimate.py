"""What a study will cost: image passes, and the time they take at the speed measured here."""

from functools import cache
from time import perf_counter
from typing import NamedTuple

import numpy as np

from lab import choices
from lab.data.dataset import Split
from lab.data.prepared import Statistics
from lab.model.resnet import count_flops
from lab.process.check import FILES
from lab.study.plan import Arm
from lab.training import device as devices
from lab.training import learner
from lab.training.prediction import BATCH_SIZE
from lab.training.train import Recipe

CLASSES = 10


class Passes(NamedTuple):
    """Images that pass through the network: in training, forward and back; in evaluation and query, forward."""

    training: int
    forward: int


def passes_of(arm: Arm) -> list[Passes]:
    """The image passes of each cycle."""
    dataset = choices.load(FILES["dataset"], arm.params["dataset"])
    pool, subset = dataset.TRAINING_IMAGES, arm.protocol["query"]["pool_subset"]
    scores_pool = choices.load(FILES["strategy"], arm.params["strategy"]).PREDICTS_POOL
    return [
        Passes(
            labels * arm.protocol["training"]["epochs"],
            dataset.TEST_IMAGES + (min(pool - labels, subset or pool) if scores_pool else 0),
        )
        for labels in arm.labels
    ]


def operations_of(arm: Arm) -> list[int]:
    """Floating-point operations of each cycle's training, evaluation and query; a step back costs two forward."""
    flops = _flops(arm.params["arch"], arm.protocol["width"], _pixels(arm))
    return [flops * (3 * passes.training + passes.forward) for passes in passes_of(arm)]


def seconds_of(arm: Arm) -> list[float]:
    """Seconds of each cycle on this machine with the threads that PyTorch has now, as two batches tell.

    Optimizers are taken to cost alike: a step is small beside the gradient.
    """
    speed = _seconds_an_image(
        arm.params["arch"],
        choices.load(FILES["strategy"], arm.params["strategy"]).TRAINS_MODULE,
        arm.protocol["width"],
        arm.protocol["training"]["batch_size"],
        arm.protocol["numerics"]["precision"],
        _pixels(arm),
    )
    return [speed.training * passes.training + speed.forward * passes.forward for passes in passes_of(arm)]


def _pixels(arm: Arm) -> int:
    """Pixels of a side of the arm's images."""
    return choices.load(FILES["dataset"], arm.params["dataset"]).PIXELS


class _Speed(NamedTuple):
    """Seconds an image."""

    training: float
    forward: float


@cache
def _flops(arch: str, width: int, pixels: int) -> int:
    return count_flops(_learner(arch, False, width, "float32").network, pixels)


@cache
def _seconds_an_image(
    arch: str, trains_module: bool, width: int, batch_size: int, precision: str, pixels: int
) -> _Speed:
    """Train and predict on two batches of noise, the first of which only warms up."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (max(batch_size, BATCH_SIZE), pixels, pixels, 3), dtype=np.uint8)
    model = _learner(arch, trains_module, width, precision)
    split = Split(images[:batch_size], np.zeros(batch_size, np.int64))
    ends = [perf_counter()]
    model.fit(
        model.batches(split, batch_size, 4, True),
        {"class": "Adam", "lr": 1e-3},
        Recipe(epochs=2, lr_drop_at=1, lr_drop_factor=1.0, margin=1.0, weight=1.0, detach_at=1),
        lambda epoch: epoch,
        lambda epoch: ends.append(perf_counter()),
    )
    training = (ends[2] - ends[1]) / batch_size
    scorer = model.for_scoring()
    seconds = []
    for _ in range(2):
        begun = perf_counter()
        scorer.predict(images, np.arange(BATCH_SIZE), lambda count: None)
        seconds.append((perf_counter() - begun) / BATCH_SIZE)
    return _Speed(training, seconds[-1])


def _learner(arch: str, trains_module: bool, width: int, precision: str) -> learner.Learner:
    device = devices.choose()
    statistics = Statistics(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), [""] * CLASSES)
    hidden = 128 if trains_module else None
    return learner.build(arch, width, hidden, statistics, device, precision=devices.precision_of(precision, device))
