"""Public curves to compare a study with; each row of the file names its source."""

from pathlib import Path

import numpy as np
import pandas as pd

from lab.errors import BadInput
from lab.report.protocol import is_kept
from lab.report.statistics import FEWEST_SEEDS

FILE = Path("studies/anchors.csv")


def read(path: Path = FILE) -> pd.DataFrame:
    """Columns source, address, arch, method, labels, accuracy (0 … 1), deviation and seeds (NaN if unknown), note."""
    return pd.read_csv(path)


def compare(tidy: pd.DataFrame, group: str, anchors: pd.DataFrame, source: str, method: str) -> pd.DataFrame:
    """A group's mean accuracy beside an anchor's, at the labels that both have.

    Returns:
        columns labels, measured, deviation (over seeds; NaN from fewer than three), seeds, anchor, difference.

    Raises:
        BadInput: there is no such group or anchor, or they differ in architecture, method or scale.
    """
    curves = anchors.groupby(["source", "method"])
    if (source, method) not in curves.groups:
        choices = ", ".join(f"{source} {method}" for source, method in curves.groups)
        raise BadInput(f"anchor {source} {method}: choose from {choices}")
    if group not in set(tidy["group"]):
        raise BadInput(f"group {group}: choose from {', '.join(tidy['group'].unique())}")
    runs = tidy[tidy["group"] == group]
    curve = curves.get_group((source, method))
    (arch, strategy), (anchor_arch,) = runs[["arch", "strategy"]].iloc[0], curve["arch"].unique()
    if not is_kept(runs):
        protocol = runs["protocol"].iloc[0]
        raise BadInput(f"{group} (protocol {protocol}) was not run at the paper's scale, which is that of the anchors")
    if arch != anchor_arch or strategy not in (method, f"{method}_without_module"):
        raise BadInput(f"{group} is {arch} with {strategy}, the anchor {anchor_arch} with {method}")
    ours = runs.groupby("labels")["accuracy"].agg(measured="mean", deviation="std", seeds="count").reset_index()
    ours.loc[ours["seeds"] < FEWEST_SEEDS, "deviation"] = np.nan
    table = ours.merge(curve[["labels", "accuracy"]].rename(columns={"accuracy": "anchor"}), on="labels")
    if table.empty:
        raise BadInput(f"{group} and {source} {method} have no number of labels in common")
    return table.assign(difference=table["measured"] - table["anchor"])
