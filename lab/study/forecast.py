"""Show what a study will cost: at once its image passes and the hours on GPUs, then the hours on this machine."""

import csv
from collections.abc import Iterator
from pathlib import Path

import torch

from lab.process import memory
from lab.process.progress import Progress
from lab.study import estimate
from lab.study.arms import Arm
from lab.study.run import local

# How fast cards train, and how that is known. Narrower networks and smaller batches leave a card idle.
GPUS, GPU_WIDTH, GPU_BATCH = Path(__file__).parents[2] / "studies/gpus.csv", 64, 128


def show(arms: list[Arm], jobs: int) -> None:
    """Print what is known, measure this machine's speed, then print the hours here. jobs: arms at once."""
    passes = {arm.name: _passes(arm) for arm in arms}
    rows = [["arm", "labels", "images trained on", "images scored"]]
    rows += [[arm.name, f"{arm.labels[-1]:,}", *(f"{n:,}" for n in passes[arm.name])] for arm in arms]
    rows += [["all", "", *(f"{sum(counts):,}" for counts in zip(*passes.values(), strict=True))]]
    _print(rows)
    print(*on_gpus(arms), "", sep="\n", flush=True)
    torch.set_num_threads(int(local.environment_of(0, jobs)["OMP_NUM_THREADS"].split(",")[0]))
    memory.keep_freed()  # as a stage that trains does
    networks = dict.fromkeys(map(estimate.network_of, arms))
    count = f"{len(networks)} networks" if len(networks) > 1 else "1 network"
    print(f"Measuring {count} on this machine. To skip it, press Ctrl-C: nothing is lost", flush=True)
    progress = Progress("measuring the speed of this machine", len(networks), "networks")
    try:
        for network in networks:
            estimate.speed_of(network)
            progress.update()
    except KeyboardInterrupt:
        print("\nnot measured: the hours on this machine are not known")
        return
    hours = {arm.name: sum(estimate.seconds_of(arm)) / 3600 for arm in arms}
    rows = [["group", "arms", "images/s here", "hours an arm"]]
    groups = [arm.group for arm in arms]
    for group, name in {arm.group: arm.name for arm in arms}.items():
        speed = sum(passes[name]) / hours[name] / 3600
        rows.append([group, str(groups.count(group)), f"{speed:,.0f}", f"{hours[name]:,.2f}"])
    _print(rows)
    total = sum(hours.values())
    print(f"Here, {jobs} at once: about {max(total / jobs, *hours.values()):,.1f} hours, beside DVC's own work")


def on_gpus(arms: list[Arm]) -> Iterator[str]:
    """What the arms would take on one card of each kind, one after the other: a line a card."""
    if any(arm.protocol["width"] != GPU_WIDTH or arm.protocol["training"]["batch_size"] < GPU_BATCH for arm in arms):
        yield f"On a GPU: not known; studies/gpus.csv is about width {GPU_WIDTH} and batches of {GPU_BATCH} or more"
        return
    with open(GPUS, newline="") as file:
        rows = {(row["card"], row["arch"]): row for row in csv.DictReader(file)}
    archs = dict.fromkeys(arm.params["arch"] for arm in arms)
    for card in dict.fromkeys(card for card, _ in rows):
        if not all((card, arch) in rows for arch in archs):
            continue
        seconds = 0.0
        for arm in arms:
            training, forward = _passes(arm)
            # A training pass goes forward and back, and back costs two forward.
            seconds += (training + forward / 3) / float(rows[card, arm.params["arch"]]["images_per_second"])
        bases = {arch: rows[card, arch]["basis"] for arch in archs}
        known = (
            f"{', '.join(a for a in archs if bases[a] == basis)} {basis}" for basis in dict.fromkeys(bases.values())
        )
        yield f"On one {card}: about {seconds / 3600:,.1f} hours ({'; '.join(known)})"


def _passes(arm: Arm) -> list[int]:
    """Images trained on and scored in all cycles."""
    return [sum(counts) for counts in zip(*estimate.passes_of(arm), strict=True)]


def _print(rows: list[list[str]]) -> None:
    """Print a table, whose first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        print(f"{first:{widths[0]}}", *(f"{text:>{n}}" for text, n in zip(rest, widths[1:], strict=True)), sep="  ")
    print(flush=True)
