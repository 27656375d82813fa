"""What each way to be faster gains, as images a second with it over those without: python -m bench.tricks

Both sides are ours, in turns as in bench.speed; the one does without.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import NamedTuple
from unittest.mock import patch

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench import baseline, machine, ours, speed
from lab.data import prepared
from lab.model.convolution import Convolution
from lab.process import ending, memory
from lab.training import device as devices
from lab.training import learner, optimizers
from lab.training.batches import Normaliser


def _from_loader() -> None:
    raw, arrays = machine.cifar()
    indices = list(range(speed.LABELS))
    images = baseline.images(raw, indices, prepared.read_statistics(arrays), is_training=True)

    def epoch(batches: ours.TrainingBatches, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        device = batches.labels.device
        for batch, labels in DataLoader(images, batches.batch_size, shuffle=True):
            yield batch.to(device, memory_format=torch.channels_last), labels.to(device)

    patch.object(ours.TrainingBatches, "epoch", epoch).start()
    patch.object(Normaliser, "__call__", lambda normaliser, batch: batch).start()


def _given_back() -> None:
    patch.object(memory, "keep_freed", lambda: None).start()


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
            group["fused"] = None
        return optimizer

    patch.object(optimizers, "build", build).start()


def _by_convolution() -> None:
    patch.object(Convolution, "_pays_as_matmul", lambda convolution, images: False).start()


def _unfolded() -> None:
    patch.object(learner.Learner, "for_scoring", lambda model: model).start()


class Trick(NamedTuple):
    """A way to be faster.

    Args:
        name, task: what a row of the table says.
        do_without: switches it off in our side; None where the job itself does.
        is_compiled: whether both sides are compiled, where training can be.
        applies: whether it does anything in a precision on a kind of device.
    """

    name: str
    task: str
    do_without: Callable[[], None] | None
    is_compiled: bool = True
    applies: Callable[[torch.dtype, str], bool] = lambda precision, kind: True


TRICKS = [
    Trick("crop, flip and batch in one gather", "training", _from_loader),
    Trick("freed memory kept for the next batch", "training", _given_back),
    # A compiler chooses the layout of convolutions itself.
    Trick("channels-last tensors, uncompiled", "training", _contiguous, is_compiled=False),
    Trick("an optimizer's step in one pass", "training", _unfused),
    Trick("compiled training", "training", None),
    Trick(
        "3×3 convolutions of 4×4 pixels as one product",
        "training",
        _by_convolution,
        applies=lambda precision, kind: precision == torch.bfloat16 and kind == "cpu",
    ),
    Trick(
        "batch norms folded, bfloat16 throughout",
        "scoring",
        _unfolded,
        applies=lambda precision, kind: precision == torch.bfloat16,
    ),
    Trick("batch norms folded", "scoring", _unfolded, applies=lambda precision, kind: precision == torch.float32),
]
ARCH = "resnet18"
# The paper's width as fast as it goes, and a small network as in studies on a CPU.
RUNS = [(64, "bfloat16"), (16, "float32")]
SECONDS = 3  # of the side without it, a turn


def work(pipe: Connection, do_without: Callable[[], None] | None, job: speed.Job) -> None:
    """Our side, without one of the tricks."""
    if do_without:
        do_without()
    speed.work(pipe, True, job)


def main() -> None:
    ArgumentParser(description=__doc__).parse_args()
    machine.cifar()
    device = devices.choose()
    is_compiled = devices.can_compile(device)
    columns = {}
    for width, wanted in RUNS:
        precision = devices.precision_of(wanted, device)
        name = f"width {width}, {devices.name_of(precision, device)}"
        job = speed.Job("", ARCH, width, precision, is_compiled)
        columns[name] = [gain(trick, job, device) for trick in TRICKS]
        print(name, columns[name], flush=True)
    machine.publish(
        "tricks",
        "What each way to be faster gains",
        pd.DataFrame({"trick": [trick.name for trick in TRICKS], "task": [trick.task for trick in TRICKS], **columns}),
        [
            f"{machine.heading(device)}; {ARCH}, batches of {speed.BATCH_SIZE}.",
            f"Images a second with it over those without it, all else as it is: median of {speed.TURNS} neighbouring "
            f"turns of about {SECONDS} seconds, and range. – where it does nothing.",
        ],
    )


def gain(trick: Trick, job: speed.Job, device: torch.device) -> str:
    """A cell of the table: what the trick gains where the job runs, or a dash where it does nothing there."""
    ours = job._replace(task=trick.task, is_compiled=job.is_compiled and trick.is_compiled)
    others = ours if trick.do_without else ours._replace(is_compiled=False)
    does_nothing = ours == others and not trick.do_without
    if does_nothing or not trick.applies(job.precision, device.type):
        return "–"
    row = speed.compare(ours, speed.TURNS, SECONDS, partial(work, do_without=trick.do_without, job=others))
    return f"**{row['ratio']:.2f}** [{row['lowest']:.2f}–{row['highest']:.2f}]"


if __name__ == "__main__":
    ending.run(main)
