"""Images a second of the usual loop and of ours, in turns: python -m bench.speed

Each of the two runs in a process of its own and works while the other waits: a chunk of batches of the
one, then of the other. A ratio is that of two neighbouring chunks.
"""

import os
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import baseline, machine
from stages import entry
from stages.data import prepared
from stages.model import loss_prediction, resnet
from stages.training import device as devices
from stages.training import optimizers
from stages.training.batches import Normaliser, TrainingBatches
from stages.training.prediction import BATCH_SIZE as SCORING_BATCH
from stages.training.prediction import predict
from stages.training.train import train

BATCH_SIZE = 128
HIDDEN = 128
SGD = SimpleNamespace(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
# Longer than any benchmark, and nothing of the schedule within it.
ENDLESS = SimpleNamespace(epochs=10**6, lr_drop_epoch=10**6, lr_drop_factor=0.1)
LOSS_PREDICTION = SimpleNamespace(margin=1.0, weight=1.0, detach_epoch=10**6)
TASKS = {"training on 1,000": 1_000, "training on 5,000": 5_000, "scoring 50,000": 50_000}


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
            self.pipe.send((self.images, seconds, devices.peak_memory_mb(self.device)))
            self.wait()


class PacedBatches(TrainingBatches):
    """Our batches, handed out at the pace of the benchmark."""

    pace: Pace

    def epoch(self, seed: int):
        for images, labels in super().epoch(seed):
            yield images, labels
            self.pace(len(labels))


def work(pipe: Connection, is_ours: bool, arch: str, task: str, precision: str, is_compiled: bool) -> None:
    """A worker: train or score without end, at the pace that the pipe sets."""
    device = devices.choose()
    raw, arrays = machine.cifar()
    statistics = prepared.read_statistics(arrays)
    indices = np.random.default_rng(0).permutation(50_000)[: TASKS[task]]
    pace = Pace(pipe, device)
    loop = (_our_training if task.startswith("training") else _our_scoring) if is_ours else _usual_loop
    run = loop(arch, task, precision, is_compiled, device, statistics, indices, raw, arrays, pace)
    pipe.send("ready")
    with suppress(EOFError):  # nobody sets the pace any more
        pace.wait()
        while True:
            run()


def _networks(arch: str, precision: torch.dtype, device: torch.device) -> tuple[resnet.ResNet, torch.nn.Module]:
    network = resnet.build(arch, 10, 64, seed=0, precision=precision).to(device)
    return network, loss_prediction.build(network.stage_channels, HIDDEN, seed=0).to(device)


def _usual_loop(arch, task, precision, is_compiled, device, statistics, indices, raw, arrays, pace) -> Callable:
    network, module = _networks(arch, torch.float32, device)
    if task.startswith("training"):
        images = baseline.training_set(raw, indices, statistics)
        never = ENDLESS.epochs
        return lambda: baseline.train(
            network, module, images, BATCH_SIZE, never, never, never, SGD.lr, device, on_batch=pace
        )
    images = baseline.pool(raw, indices, statistics)
    return lambda: baseline.score(network, module, images, BATCH_SIZE, device, on_batch=pace)


def _our_training(arch, task, precision, is_compiled, device, statistics, indices, raw, arrays, pace) -> Callable:
    devices.make_deterministic()
    network, module = _networks(arch, devices.precision_of(precision, device), device)
    network = network.to(memory_format=torch.channels_last)
    split = prepared.read_split("train", arrays)
    batches = PacedBatches(
        torch.from_numpy(split.images[indices]).to(device),
        torch.from_numpy(split.labels[indices]).to(device),
        BATCH_SIZE,
        padding=4,
        flip=True,
    )
    batches.pace = pace
    return lambda: train(
        network,
        module,
        optimizers.build("sgd", SGD, [*network.parameters(), *module.parameters()]),
        batches,
        Normaliser(statistics, device),
        ENDLESS,
        LOSS_PREDICTION,
        lambda epoch: epoch,
        lambda epoch: None,
        is_compiled=is_compiled and devices.can_compile(device),
    )


def _our_scoring(arch, task, precision, is_compiled, device, statistics, indices, raw, arrays, pace) -> Callable:
    devices.make_deterministic()
    network, module = _networks(arch, devices.precision_of(precision, device), device)
    network = resnet.folded(network)
    images = prepared.read_split("train", arrays).images
    normalise = Normaliser(statistics, device)
    return lambda: predict(network, module, images, indices, normalise, device, on_batch=pace)


def flops(arch: str, is_training: bool) -> float:
    """Floating-point operations an image, a multiplication and its addition counted as two."""
    network, module = _networks(arch, torch.float32, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        logits, features = network(torch.randn(2, 3, 32, 32))
        if is_training:
            (logits.sum() + module(features).sum()).backward()
    return counter.get_total_flops() / 2


class Worker:
    """One of the two sides, and its chunk."""

    def __init__(self, *arguments: object) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, *arguments))
        self.process.start()
        theirs.close()
        self.pipe.recv()

    def run(self, batches: int) -> tuple[int, float, float]:
        """Images of so many batches, the seconds they took, and the peak memory so far in MB."""
        self.pipe.send(batches)
        return self.pipe.recv()

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def compare(arch: str, task: str, precision: str, is_compiled: bool, alternations: int, seconds: float) -> dict:
    """Measure one row of the table."""
    usual = Worker(False, arch, task, precision, is_compiled)
    ours = Worker(True, arch, task, precision, is_compiled)
    try:
        usual.run(1)
        _, first_batch, _ = ours.run(1)  # compiles
        images, elapsed, _ = usual.run(1)
        ours.run(1)
        chunk = max(1, round(seconds * images / elapsed / BATCH_SIZE))
        turns = [(usual.run(chunk), ours.run(chunk)) for _ in range(alternations)]
    finally:
        usual.stop()
        ours.stop()
    usual_speed, our_speed = (
        sum(turn[side][0] for turn in turns) / sum(turn[side][1] for turn in turns) for side in (0, 1)
    )
    ratios = [(ours[0] / ours[1]) / (usual[0] / usual[1]) for usual, ours in turns]
    return {
        "task": task,
        "network": arch,
        "usual": usual_speed,
        "ours": our_speed,
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "usual_mb": turns[-1][0][2],
        "our_mb": turns[-1][1][2],
        "tflops": our_speed * flops(arch, task.startswith("training")) / 1e12,
        "first_batch": first_batch,
        "chunk": chunk,
    }


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--archs", nargs="+", default=list(resnet.ARCHITECTURES), choices=resnet.ARCHITECTURES)
    parser.add_argument("--precision", default="float32", choices=["bfloat16", "float32"])
    parser.add_argument("--alternations", type=int, default=7, help="turns of each side (at least 7)")
    parser.add_argument("--seconds", type=float, default=1, help="of the usual loop, a turn; at least one batch")
    parser.add_argument("--eager", action="store_true", help="do not compile our training")
    options = parser.parse_args()
    if options.alternations < 7:
        raise entry.BadInput(f"--alternations {options.alternations}: must be at least 7")

    machine.cifar()
    device = devices.choose()
    precision = devices.precision_of(options.precision, device)
    peak = machine.matmul_peak(precision, device)
    rows = []
    for arch in options.archs:
        # What is compiled is kept for the next process: of a network's two trainings the first starts without.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            for task in TASKS:
                row = compare(arch, task, options.precision, not options.eager, options.alternations, options.seconds)
                speeds = f"{row['usual']:.0f} and {row['ours']:.0f} images/s, ratio {row['ratio']:.2f}"
                print(f"{arch}, {task}: {speeds}", flush=True)
                rows.append(row)
    measured = pd.DataFrame(rows)
    table = pd.DataFrame(
        {
            "task": measured["task"],
            "network": measured["network"],
            "usual loop, images/s": measured["usual"].map("{:,.0f}".format),
            "ours, images/s": measured["ours"].map("{:,.0f}".format),
            "ratio [range]": [f"**{r.ratio:.2f}** [{r.lowest:.2f}–{r.highest:.2f}]" for r in measured.itertuples()],
            "memory, MB": [f"{r.usual_mb:,.0f} and {r.our_mb:,.0f}" for r in measured.itertuples()],
            "of the matmul peak": (measured["tflops"] / peak).map("{:.0%}".format),
            "our first batch, s": measured["first_batch"].map("{:.0f}".format),
        }
    )
    name = devices.name_of(precision, device)
    machine.publish(
        "speed",
        "Speed against the usual loop",
        table,
        [
            f"{machine.heading(device)}; ours in {name}, training {'eager' if options.eager else 'compiled'}.",
            f"Matmul peak measured in {name}: {peak:.2f} TFLOP/s.",
            f"{options.alternations} turns of each side; batches a turn: {', '.join(map(str, measured['chunk']))}. "
            "Speeds are over all turns, ratios of neighbouring turns: their median and range. Batches of "
            f"{BATCH_SIZE}; ours scores in batches of {SCORING_BATCH}.",
            "The first batch holds the compilation and counts in no figure: the first training of a network starts "
            "with an empty compilation cache, the second finds the first's. Memory is the peak of each side's process "
            "(on CUDA: of its tensors).",
        ],
    )


if __name__ == "__main__":
    entry.run(main)
