"""Score a pool that is larger than memory should be: python -m bench.million

Writes a million random 32×32 images (3 GB) into TMPDIR, scores them through a memory map as a cycle would,
and prints the speed and the peak of resident memory.
"""

import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from bench import machine
from lab.data.prepared import Statistics
from lab.process import ending, memory
from lab.process.progress import Progress
from lab.query.selection import top_k, unlabelled
from lab.training import device as devices
from lab.training.learner import Shape, build

IMAGES = 1_000_000
LABELLED = 1_000
PART = 10_000


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=8, help="channels of ResNet-18's first stage")
    options = parser.parse_args()

    memory.keep_freed()
    device = devices.choose()
    half = np.full(3, 0.5, dtype=np.float32)
    model = build(Shape("resnet18", options.width, 128), Statistics(half, half, [""] * 10), device).for_scoring()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.npy"
        write_pool(path, IMAGES)
        pool = np.load(path, mmap_mode="r")
        before = memory.peak_resident_mb()
        candidates = unlabelled(len(pool), np.arange(LABELLED))
        bar = Progress("scoring the pool", len(candidates), "images")
        started = perf_counter()
        scores = model.predict(pool, candidates, bar.update).predicted_loss
        assert scores is not None, "it has a module"
        best = candidates[top_k(scores, 1_000)]
        seconds = perf_counter() - started
    machine.publish(
        "million",
        "Scoring a pool from disk",
        pd.DataFrame(
            {
                "images": [f"{IMAGES:,}"],
                "on disk, MB": [f"{pool.nbytes / 1e6:,.0f}"],
                "peak resident before, MB": [f"{before:,.0f}"],
                "peak resident, MB": [f"{memory.peak_resident_mb():,.0f}"],
                "seconds": [f"{seconds:,.0f}"],
                "images/s": [f"{len(candidates) / seconds:,.0f}"],
            }
        ),
        [f"{machine.heading(device)}; ResNet-18 of width {options.width}; {len(best):,} queried."],
    )


def write_pool(path: Path, images: int) -> None:
    """Random pixels as a .npy file, written in parts and then dropped from memory, so that they are read from disk."""
    draw = np.random.default_rng(0)
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (images, 32, 32, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, images, PART):
            file.write(draw.integers(0, 256, (min(PART, images - start), 32, 32, 3), dtype=np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    ending.run(main)
