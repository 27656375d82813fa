"""The picture of a run, or of several, and what the figures of a study share with it."""

from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter, StrMethodFormatter
from scipy.optimize import isotonic_regression

from lab.data.files import replaced
from lab.report import style

BUDGET_LABEL = "labelled images"
MOST_TICKS = 6
DASHES: list[str | tuple[float, ...]] = ["", (4, 1.5), (1, 1), (5, 1.5, 1, 1.5), (8, 2), (3, 1, 1, 1, 1, 1)]


class Look(NamedTuple):
    """How a line is drawn."""

    colour: str
    dashes: str | tuple[float, ...] = ""


REFERENCE = Look(style.REFERENCE, DASHES[1])


def draw_curve(curves: pd.DataFrame, column: str, title: str, label: str, path: Path) -> None:
    """Write a PNG of one measure against the labelled images: a line a run, with its name at the end.

    Args:
        curves: columns labels, ``column`` (a share), run (its name) and optim; a row a run and cycle. A line without
            an optimizer is a reference. Where the column has an interval, in ``_low`` and ``_high``, it is drawn.
        label: of the vertical axis.
    """
    set_theme()
    figure, axes = plt.subplots(figsize=(9, 4.8), layout="constrained")
    palette = style.colours(curves["optim"].dropna())
    looks: dict[str, Look] = {}
    drawn: list[str] = []
    for run, optim in curves.drop_duplicates("run")[["run", "optim"]].to_numpy():
        # Runs with the same optimizer differ in their dashes.
        looks[run] = REFERENCE if pd.isna(optim) else Look(palette[optim], DASHES[drawn.count(optim) % len(DASHES)])
        drawn.append(optim)
    low, high = f"{column}_low", f"{column}_high"
    if low in curves:
        for run, curve in curves.dropna(subset=low).groupby("run"):
            axes.fill_between(
                curve["labels"], curve[low], curve[high], color=looks[run].colour, alpha=0.12, linewidth=0
            )
        label += ", with its 95 % interval"
    axes.set(title=title, xlabel=BUDGET_LABEL, ylabel=label)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    show_budget(axes, curves["labels"])
    label_ends(axes, draw_lines(axes, curves.rename(columns={"run": "line"}), "labels", column, looks))
    with replaced(path) as file:
        figure.savefig(file, dpi=150, format="png")
    plt.close(figure)


def set_theme(font_scale: float = 1) -> None:
    rc = {"axes.spines.top": False, "axes.spines.right": False, "grid.color": "0.9", "lines.markersize": 5}
    sns.set_theme(style="whitegrid", context="notebook", font_scale=font_scale, rc=rc)


def show_budget(axes: plt.Axes, labels: pd.Series) -> None:
    """Mark numbers of labels on the horizontal axis, the last among them, no closer than they can be read."""
    apart = np.ptp(labels) / (MOST_TICKS - 1)
    ticks: list[float] = []
    for count in np.unique(labels)[::-1]:
        if not ticks or ticks[-1] - count >= apart:
            ticks.append(count)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def draw_lines(
    axes: plt.Axes, table: pd.DataFrame, x: str, y: str, looks: dict[str, Look], **options: object
) -> pd.DataFrame:
    """Draw each line of the table.

    Args:
        table: columns line (its name), ``x`` and ``y``.
        looks: the look of each line, by its name.
        options: of ``seaborn.lineplot``.

    Returns:
        where each line ends, for ``label_ends``: columns x, y and colour, by the name of the line.
    """
    table = table.dropna(subset=y)
    if table.empty:
        return pd.DataFrame(columns=["x", "y", "colour"])
    sns.lineplot(
        table,
        x=x,
        y=y,
        hue="line",
        palette={name: look.colour for name, look in looks.items()},
        style="line",
        dashes={name: look.dashes for name, look in looks.items()},
        marker="o",
        legend=False,
        ax=axes,
        **{"errorbar": None} | options,
    )
    last = table[table[x] == table.groupby("line")[x].transform("max")]
    ends = last.groupby("line").agg(x=(x, "mean"), y=(y, "mean"))
    return ends.assign(colour=[looks[name].colour for name in ends.index])


def label_ends(axes: plt.Axes, ends: pd.DataFrame) -> None:
    """Write the name of each line beside its end. Limits of the axes must be final."""
    ends = ends.sort_values("y")
    size = 0.85 * plt.rcParams["font.size"]
    # The least moves that keep the names a line of text apart.
    gaps = 1.2 * size * axes.figure.dpi / 72 / axes.bbox.height * np.arange(len(ends))
    low, high = axes.get_ylim()
    heights = (ends["y"].to_numpy(float) - low) / (high - low)
    places = isotonic_regression(heights - gaps).x + gaps if len(ends) else []
    for (name, end), place in zip(ends.iterrows(), places, strict=True):
        thread = {"arrowstyle": "-", "color": end["colour"], "linewidth": 0.6, "linestyle": ":", "shrinkA": 0}
        position = {"textcoords": "axes fraction", "va": "center", "annotation_clip": False}
        axes.annotate(
            name, (end["x"], end["y"]), (1.03, place), color=end["colour"], size=size, arrowprops=thread, **position
        )
