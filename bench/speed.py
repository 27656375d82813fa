"""Images a second of the usual loop and of ours, in turns: python -m bench.speed

Each of the two runs in a process of its own and works while the other waits: a chunk of batches of the
one, then of the other. A ratio is that of two neighbouring chunks.
"""

import os
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from bench import baseline, machine, ours
from lab import choices
from lab.data import prepared
from lab.data.dataset import Split
from lab.model.resnet import count_flops
from lab.process import ending, memory
from lab.process.check import FILES
from lab.training import device as devices
from lab.training import learner
from lab.training.prediction import BATCH_SIZE as SCORING_BATCH
from lab.training.train import Recipe

BATCH_SIZE = 128
LABELS = 1_024  # whole batches alone: a smaller one is not compiled
TURNS = 7  # of each side
SECONDS = 1  # of the usual loop, a turn; at least one batch
# Longer than any benchmark, and nothing of the schedule within it.
ENDLESS = Recipe(epochs=10**6, schedule={"shape": "constant"}, margin=1.0, weight=1.0, detach_at=1)
TASKS = ("training", "scoring")
PRECISIONS = ("float32", "bfloat16")


class Pace:
    """Lets a worker do so many batches, reports how long they took, and waits for the next order."""

    def __init__(self, pipe: Connection, device: torch.device) -> None:
        self.pipe, self.device = pipe, device
        self.left = self.images = 0

    def wait(self) -> None:
        self.left, self.images = self.pipe.recv(), 0
        self.started = perf_counter()

    def __call__(self, images: int) -> None:
        self.images += images
        self.left -= 1
        if self.left == 0:
            machine.synchronise(self.device)
            seconds = perf_counter() - self.started
            self.pipe.send((self.images, seconds, memory.peak_memory_mb()))
            self.wait()


class Job(NamedTuple):
    """What both sides do. precision, is_compiled: of our side's convolutions and training."""

    task: str
    arch: str
    width: int
    precision: torch.dtype
    is_compiled: bool

    @property
    def is_training(self) -> bool:
        return self.task == "training"


def work(pipe: Connection, is_ours: bool, job: Job) -> None:
    """A worker: train or score without end, at the pace that the pipe sets."""
    if is_ours:
        memory.keep_freed()
    device = devices.choose()
    pace = Pace(pipe, device)
    raw, arrays = machine.cifar()
    statistics = prepared.read_statistics(arrays)
    indices = np.random.default_rng(0).permutation(50_000)
    if job.is_training:
        indices = indices[:LABELS]
    run: Callable[[], object]
    if is_ours:
        devices.make_deterministic()
        split = prepared.read_split("train", arrays)
        model = learner.build(learner.Shape(job.arch, job.width, 128, job.precision), statistics, device)
        if job.is_training:
            labelled = Split(split.images[indices], split.labels[indices])
            run = partial(ours.train, model, labelled, ENDLESS, BATCH_SIZE, pace, is_compiled=job.is_compiled)
        else:
            run = partial(model.for_scoring().predict, split.images, indices, pace)
    else:
        model = learner.build(learner.Shape(job.arch, job.width, 128), statistics, device)
        images = baseline.images(raw, indices.tolist(), statistics, is_training=job.is_training)
        if job.is_training:
            run = partial(baseline.train, model, images, ENDLESS, BATCH_SIZE, pace)
        else:
            run = partial(baseline.score, model, images, BATCH_SIZE, pace)
    pipe.send("ready")
    with suppress(EOFError):  # nobody sets the pace any more
        pace.wait()
        while True:
            run()


def flops(arch: str, width: int, is_training: bool) -> float:
    """Floating-point operations an image, a multiplication and its addition counted as two.

    Training takes three times the forward pass: the gradients of a product, by its input and by its weights,
    are a product of the same size each.
    """
    network = choices.load(FILES["arch"], arch).build(10, width, torch.float32, is_large=False)
    return (3 if is_training else 1) * count_flops(network, 32)


@contextmanager
def worker(target: Callable[..., None]) -> Iterator[Callable[[int], tuple[int, float, float]]]:
    """One of the two sides, in a process of its own: a function that lets it do so many batches.

    Args:
        target: ``work`` of a side; its pipe is the argument that is left.

    The function returns their images, the seconds they took, and the peak memory so far in MB.
    """
    context = get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs,))
    process.start()
    theirs.close()

    def run(batches: int) -> tuple[int, float, float]:
        pipe.send(batches)
        return pipe.recv()

    try:
        pipe.recv()
        yield run
    finally:
        process.kill()
        process.join()


