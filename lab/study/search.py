"""A search for an optimizer's settings, the same number of trials for each, judged on held-out training images.

    protocol: demo
    dataset: digits
    validation: 200                   # training images held out, the same for all
    seeds: [100, 101]                 # of no later comparison
    labels: [20, 320]                 # the first and the last budget
    grid:                             # of each optimizer, as many settings as of any other
      sgd: {lr: [0.01, 0.03, 0.1], weight_decay: [0.0005, 0.005]}
      adam: {lr: [0.0003, 0.001, 0.003], weight_decay: [0, 0.0005]}

A trial trains once, on random labels, with the module. The rule, fixed before any trial: of each optimizer the setting
with the highest accuracy, as the mean over the budgets of the mean over the seeds; of equal ones the first.
"""

import json
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from dvc.utils.serialize import modify_yaml
from pydantic import Field, model_validator

from lab import params
from lab.cycles import pairs
from lab.errors import BadInput
from lab.params import PARAMS_FILE
from lab.process import check
from lab.process.schema import Block, Count, not_a_choice, validate
from lab.study.arms import Arm, with_settings

SETTINGS = ["lr", "weight_decay"]
CHOSEN = "_tuned"  # what the name of a block that a search wrote ends with


class Grid(Block):
    # An edge on either side, and something between them.
    lr: Annotated[list[check.NotNegative], Field(min_length=3)]
    weight_decay: Annotated[list[check.NotNegative], Field(min_length=1)]

    @property
    def size(self) -> int:
        return len(self.lr) * len(self.weight_decay)


class SearchFile(Block):
    protocol: str
    dataset: str
    validation: Count
    seeds: Annotated[list[check.Seed], Field(min_length=1)]
    labels: Annotated[list[Count], Field(min_length=1)]
    grid: Annotated[dict[str, Grid], Field(min_length=1)]

    @property
    def cost(self) -> str:
        """What the search takes, in a sentence."""
        settings = next(iter(self.grid.values())).size
        each = settings * len(self.labels) * len(self.seeds)
        drawn = len(self.seeds) * sum(self.labels)
        return (
            f"{each} trials of each optimizer: {settings} settings, {len(self.labels)} budgets, {len(self.seeds)} "
            f"seeds. They read {self.validation + drawn:,} labels: {self.validation:,} of held-out images, "
            f"{drawn:,} to train on."
        )

    @model_validator(mode="after")
    def _searches_equally(self):
        sizes = {name: grid.size for name, grid in self.grid.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"grid = {sizes}: settings of each optimizer; choose as many for all")
        return self


def read(path: Path) -> SearchFile:
    """The file of a search.

    Raises:
        BadInput: it is refused.
    """
    try:
        return validate(SearchFile, params.read(path))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{path} is refused, nothing was run:\n{error}") from None


def arms_of(values: dict, base: dict) -> list[Arm]:
    """The trials of a search, those of a seed and a budget together.

    Args:
        values: of the file. base: params.yaml.

    Raises:
        ValueError: the file is refused, a line a fault.
    """
    file = validate(SearchFile, values)
    choices = [name for name, block in base["optimizers"].items() if "phases" not in block]
    if unknown := [not_a_choice(f"grid.{name}", name, choices) for name in file.grid if name not in choices]:
        raise ValueError("\n".join(unknown))
    return [
        _trial(file, base, optim, dict(zip(SETTINGS, setting, strict=True)), labels, seed)
        for seed, labels in product(file.seeds, file.labels)
        for optim, grid in file.grid.items()
        for setting in product(grid.lr, grid.weight_decay)
    ]


def _trial(file: SearchFile, base: dict, optim: str, setting: dict, labels: int, seed: int) -> Arm:
    settings = {
        "protocol": file.protocol,
        "dataset": file.dataset,
        "optim": optim,
        "strategy": "random",
        "validation": file.validation,
        f"protocols.{file.protocol}.cold_start": labels,
        **{f"optimizers.{optim}.{name}": value for name, value in setting.items()},
        "seed": seed,
        "cold_start_seed": seed,
        "cycles": pairs(1),
    }
    words = "-".join(f"{name}{json.dumps(value)}" for name, value in setting.items())
    group = f"{optim}-{words}-n{labels}".replace("e-", "e_")
    return Arm(f"{file.protocol}-search-{group}-s{seed}", group, seed, settings, with_settings(base, settings))


