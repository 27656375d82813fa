"""The tidy table of a study: one row an arm, seed and cycle, read from its experiments' commits.

Only files that Git keeps are read: a clone without the cache collects as well.
"""

from io import StringIO
from pathlib import Path

import pandas as pd
import yaml

from lab.errors import BadInput
from lab.params import parse
from lab.study.experiments import git
from lab.study.plan import Arm
from stages.summarise import CURVE_COLUMNS

# What a reader of the table may rely on.
COLUMNS = [
    "arm",
    "group",
    "arch",
    "optim",
    "strategy",
    "protocol",
    "settings",
    "seed",
    *CURVE_COLUMNS,
    "training_seconds",
    "evaluation_seconds",
    "query_seconds",
    "images_per_second",
    "peak_memory_mb",
    "target_accuracy",
    "first_set",
    "device",
    "instructions",
    "threads",
    "torch",
    "cudnn",
    "precision",
    "compiled",
    "revision",
]


def collect(arms: list[Arm], finished: dict[str, str], revision: str) -> pd.DataFrame:
    """The tidy table of the finished arms: ``COLUMNS``, sorted by arm and cycle.

    Args:
        finished: name → commit of the experiment; at least one.
        revision: the commit that they began from.
    """
    tables = [_rows(arm, finished[arm.name]) for arm in arms if arm.name in finished]
    return pd.concat(tables, ignore_index=True).assign(revision=revision)[COLUMNS]


def read(path: Path) -> pd.DataFrame:
    """Read a tidy table from a CSV.

    Raises:
        BadInput: the file cannot be read, or a column is missing.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a tidy table ({error})") from error
    if missing := set(COLUMNS) - set(table):
        raise BadInput(f"{path}: not a tidy table, without {', '.join(sorted(missing))}")
    return table


def _rows(arm: Arm, commit: str) -> pd.DataFrame:
    curve = pd.read_csv(StringIO(git("show", f"{commit}:plots/curve.csv")))
    costs = pd.read_csv(StringIO(git("show", f"{commit}:plots/costs.csv"))).drop(columns="labels")
    params = parse(git("show", f"{commit}:params.yaml"))
    chosen = {key: params[key] for key in ("arch", "optim", "strategy", "protocol", "seed")}
    return curve.merge(costs, on="cycle", validate="one_to_one").assign(
        arm=arm.name,
        group=arm.group,
        **chosen,
        settings=" ".join(word for word in arm.options if word != "-S"),
        target_accuracy=params["protocols"][params["protocol"]]["target_accuracy"],
        first_set=_first_set(git("show", f"{commit}:dvc.lock")),
    )


def _first_set(lock: str) -> str:
    """The hash of the first labelled set."""
    (out,) = yaml.safe_load(lock)["stages"]["cold_start"]["outs"]
    return out["md5"]
