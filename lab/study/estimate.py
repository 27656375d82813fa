"""What a study will cost: image passes, and the time they take at the speed measured here."""

from functools import cache
from time import perf_counter
from typing import NamedTuple

import numpy as np

from lab import choices
from lab.data import stop_set
from lab.data.dataset import Split
from lab.data.prepared import Statistics
from lab.errors import BadInput
from lab.model.resnet import count_flops
from lab.process import extent
from lab.process.check import FILES
from lab.study.arms import Arm
from lab.training import device as devices
from lab.training import learner
from lab.training.schedule import epochs_of
from lab.training.train import Recipe

CLASSES = 10
# Images of a batch that is measured. Batches of 128 take four times as long, and their images differ by less than 20 %
# (ResNets of full width on one core of an EPYC).
MEASURED_BATCH = 32
HIDDEN = 128  # units of the module's layers


class Network(NamedTuple):
    """What the time of an image depends on."""

    arch: str
    width: int
    batch_size: int
    precision: str
    pixels: int  # of a side of the images


class Passes(NamedTuple):
    """Images that pass through the network: in training, forward and back; in evaluation and query, forward."""

    training: int
    forward: int


def passes_of(arm: Arm) -> list[Passes]:
    """The image passes of each cycle."""
    dataset, subset = _extent(arm), arm.protocol["query"]["pool_subset"]
    if dataset.training is None or dataset.test is None:
        raise BadInput(f"datasets.{arm.params['dataset']}.path: an estimate counts its images, and cannot read them")
    pool = dataset.training
    scores_pool = choices.load(FILES["strategy"], arm.params["strategy"]).PREDICTS_POOL
    judges = arm.params["validation"] or dataset.test
    stops = min(stop_set.SIZE, pool - arm.params["validation"])
    start = arm.params["initialisations"][arm.params["initialisation"]]
    training = arm.protocol["training"]

    def epochs(cycle: int, labels: int) -> int:
        if cycle and start["start"] == "previous":
            return start["epochs"]
        return epochs_of(training["epochs"], training["min_updates"], labels, training["batch_size"])

    return [
        Passes(
            labels * epochs(cycle, labels),
            judges + stops + (min(pool - labels, subset or pool) if scores_pool else 0),
        )
        for cycle, labels in enumerate(arm.labels)
    ]


def operations_of(arm: Arm) -> list[int]:
    """Floating-point operations of each cycle's training, evaluation and query; a step back costs two forward."""
    flops = _flops(arm.params["arch"], arm.protocol["width"], _pixels(arm))
    return [flops * (3 * passes.training + passes.forward) for passes in passes_of(arm)]


def network_of(arm: Arm) -> Network:
    """The network of an arm, of which arms that differ in other params have the same."""
    protocol = arm.protocol
    return Network(
        arm.params["arch"],
        protocol["width"],
        protocol["training"]["batch_size"],
        protocol["numerics"]["precision"],
        _pixels(arm),
    )


def seconds_of(arm: Arm) -> list[float]:
    """Seconds of each cycle at the speed of this machine, with the threads that PyTorch has now.

    Optimizers are taken to cost alike: a step is small beside the gradient. So is the loss prediction module.
    """
    speed = speed_of(network_of(arm))
    return [speed.training * passes.training + speed.forward * passes.forward for passes in passes_of(arm)]


def _pixels(arm: Arm) -> int:
    """Pixels of a side of the arm's images."""
    return _extent(arm).pixels


def _extent(arm: Arm) -> extent.Extent:
    return extent.of(arm.params["datasets"][arm.params["dataset"]])


class Speed(NamedTuple):
    """Seconds an image."""

    training: float
    forward: float


@cache
def _flops(arch: str, width: int, pixels: int) -> int:
    return count_flops(_learner(arch, width, "float32", pixels).network, pixels)


@cache
def speed_of(network: Network) -> Speed:
    """Train and predict on two small batches of noise, the first of which only warms up."""
    draw = np.random.default_rng(0)
    count = min(network.batch_size, MEASURED_BATCH)
    images = draw.integers(0, 256, (count, network.pixels, network.pixels, 3), dtype=np.uint8)
    model = _learner(network.arch, network.width, network.precision, network.pixels)
    ends = [perf_counter()]
    model.fit(
        model.batches(Split(images, np.zeros(count, np.int64)), count, 4, True),
        {"class": "Adam", "lr": 1e-3},
        Recipe(epochs=2, schedule={"shape": "constant"}, margin=1.0, weight=1.0, detach_at=1),
        lambda epoch: epoch,
        lambda epoch: ends.append(perf_counter()),
    )
    training = (ends[2] - ends[1]) / count
    scorer = model.for_scoring()
    seconds = []
    for _ in range(2):
        begun = perf_counter()
        scorer.predict(images, np.arange(count), lambda count: None)
        seconds.append((perf_counter() - begun) / count)
    return Speed(training, seconds[-1])


def _learner(arch: str, width: int, precision: str, pixels: int) -> learner.Learner:
    device = devices.choose()
    statistics = Statistics(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), [""] * CLASSES, pixels)
    shape = learner.Shape(arch, width, HIDDEN, devices.precision_of(precision, device))
    return learner.build(shape, statistics, device)
