"""The figures, drawn with seaborn."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from lab.data.files import replaced


def draw_curve(curves: pd.DataFrame, column: str, title: str, label: str, path: Path) -> None:
    """Write a PNG of one measure against the labelled images, a line a run.

    Args:
        curves: columns labels, ``column`` (a share) and run, the legend's name; a row a run and cycle.
        label: the name of the vertical axis.
    """
    sns.set_theme(style="whitegrid", context="notebook")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    sns.lineplot(curves, x="labels", y=column, hue="run", style="run", markers=True, dashes=False, ax=axes)
    axes.set(title=title, xlabel="labelled images", ylabel=label)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.legend(title=None)
    with replaced(path) as file:
        figure.savefig(file, dpi=150, format="png")
    plt.close(figure)
