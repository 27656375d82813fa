"""The paper's protocol as this laboratory runs it: the params that its figures may be held against."""

from collections.abc import Mapping

import pandas as pd

BUDGET = 10_000
LABELS = range(1000, BUDGET + 1, 1000)

# ``protocol``, ``optimizer`` and their like stand for the blocks that a run chooses.
PROTOCOL: dict[str, object] = {
    "dataset": "cifar10",
    "cycles": [[number, number + 1] for number in range(len(LABELS))],
    "protocol.cold_start": LABELS[0],
    "protocol.query.labels": LABELS.step,
    "protocol.query.pool_subset": None,
    "protocol.width": 64,
    "protocol.numerics.precision": "float32",
    "protocol.training.epochs": 200,
    "protocol.training.batch_size": 128,
    "protocol.training.min_updates": 0,
    "protocol.training.crop_padding": 4,
    "protocol.training.flip": True,
    "protocol.loss_prediction.hidden": 128,
    "protocol.loss_prediction.margin": 1.0,
    "protocol.loss_prediction.weight": 1.0,
    "protocol.loss_prediction.detach_at": 0.6,
    "schedule.shape": "steps",
    "schedule.drop_at": 0.8,
    "schedule.factor": 0.1,
    "initialisation.start": "fresh",
    "validation": 0,
    "cold_start_strategy": "random",
}
OPTIMIZERS: dict[str, dict[str, object]] = {
    "sgd": {"class": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
    "adam": {"class": "Adam", "lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.0},
    "adamw": {"class": "AdamW", "lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.01},
    "rmsprop": {"class": "RMSprop", "lr": 0.001, "alpha": 0.99, "momentum": 0.0, "weight_decay": 0.0},
}
# What changes no accuracy by more than rounding.
WITHOUT = ("protocol.numerics.compile", "protocol.target_accuracy")


def departures(params: Mapping) -> list[str]:
    """How a run's params depart from the paper's protocol, ``key = value`` each; none where they are the paper's.

    A key that is not known here is a departure, too. Architecture and strategy are not the protocol's.

    Args:
        params: all of params.yaml.
    """
    blocks = {
        "protocol": params["protocols"][params["protocol"]],
        "schedule": params["schedules"][params["schedule"]],
        "initialisation": params["initialisations"][params["initialisation"]],
    }
    expected, others = PROTOCOL, []
    if params["optim"] in OPTIMIZERS:
        expected = PROTOCOL | _flat({"optimizer": OPTIMIZERS[params["optim"]]})
        blocks["optimizer"] = params["optimizers"][params["optim"]]
    else:
        others = [f"optim = {params['optim']}"]
    found = _flat({key: params[key] for key in ("dataset", "cycles", "validation", "cold_start_strategy")} | blocks)
    keys = [key for key in {**expected, **found} if key not in WITHOUT]
    return others + [f"{key} = {found.get(key)}" for key in keys if found.get(key) != expected.get(key)]


def is_kept(tidy: pd.DataFrame) -> bool:
    """Whether every run of a tidy table has the paper's protocol."""
    return bool((tidy["departures"] == "").all())


def _flat(block: Mapping, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in block.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