def trials(arms: list[Arm], tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a trial: optim, lr, weight_decay, labels, seed, accuracy; NaN where it diverged or is not finished."""
    rows = []
    for arm in arms:
        optim = arm.params["optim"]
        block = arm.params["optimizers"][optim]
        rows.append({"optim": optim, **{name: block[name] for name in SETTINGS}, "labels": arm.protocol["cold_start"]})
        rows[-1] |= {"seed": arm.seed, "arm": arm.name}
    return pd.DataFrame(rows).merge(tidy[["arm", "accuracy"]], on="arm", how="left").drop(columns="arm")


def scores_of(table: pd.DataFrame) -> pd.DataFrame:
    """What the rule compares: optim, lr, weight_decay, score; NaN where a trial diverged."""
    keys = ["optim", *SETTINGS]
    means = table.groupby([*keys, "labels"], sort=False)["accuracy"].agg(lambda seeds: seeds.mean(skipna=False))
    return means.groupby(keys, sort=False).agg(lambda budgets: budgets.mean(skipna=False)).rename("score").reset_index()


def best_of(table: pd.DataFrame) -> pd.DataFrame:
    """The best setting of each optimizer, by the rule: rows of ``scores_of``. table: of ``trials``.

    A setting of which a trial diverged, or is not finished, is not chosen.
    """
    scores = scores_of(table).dropna()
    return scores.loc[scores.groupby("optim", sort=False)["score"].idxmax()].reset_index(drop=True)


def check_edges(table: pd.DataFrame) -> None:
    """Refuse a best setting at the edge of its grid: beyond it may lie a better one.

    Raises:
        BadInput: the message says which way to widen the grid.
    """
    scores, faults = scores_of(table), []
    for _, row in best_of(table).iterrows():
        faults += _at_edge(row, scores[scores["optim"] == row["optim"]])
    if faults:
        raise BadInput("\n".join(["the best setting lies at the edge of its grid:", *faults]))


def _at_edge(best: pd.Series, scores: pd.DataFrame) -> list[str]:
    faults = []
    for name in SETTINGS:
        grid = np.sort(scores[name].unique())
        which = "smaller" if best[name] == grid[0] else "larger" if best[name] == grid[-1] else None
        # Less decay than none there is not; and one value alone was not searched.
        if which and len(grid) > 1 and not (which == "smaller" and best[name] == 0):
            tried = ", ".join(f"{value:g}" for value in grid)
            faults.append(f"  grid.{best['optim']}.{name} = [{tried}]: {best[name]:g} is best; add {which} values")
    return faults


def write_blocks(best: pd.DataFrame, path: Path = PARAMS_FILE) -> list[str]:
    """Write each chosen setting into params.yaml, as a block beside the one that it was searched for. Returns names."""
    names = []
    with modify_yaml(path) as values:
        blocks = values["optimizers"]
        for _, row in best.iterrows():
            name = f"{row['optim']}{CHOSEN}"
            blocks[name] = {**blocks[row["optim"]], **{key: float(row[key]) for key in SETTINGS}}
            names.append(name)
    return names


def account(arms: list[Arm], file: SearchFile, best: pd.DataFrame) -> pd.DataFrame:
    """Of each group of a study: whether its optimizer has the settings that a search chose, and what that cost.

    Returns:
        group, searched, trials, labels.
    """
    chosen = {f"{row['optim']}{CHOSEN}": row for row in best.to_dict("records")}
    trials = next(iter(file.grid.values())).size * len(file.labels) * len(file.seeds)
    labels = file.validation + sum(file.labels) * len(file.seeds)
    rows = {}
    for arm in arms:
        optim = arm.params["optim"]
        block, setting = arm.params["optimizers"][optim], chosen.get(optim, {})
        searched = bool(setting) and all(block.get(key) == setting[key] for key in SETTINGS)
        rows[arm.group] = {"searched": searched, "trials": trials * searched, "labels": labels * searched}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("group").reset_index()
