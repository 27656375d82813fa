"""What each way to be faster gains, as images a second with it over those without: python -m bench.tricks

Both sides are ours, in turns as in bench.speed; the one does without.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench import baseline, machine, ours, speed
from lab.data import prepared
from lab.model.convolution import Convolution
from lab.process import ending
from lab.training import device as devices
from lab.training import learner, optimizers
from lab.training.batches import Normaliser


def _from_loader() -> None:
    raw, arrays = machine.cifar()
    indices = list(range(speed.LABELS))
    images = baseline.images(raw, indices, prepared.read_statistics(arrays), is_training=True)

    def epoch(batches: ours.TrainingBatches, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(DataLoader(images, batches.batch_size, shuffle=True))

    def normalised(normaliser: Normaliser, batch: Tensor) -> Tensor:
        return batch.contiguous(memory_format=torch.channels_last)

    patch.object(ours.TrainingBatches, "epoch", epoch).start()
    patch.object(Normaliser, "__call__", normalised).start()


def _contiguous() -> None:
    network, normalised = learner.build, Normaliser.__call__

    def build(shape: learner.Shape, statistics: prepared.Statistics, device: torch.device) -> learner.Learner:
        model = network(shape, statistics, device)
        return model._replace(network=model.network.to(memory_format=torch.contiguous_format))

    patch.object(learner, "build", build).start()
    patch.object(Normaliser, "__call__", lambda normaliser, batch: normalised(normaliser, batch).contiguous()).start()


def _unfused() -> None:
    fused = optimizers.build

    def build(block: dict, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        optimizer = fused(block, parameters)
        for group in optimizer.param_groups:
            group["fused"] = False
        return optimizer

    patch.object(optimizers, "build", build).start()


def _by_convolution() -> None:
    patch.object(Convolution, "_pays_as_matmul", lambda convolution, images: False).start()


def _unfolded() -> None:
    patch.object(learner.Learner, "for_scoring", lambda model: model).start()


# The paper's width as fast as it goes, and a small network as in studies on a CPU.
RUNS = [(64, "bfloat16"), (16, "float32")]
# What is measured: name, task, and how to do without it; None where the job itself says so.
TRICKS: list[tuple[str, str, Callable[[], None] | None]] = [
    ("images in memory, one gather for crop and flip", "training", _from_loader),
    ("channels-last tensors", "training", _contiguous),
    ("an optimizer's step in one pass", "training", _unfused),
    ("compiled training", "training", None),
    ("3×3 convolutions of 4×4 pixels as one product", "training", _by_convolution),
    ("batch norms folded into convolutions", "scoring", _unfolded),
]


def work(pipe: Connection, do_without: Callable[[], None] | None, job: speed.Job) -> None:
    """Our side, without one of the tricks."""
    if do_without:
        do_without()
    speed.work(pipe, True, job)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet18")
    options = parser.parse_args()

    machine.cifar()
    device = devices.choose()
    is_compiled = devices.can_compile(device)
    columns = {}
    for width, wanted in RUNS:
        precision = devices.precision_of(wanted, device)
        name = f"width {width}, {devices.name_of(precision, device)}"
        job = speed.Job("", options.arch, width, precision, is_compiled)
        columns[name] = [_gain(job._replace(task=task), do_without) for _, task, do_without in TRICKS]
        print(name, columns[name], flush=True)
    machine.publish(
        "tricks",
        "What each way to be faster gains",
        pd.DataFrame({"with it": [name for name, _, _ in TRICKS], "task": [task for _, task, _ in TRICKS], **columns}),
        [
            f"{machine.heading(device)}; {options.arch}, batches of {speed.BATCH_SIZE}.",
            f"Images a second with it over those without it, all else as it is: median of {speed.TURNS} neighbouring "
            "turns, and range.",
        ],
    )


def _gain(job: speed.Job, do_without: Callable[[], None] | None) -> str:
    other = job if do_without else job._replace(is_compiled=False)
    row = speed.compare(job, speed.TURNS, speed.SECONDS, partial(work, do_without=do_without, job=other))
    return f"**{row['ratio']:.2f}** [{row['lowest']:.2f}–{row['highest']:.2f}]"


if __name__ == "__main__":
    ending.run(main)
