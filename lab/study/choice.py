"""What a search chose: its trials as a table, the best setting of each optimizer, and the blocks that hold it."""

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lab.errors import BadInput
from lab.params import PARAMS_FILE
from lab.process.check import UNTIL
from lab.rewrite import rewritten
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
        BadInput: the message says which way to widen the grid; or an optimizer has no best setting.
    """
    scores, faults = scores_of(table), []
    for optim, found in scores.groupby("optim", sort=False):
        if found["score"].isna().all():
            raise BadInput(f"grid.{optim}: a trial of every setting diverged, so none is chosen; add smaller rates")
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
    with rewritten(path) as values:
        blocks = values["optimizers"]
        for _, row in best.iterrows():
            name = f"{row['optim']}{CHOSEN}"
            # A copy throughout: of a list in two places YAML would make an alias.
            blocks[name] = deepcopy(blocks[row["optim"]]) | {key: float(row[key]) for key in SETTINGS}
            names.append(name)
    return names


class Searched(NamedTuple):
    """A search and what it chose. best: of ``best_of``."""

    file: SearchFile
    best: pd.DataFrame


def account(arms: list[Arm], searched: Searched | None) -> pd.DataFrame:
    """Of each group of a study: whether its optimizer has settings that a search chose, and which labels that cost.

    A block has them if it is the block that was searched with the chosen values, whatever its name. What no search is
    known for counts as not searched.

    Returns:
        group; searched, "yes", "no", or "in part" where some phases have them, and with which protocol and data set
        if they are not the arm's; trials; drawn (labels to train trials on); held_out (labels that trials, or the
        arm's own cycles, are judged on).
    """
    best = [] if searched is None else searched.best.to_dict("records")
    rows = {}
    for arm in arms:
        blocks = arm.params["optimizers"]
        chosen = {row["optim"]: blocks[row["optim"]] | {key: row[key] for key in SETTINGS} for row in best}
        own = blocks[arm.params["optim"]]
        parts = [{key: part[key] for key in part if key not in UNTIL} for part in own.get("phases", {"": own}).values()]
        found = [name for part in parts for name, block in chosen.items() if part == block]
        row: dict[str, object] = {"searched": "no" if not found else "yes" if len(found) == len(parts) else "in part"}
        held_out = arm.params["validation"]
        if searched and found:
            file, count = searched.file, len(set(found))
            row |= {"trials": file.trials * count, "drawn": len(file.seeds) * sum(file.labels)}
            if (file.protocol, file.dataset) != (arm.params["protocol"], arm.params["dataset"]):
                row["searched"] = f"{row['searched']}, with {file.protocol} on {file.dataset}"
            # Images that are held out are the same whatever is run.
            held_out = max(held_out, file.validation)
        rows[arm.group] = {"trials": 0, "drawn": 0, **row, "held_out": held_out}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group").reset_index()
    return table[["group", "searched", "trials", "drawn", "held_out"]]
