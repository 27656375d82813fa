"""Public curves to compare a study with; each row of the file names its source."""

from pathlib import Path

import numpy as np
import pandas as pd

from stages.entry import BadInput
from study.statistics import FEWEST_SEEDS

FILE = Path("studies/anchors.csv")


def read(path: Path = FILE) -> pd.DataFrame:
    """Columns source, address, arch, method, labels, accuracy (0 … 1), deviation and seeds (NaN if unknown), note."""
    return pd.read_csv(path)


def compare(tidy: pd.DataFrame, group: str, anchors: pd.DataFrame, source: str, method: str) -> pd.DataFrame:
    """A group's mean accuracy beside an anchor's, at the labels that both have.

    Returns:
        columns labels, measured, deviation (over seeds; NaN from fewer than three), anchor, difference.

    Raises:
        BadInput: there is no such group or anchor, or they have no number of labels in common.
    """
    curves = anchors.groupby(["source", "method"])
    if (source, method) not in curves.groups:
        choices = ", ".join(f"{source} {method}" for source, method in curves.groups)
        raise BadInput(f"anchor {source} {method}: choose from {choices}")
    if group not in set(tidy["group"]):
        raise BadInput(f"group {group}: choose from {', '.join(tidy['group'].unique())}")
    runs = tidy[tidy["group"] == group].groupby("labels")["accuracy"]
    ours = runs.agg(measured="mean", deviation="std", seeds="count").reset_index()
    ours.loc[ours["seeds"] < FEWEST_SEEDS, "deviation"] = np.nan
    curve = curves.get_group((source, method))[["labels", "accuracy"]].rename(columns={"accuracy": "anchor"})
    table = ours.merge(curve, on="labels").drop(columns="seeds")
    if table.empty:
        raise BadInput(f"{group} and {source} {method} have no number of labels in common")
    return table.assign(difference=table["measured"] - table["anchor"])