def compare(job: Job, alternations: int, seconds: float, usual: Callable[..., None] | None = None) -> dict:
    """Measure one row of the table. usual: what stands for the usual loop, which it is if left out."""
    usual = usual or partial(work, is_ours=False, job=job)
    with worker(usual) as usual_side, worker(partial(work, is_ours=True, job=job)) as our_side:
        usual_side(1)
        _, first_batch, _ = our_side(1)  # compiles
        images, elapsed, _ = usual_side(1)
        our_side(1)
        chunk = max(1, round(seconds * images / elapsed / BATCH_SIZE))
        turns = [(usual_side(chunk), our_side(chunk)) for _ in range(alternations)]
    usual_speed, our_speed = (
        sum(turn[side][0] for turn in turns) / sum(turn[side][1] for turn in turns) for side in (0, 1)
    )
    ratios = [(our[0] / our[1]) / (usual[0] / usual[1]) for usual, our in turns]
    return {
        "task": job.task,
        "network": job.arch,
        "width": job.width,
        "precision": str(job.precision).removeprefix("torch."),
        "usual": usual_speed,
        "ours": our_speed,
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "usual_mb": turns[-1][0][2],
        "our_mb": turns[-1][1][2],
        "tflops": our_speed * flops(job.arch, job.width, job.is_training) / 1e12,
        "first_batch": first_batch,
        "chunk": chunk,
    }


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    archs = choices.names(FILES["arch"])
    parser.add_argument("--archs", nargs="+", default=archs, choices=archs)
    parser.add_argument("--widths", nargs="+", default=[64, 16], type=int)
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    options = parser.parse_args()

    machine.cifar()
    device = devices.choose()
    is_compiled = devices.can_compile(device)
    # bfloat16 is float32 where the device has no units for it
    precisions = dict.fromkeys(devices.precision_of(name, device) for name in options.precisions)
    peaks = {precision: machine.peaks(precision, device) for precision in precisions}
    rows = []
    for arch, width, precision, task in product(options.archs, options.widths, precisions, TASKS):
        # Compiled code is kept: a first batch starts with an empty folder, to show what compiling costs.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            row = compare(Job(task, arch, width, precision, is_compiled), TURNS, SECONDS)
        matmul, convolution = peaks[precision]
        row |= {"of_matmul": row["tflops"] / matmul, "of_convolution": row["tflops"] / convolution}
        speeds = f"{row['usual']:.0f} and {row['ours']:.0f} images/s, ratio {row['ratio']:.2f}"
        print(f"{task}, {arch}, width {width}, {row['precision']}: {speeds}", flush=True)
        rows.append(row)
    measured = pd.DataFrame(rows)
    table = pd.DataFrame(
        {
            "task": measured["task"],
            "network": measured["network"],
            "width": measured["width"],
            "ours in": measured["precision"],
            "usual loop, images/s": measured["usual"].map("{:,.0f}".format),
            "ours, images/s": measured["ours"].map("{:,.0f}".format),
            "ratio [range]": [f"**{r.ratio:.2f}** [{r.lowest:.2f}–{r.highest:.2f}]" for r in measured.itertuples()],
            "memory, MB": [f"{r.usual_mb:,.0f} and {r.our_mb:,.0f}" for r in measured.itertuples()],
            "of the matmul peak": measured["of_matmul"].map("{:.0%}".format),
            "of the best convolution": measured["of_convolution"].map("{:.0%}".format),
            "our first batch, s": measured["first_batch"].map("{:.0f}".format),
        }
    )
    best = [
        f"{devices.name_of(precision, device)} {matmul:.2f} and {convolution:.2f} TFLOP/s"
        for precision, (matmul, convolution) in peaks.items()
    ]
    machine.publish(
        "speed",
        "Speed against the usual loop",
        table,
        [
            f"{machine.heading(device)}; the usual loop in {devices.name_of(torch.float32, device)}, our training "
            f"{'compiled' if is_compiled else 'eager'}.",
            f"Peaks measured, of a product of matrices and of a convolution: {'; '.join(best)}.",
            f"{TURNS} turns of each side; batches a turn: {', '.join(map(str, measured['chunk']))}. "
            "Speeds are over all turns, ratios of neighbouring turns: their median and range. Batches of "
            f"{BATCH_SIZE}; ours scores in batches of {SCORING_BATCH}.",
            "The first batch holds the compilation and counts in no figure. Memory is the peak of each side's process "
            "(on CUDA: of its tensors).",
        ],
    )


if __name__ == "__main__":
    ending.run(main)
