"""Accuracy of the usual loop and of ours at the same budget of labels: python -m bench.parity

A seed draws 1,000 labelled images and the weights for both; batches and crops are each side's own. The
difference is that of pairs. Accuracy is that of the last epoch on the test set; nothing is chosen by it.
"""

from argparse import ArgumentParser
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from scipy import stats

from bench import baseline, machine, ours
from lab.data import prepared
from lab.data.dataset import Split
from lab.errors import BadInput
from lab.process import ending
from lab.process.progress import Progress
from lab.training import device as devices
from lab.training.learner import Shape, build
from lab.training.train import Recipe

LABELS = 1_000
BATCH_SIZE = 32


def accuracies(seed: int, width: int, epochs: int, precision: torch.dtype, is_compiled: bool) -> dict[str, float]:
    """Test accuracy of either loop, 0 … 1."""
    device = devices.choose()
    raw, arrays = machine.cifar()
    statistics = prepared.read_statistics(arrays)
    split, test = prepared.read_split("train", arrays), prepared.read_split("test", arrays)
    indices = np.random.default_rng(seed).choice(len(split.labels), LABELS, replace=False)
    # Drop and detachment in the paper's proportions.
    recipe = Recipe(epochs, {"shape": "steps", "drop_at": 0.8, "factor": 0.1}, margin=1.0, weight=1.0, detach_at=0.6)

    images = baseline.images(raw, indices.tolist(), statistics, is_training=True)
    labelled = Split(split.images[indices], split.labels[indices])
    result = {}
    for side, of_side in (("usual", torch.float32), ("ours", precision)):
        torch.manual_seed(seed)
        model = build(Shape("resnet18", width, 128, of_side), statistics, device, seed=seed, module_seed=seed)
        bar = Progress(f"seed {seed}, {side}", epochs * LABELS, "images")
        started = perf_counter()
        if side == "ours":
            ours.train(model, labelled, recipe, BATCH_SIZE, bar.update, seed, is_compiled)
            model = model.for_scoring()
        else:
            baseline.train(model, images, recipe, BATCH_SIZE, bar.update)
        logits = model.predict(test.images, np.arange(len(test.labels)), lambda images: None).logits
        result[side] = float((logits.argmax(axis=1) == test.labels).mean())
        result[f"{side}_seconds"] = perf_counter() - started
    return result


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="pairs of runs (at least 3)")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
    parser.add_argument("--precision", default="float32", choices=["bfloat16", "float32"])
    parser.add_argument("--compile", action="store_true", help="compile our training")
    options = parser.parse_args()
    if options.seeds < 3:
        raise BadInput(f"--seeds {options.seeds}: no spread is shown for fewer than 3")

    device = devices.choose()
    devices.make_deterministic()
    precision = devices.precision_of(options.precision, device)
    is_compiled = options.compile and devices.can_compile(device)
    runs = pd.DataFrame(
        accuracies(seed, options.width, options.epochs, precision, is_compiled) for seed in range(options.seeds)
    )
    difference = 100 * (runs["ours"] - runs["usual"])
    low, high = stats.t.interval(0.95, len(runs) - 1, difference.mean(), stats.sem(difference))
    table = pd.DataFrame(
        {
            "seed": [*map(str, runs.index), "mean ± sd"],
            "usual loop, %": _column(100 * runs["usual"]),
            "ours, %": _column(100 * runs["ours"]),
            "difference, points": _column(difference),
        }
    )
    machine.publish(
        "parity",
        "Accuracy against the usual loop",
        table,
        [
            f"{machine.heading(device)}; ours in {devices.name_of(precision, device)}, "
            f"{'compiled' if is_compiled else 'eager'}.",
            f"ResNet-18 of width {options.width}, {LABELS:,} labels, {options.epochs} epochs of SGD in batches of "
            f"{BATCH_SIZE}.",
            f"Mean difference {difference.mean():+.1f} points, 95 % interval [{low:+.1f}, {high:+.1f}] "
            f"(paired t, {len(runs)} seeds).",
            f"Seconds a run, median: {runs['usual_seconds'].median():.0f} and {runs['ours_seconds'].median():.0f}.",
        ],
    )


def _column(values: pd.Series) -> list[str]:
    return [*values.map("{:.1f}".format), f"{values.mean():.1f} ± {values.std():.1f}"]


if __name__ == "__main__":
    ending.run(main)
