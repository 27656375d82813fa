"""What a benchmark ran on, and what it works with: CIFAR-10, the measured peak, a table on disk."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.data import prepared
from lab.data.sets import cifar10
from lab.host import Host
from lab.training import device as devices

FOLDER = Path("bench/data")
RESULTS = Path("bench/results")


def cifar() -> tuple[Path, Path]:
    """Folders of the official files and of the prepared arrays; made by the first benchmark.

    Raises:
        BadInput: CIFAR-10 is out of reach; the message names AL_LAB_CIFAR10.
    """
    raw, arrays = FOLDER / "raw", FOLDER / "prepared"
    if not (arrays / "statistics.json").exists():
        cifar10.fetch(raw, Host())
        prepared.write(cifar10.read(raw, Host()), arrays)
    return raw, arrays


def peaks(precision: torch.dtype, device: torch.device) -> tuple[float, float]:
    """TFLOP/s of a large product of matrices, and of the best 3×3 convolution of a ResNet-18 at width 64.

    The best of ten each; float32 as convolutions run it (TF32 on CUDA).
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32

    def speed(flops: float, compute: Callable[[], Tensor]) -> float:
        best = float("inf")
        for _ in range(10):
            started = perf_counter()
            compute()
            synchronise(device)
            best = min(best, perf_counter() - started)
        return flops / best / 1e12

    size = 8192 if device.type == "cuda" else 2048
    left, right = torch.randn(2, size, size, device=device).to(precision)
    convolutions = []
    for channels, pixels in ((64, 32), (128, 16), (256, 8), (512, 4)):
        images = torch.randn(128, channels, pixels, pixels, device=device).to(precision)
        weight = torch.randn(channels, channels, 3, 3, device=device).to(precision)
        images, weight = (part.to(memory_format=torch.channels_last) for part in (images, weight))
        flops = 2 * 9 * channels**2 * images[:, 0].numel()
        convolutions.append(speed(flops, partial(F.conv2d, images, weight, padding=1)))
    return speed(2 * size**3, lambda: left @ right), max(convolutions)


def synchronise(device: torch.device) -> None:
    """Wait for the device, where work is only queued."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def heading(device: torch.device) -> str:
    """One line: the machine and the versions."""
    facts = devices.describe(device)
    return f"{facts['device']}, {facts['instructions']}, {facts['threads']} threads, torch {facts['torch']}"


def load() -> str:
    """Processes that wanted a core in the last five minutes, on average, and how many cores there are."""
    return f"{os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"


def publish(name: str, title: str, table: pd.DataFrame, notes: list[str]) -> None:
    """Print a table and write it as bench/results/<name>.md, for the README to quote."""
    rows = [table.columns, ["---"] * len(table.columns), *table.astype(str).itertuples(index=False)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    text = "\n".join([f"# {title}", "", *lines, "", *(f"- {note}" for note in notes)]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(f"\n{text}", flush=True)
