"""A study of 12 arms the way people run one, and with ``lab.study run``: python -m bench.studies

The usual way is a script around the usual loop: one arm after the other on all cores, a test after every epoch, the
pool through a DataLoader. Its arms take the same time, so that some are measured and stand for all.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import pandas as pd
import psutil

from bench import baseline, machine
from lab import params
from lab.data import prepared, sizes
from lab.params import PARAMS_FILE
from lab.process import ending
from lab.study.experiments import git
from lab.training import device as devices
from lab.training import learner
from lab.training.schedule import epochs_of
from lab.training.train import Recipe

PROTOCOL, CYCLES = "cpu_study", 3
ARMS = {"optim": ["sgd", "adam"], "strategy": ["loss_prediction", "random"]}
SEEDS = [0, 1, 2]
COUNT = len(SEEDS) * len(ARMS["optim"]) * len(ARMS["strategy"])
USUAL_ARMS = 2  # that are measured
ANOTHER = "--one-usual-arm"


def usual_arm(seed: int) -> None:
    """One arm with SGD and loss prediction, as a script has it."""
    protocol = params.read(PARAMS_FILE)["protocols"][PROTOCOL]
    training, prediction, query = protocol["training"], protocol["loss_prediction"], protocol["query"]
    device = devices.choose()
    raw, arrays = machine.cifar()
    statistics = prepared.read_statistics(arrays)
    order = np.random.default_rng(seed).permutation(50_000)
    test = baseline.images(raw, range(10_000), statistics, is_training=False, is_test=True)
    labels = 0
    for count in sizes.acquired(protocol["cold_start"], query["labels"], CYCLES):
        labels += count
        shape = learner.Shape("resnet18", protocol["width"], prediction["hidden"])
        model = learner.build(shape, statistics, device, seed=seed, module_seed=seed)
        batch_size = training["batch_size"]
        epochs = epochs_of(training["epochs"], training["min_updates"], labels, batch_size)
        recipe = Recipe(
            epochs, {"shape": "steps", "drop_at": 0.8, "factor": 0.1}, margin=1.0, weight=1.0, detach_at=0.6
        )
        labelled = baseline.images(raw, order[:labels].tolist(), statistics, is_training=True)
        baseline.train(
            model,
            labelled,
            recipe,
            batch_size,
            lambda images: None,
            after_epoch=partial(baseline.accuracy, model, test, 128),
        )
        pool = baseline.images(raw, order[labels:][: query["pool_subset"]].tolist(), statistics, is_training=False)
        baseline.score(model, pool, 128, lambda images: None)


def measured(command: list[str], folder: Path | None = None) -> tuple[float, float]:
    """Seconds of a command, and the most memory that the machine used beyond what it did before, in MB."""
    before = peak = psutil.virtual_memory().used
    started = perf_counter()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, psutil.virtual_memory().used)
            sleep(0.2)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return perf_counter() - started, (peak - before) / 1e6


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(ANOTHER, type=int, help="run one arm of the usual way with this seed, and nothing else")
    options = parser.parse_args()
    if options.one_usual_arm is not None:
        usual_arm(options.one_usual_arm)
        return
    machine.cifar()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        git("clone", "--quiet", ".", str(clone))
        file = clone / "studies/bench/study.yaml"
        file.parent.mkdir()
        study = {"protocol": PROTOCOL, "dataset": "cifar10", "seeds": SEEDS, "cycles": CYCLES, "arms": ARMS}
        file.write_text(json.dumps(study))  # JSON is YAML
        ours, our_mb = measured([sys.executable, "-m", "lab.study", "run", "studies/bench/study.yaml"], clone)
    arms = [measured([sys.executable, "-m", "bench.studies", ANOTHER, str(seed)]) for seed in range(USUAL_ARMS)]
    usual = float(np.mean([seconds for seconds, _ in arms]))
    hourly = {"usual": 3600 / usual, "ours": COUNT * 3600 / ours}
    table = pd.DataFrame(
        {
            "": ["the usual script", "`lab.study run`"],
            "arms an hour": [f"{hourly['usual']:.1f}", f"{hourly['ours']:.1f}"],
            "ratio": ["1", f"**{hourly['ours'] / hourly['usual']:.1f}**"],
            "memory, MB": [f"{max(mb for _, mb in arms):,.0f}", f"{our_mb:,.0f}"],
        }
    )
    machine.publish(
        "studies",
        f"A study of {COUNT} arms",
        table,
        [
            f"{machine.heading(devices.choose())}; load at the end {machine.load()}.",
            f"Protocol {PROTOCOL}, {CYCLES} cycles. Ours: all {COUNT} arms, data and DVC's work included, "
            f"{ours / 60:.1f} minutes. The usual script: {USUAL_ARMS} arms of {usual / 60:.1f} minutes.",
            "Memory is the most that the machine used beyond what it did before. The usual script tests after every "
            "epoch, ours after the last.",
        ],
    )


if __name__ == "__main__":
    ending.run(main)
