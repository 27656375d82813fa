"""Show what a study will cost: at once its image passes and the hours on GPUs, then the hours on this machine."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from lab.process.progress import Progress
from lab.study import estimate
from lab.study.plan import Arm
from lab.study.run import local

GPUS = Path(__file__).parents[2] / "studies/gpus.csv"
# What the speeds in GPUS hold for: narrower networks and smaller batches leave a GPU idle.
GPU_WIDTH, GPU_BATCH = 64, 128
# A training pass goes forward and back, and a step back costs two forward.
FORWARD_PASSES_A_TRAINING_PASS = 3


class Gpu(NamedTuple):
    """A row of GPUS: how fast a card trains an architecture, and how that is known."""

    card: str
    arch: str
    images_per_second: str
    basis: str
    source: str


def show(arms: list[Arm], jobs: int) -> None:
    """Print what is known, measure this machine's speed, then print the hours here. jobs: arms at once."""
    passes = {arm.name: [sum(counts) for counts in zip(*estimate.passes_of(arm), strict=True)] for arm in arms}
    rows = [["arm", "labels", "images trained on", "images scored"]]
    rows += [[arm.name, f"{estimate.labels_of(arm)[-1]:,}", *(f"{n:,}" for n in passes[arm.name])] for arm in arms]
    rows += [["all", "", *(f"{sum(counts):,}" for counts in zip(*passes.values(), strict=True))]]
    _print(rows)
    print(*on_gpus(arms), "", sep="\n", flush=True)
    torch.set_num_threads(int(local.environment_of(0, jobs)["OMP_NUM_THREADS"].split(",")[0]))
    _measure(arms)
    hours = {arm.name: sum(estimate.seconds_of(arm)) / 3600 for arm in arms}
    groups = {arm.group: [other for other in arms if other.group == arm.group] for arm in arms}
    rows = [["group", "arms", "images/s here", "hours an arm"]]
    for group, members in groups.items():
        name = members[0].name
        speed = sum(passes[name]) / hours[name] / 3600
        rows.append([group, str(len(members)), f"{speed:,.0f}", f"{hours[name]:,.2f}"])
    _print(rows)
    total = sum(hours.values())
    print(f"Here, {jobs} at once: about {max(total / jobs, *hours.values()):,.1f} hours, beside DVC's own work")


def on_gpus(arms: list[Arm]) -> Iterator[str]:
    """What the arms would take on one card of each kind, one after the other: a line a card."""
    if any(arm.protocol["width"] != GPU_WIDTH or arm.protocol["training"]["batch_size"] < GPU_BATCH for arm in arms):
        yield f"On a GPU: not known; studies/gpus.csv is about width {GPU_WIDTH} and batches of {GPU_BATCH} or more"
        return
    with open(GPUS, newline="") as file:
        gpus = [Gpu(**row) for row in csv.DictReader(file)]
    archs = dict.fromkeys(arm.params["arch"] for arm in arms)
    for card in dict.fromkeys(gpu.card for gpu in gpus):
        rows = {gpu.arch: gpu for gpu in gpus if gpu.card == card}
        if archs.keys() <= rows.keys():
            hours = sum(_seconds(arm, rows[arm.params["arch"]]) for arm in arms) / 3600
            bases = dict.fromkeys(rows[arch].basis for arch in archs)
            basis = "; ".join(
                f"{', '.join(arch for arch in archs if rows[arch].basis == name)} {name}" for name in bases
            )
            yield f"On one {card}: about {hours:,.1f} hours ({basis})"


def _seconds(arm: Arm, gpu: Gpu) -> float:
    training, forward = (sum(counts) for counts in zip(*estimate.passes_of(arm), strict=True))
    return (training + forward / FORWARD_PASSES_A_TRAINING_PASS) / float(gpu.images_per_second)


def _measure(arms: list[Arm]) -> None:
    """Have ``estimate`` measure each network of the study once, with a progress bar."""
    networks = {json.dumps([arm.params["arch"], arm.params["strategy"], arm.protocol]): arm for arm in arms}
    progress = Progress("measuring the speed of this machine", len(networks), "networks")
    for arm in networks.values():
        estimate.seconds_of(arm)
        progress.update()


def _print(rows: list[list[str]]) -> None:
    """Print rows of a table, the first of which is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        print(f"{first:{widths[0]}}", *(f"{text:>{n}}" for text, n in zip(rest, widths[1:], strict=True)), sep="  ")
    print(flush=True)
