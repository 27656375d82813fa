"""Made-up tidy tables of studies, for the tests of what is made of them."""

import numpy as np
import pandas as pd

PARAMETERS = {"resnet18": 11_173_962, "resnet34": 21_282_122, "resnet50": 23_520_842}

LABELS = [1000 * number for number in range(1, 11)]


def tidy_of(
    curves: dict[str, list[float]], seeds: int = 3, spread: float = 0.001, protocol: str = "paper"
) -> pd.DataFrame:
    """A tidy table with these accuracies a group, at 1,000 to 10,000 labels.

    Args:
        curves: group (``resnet18-sgd``) → accuracies of its cycles.
        spread: standard deviation of a run's own offset, and ten times that of each of its cycles.
    """
    rows = []
    for number, (group, curve) in enumerate(curves.items()):
        arch, optim, *strategy = group.split("-")
        for seed in range(seeds):
            draw = np.random.default_rng([number, seed])
            offset = draw.normal(scale=spread)
            for cycle, accuracy in enumerate(curve):
                rows.append(
                    {
                        "arm": f"{group}-s{seed}",
                        "group": group,
                        "arch": arch,
                        "optim": optim,
                        "strategy": strategy[0] if strategy else "loss_prediction",
                        "protocol": protocol,
                        "dataset": "cifar10",
                        "settings": f"arch={arch} optim={optim} seed={seed}",
                        "seed": seed,
                        "cycle": cycle,
                        "labels": LABELS[cycle],
                        "departures": "" if protocol == "paper" else f"protocol {protocol}",
                        "training_accuracy": 0.99,
                        "accuracy": accuracy + offset + draw.normal(scale=spread / 10),
                        "label_efficiency": (accuracy - curve[0]) / (1000 * cycle) if cycle else np.nan,
                        "loss_spearman": 0.4 + offset,
                        "loss_pair_accuracy": 0.6,
                        "agreement": 0.9,
                        "judged_images": 10_000,
                        "balanced_accuracy": accuracy,
                        "macro_f1": accuracy,
                        "calibration_error": 0.1,
                        "accuracy_by_class": str([accuracy] * 10),
                        "acquired_classes": str([100] * 10),
                        "class_names": '["a", "b", "c", "d", "e", "f", "g", "h", "i", "airplane"]',
                        "training_images": 200 * LABELS[cycle],
                        "parameters": PARAMETERS[arch],
                        "flops": 1_110_000_000,
                        "training_seconds": 10.0,
                        "evaluation_seconds": 1.0,
                        "query_seconds": 2.0,
                        "compile_seconds": 3.0,  # of those of training
                        "images_per_second": 5000.0,
                        "peak_memory_mb": 900.0,
                        "target_accuracy": 0.85,
                        "first_set": f"set-of-seed-{seed}",
                        "last_set": f"last-set-of-{group}-{seed}",
                        "device": "made up",
                        "instructions": "none",
                        "threads": 1,
                        "torch": "0",
                        "cudnn": "none",
                        "precision": "float32",
                        "compiled": False,
                        "revision": "0" * 40,
                    }
                )
    return pd.DataFrame(rows)


def line(first: float, last: float) -> list[float]:
    """Ten accuracies from first to last, evenly spaced."""
    return np.linspace(first, last, 10).tolist()
