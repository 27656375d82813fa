"""Accuracy of the usual loop and of ours at the same budget of labels: python -m bench.parity

A seed draws 1,000 labelled images and the weights for both; batches and crops are each side's own. The
difference is that of pairs. Accuracy is that of the last epoch on the test set; nothing is chosen by it.
"""

from argparse import ArgumentParser
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from scipy import stats

from bench import baseline, machine
from stages import entry
from stages.data import prepared
from stages.model import loss_prediction, resnet
from stages.progress import Progress
from stages.training import device as devices
from stages.training import optimizers
from stages.training.batches import Normaliser, TrainingBatches
from stages.training.prediction import predict
from stages.training.train import train

LABELS = 1_000
BATCH_SIZE = 32
SGD = SimpleNamespace(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def accuracies(seed: int, width: int, epochs: int, precision: torch.dtype, is_compiled: bool) -> dict[str, float]:
    """Test accuracy of either loop, 0 … 1."""
    device = devices.choose()
    raw, arrays = machine.cifar()
    statistics = prepared.read_statistics(arrays)
    split, test = prepared.read_split("train", arrays), prepared.read_split("test", arrays)
    indices = np.random.default_rng(seed).choice(len(split.labels), LABELS, replace=False)
    # Drop and detachment in the paper's proportions.
    drop_epoch, detach_epoch = round(0.8 * epochs), round(0.6 * epochs)
    normalise = Normaliser(statistics, device)

    def networks(precision: torch.dtype) -> tuple[resnet.ResNet, loss_prediction.LossPrediction]:
        network = resnet.build("resnet18", 10, width, seed, precision).to(device)
        return network, loss_prediction.build(network.stage_channels, 128, seed).to(device)

    def usual() -> resnet.ResNet:
        torch.manual_seed(seed)
        network, module = networks(torch.float32)
        images = baseline.training_set(raw, indices, statistics)
        bar = Progress(f"seed {seed}, usual loop", epochs * LABELS, "images")
        baseline.train(
            network, module, images, BATCH_SIZE, epochs, detach_epoch, drop_epoch, SGD.lr, device, on_batch=bar.update
        )
        return network.eval()

    def ours() -> resnet.ResNet:
        network, module = networks(precision)
        network = network.to(memory_format=torch.channels_last)
        batches = TrainingBatches(
            torch.from_numpy(split.images[indices]).to(device),
            torch.from_numpy(split.labels[indices]).to(device),
            BATCH_SIZE,
            padding=4,
            flip=True,
        )
        bar = Progress(f"seed {seed}, ours", epochs, "epochs")
        train(
            network,
            module,
            optimizers.build("sgd", SGD, [*network.parameters(), *module.parameters()]),
            batches,
            normalise,
            SimpleNamespace(epochs=epochs, lr_drop_epoch=drop_epoch, lr_drop_factor=0.1),
            SimpleNamespace(margin=1.0, weight=1.0, detach_epoch=detach_epoch),
            lambda epoch: seed * epochs + epoch,
            lambda epoch: bar.update(),
            is_compiled=is_compiled,
        )
        return resnet.folded(network)

    def accuracy(network: resnet.ResNet) -> float:
        everything = np.arange(len(test.labels))
        logits = predict(network, None, test.images, everything, normalise, device, lambda images: None).logits
        return float((logits.argmax(axis=1) == test.labels).mean())

    result = {}
    for name, loop in (("usual", usual), ("ours", ours)):
        started = perf_counter()
        result[name] = accuracy(loop())
        result[f"{name}_seconds"] = perf_counter() - started
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
        raise entry.BadInput(f"--seeds {options.seeds}: no spread is shown for fewer than 3")

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
    entry.run(main)
