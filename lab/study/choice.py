"""What a search chose: its trials as a table, the best setting of each optimizer, and the blocks that hold it."""

from pathlib import Path

import numpy as np
import pandas as pd
from dvc.utils.serialize import modify_yaml

from lab.errors import BadInput
from lab.params import PARAMS_FILE
from lab.study.arms import Arm
from lab.study.search import CHOSEN, SETTINGS, SearchFile


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
