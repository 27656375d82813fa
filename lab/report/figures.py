"""The figures of a study, drawn with seaborn from its tidy table."""

import json

import matplotlib

matplotlib.use("Agg")  # no screen is needed

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter, StrMethodFormatter

from lab.report.claims import ARCHITECTURES, OPTIMIZERS, Data
from lab.report.statistics import FEWEST_SEEDS, area, wins

COLOURS = dict(zip(OPTIMIZERS, sns.color_palette("colorblind"), strict=False))
USUAL = "loss_prediction"
SINGLE_RUNS = {"units": "seed", "estimator": None}

BUDGET_LABEL = "labelled images"

# What the paper's text states of figure 3: architecture, optimizer, labels from and to, accuracy.
STATED = [
    ("resnet18", "adam", 1000, 3000, 0.77),
    ("resnet18", "sgd", 1000, 3000, 0.69),
    ("resnet34", "sgd", 10_000, 10_000, 0.895),
    ("resnet34", "adam", 10_000, 10_000, 0.895),
    ("resnet50", "sgd", 1000, 1000, 0.70),
    ("resnet50", "adam", 1000, 1000, 0.75),
    ("resnet50", "sgd", 10_000, 10_000, 0.90),
]


def figure_3(tidy: pd.DataFrame, anchors: pd.DataFrame) -> Figure:
    """Accuracy against budget: a panel an architecture, a line an optimizer, the deviation over seeds as a band.

    At the paper's scale also what its text states, and public curves.
    """
    figure, panels = _panels(tidy, "labels", "accuracy")
    is_at_paper_scale = Data(tidy).is_at_paper_scale
    for arch, axes in panels.items():
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        if is_at_paper_scale:
            for (source, method), curve in anchors[anchors["arch"] == arch].groupby(["source", "method"]):
                axes.plot(curve["labels"], curve["accuracy"], color="0.7", linewidth=0.8, zorder=0)
                last = curve.iloc[-1]
                axes.annotate(f"{source}, {method}", (last["labels"], last["accuracy"]), fontsize=5, color="0.5")
            for _, optim, first, last, accuracy in (mark for mark in STATED if mark[0] == arch):
                style = {"marker": "*", "markersize": 11, "markeredgecolor": "black", "linestyle": ":"}
                axes.plot([first, last], [accuracy, accuracy], color=COLOURS[optim], **style)
    note = "" if not is_at_paper_scale else "; stars: the paper's text; grey: public curves"
    _finish(figure, panels, tidy, "Accuracy against budget", BUDGET_LABEL, "test accuracy", note)
    return figure


def label_efficiency(tidy: pd.DataFrame) -> Figure | None:
    """Accuracy gained over the cold start, per label beyond it; None for single cycles, which gain nothing."""
    table = tidy[tidy["label_efficiency"].notna()]
    if table.empty:
        return None
    figure, panels = _panels(table, "labels", "label_efficiency")
    _finish(figure, panels, tidy, "Label efficiency", BUDGET_LABEL, "accuracy gained per label")
    return figure


def compute(tidy: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy against what it cost up to and with its cycle: image passes of training, and seconds of all."""
    figures = {}
    seconds = tidy["training_seconds"] + tidy["evaluation_seconds"] + tidy["query_seconds"]
    for name, cost, title, label in (
        ("accuracy_vs_image_passes", tidy["training_images"], "Accuracy against compute", "images trained on, so far"),
        ("accuracy_vs_seconds", seconds, "Accuracy against time", "seconds of training, evaluation and query, so far"),
    ):
        table = tidy.assign(cost=cost.groupby(tidy["arm"]).cumsum())
        if _fewest(table) >= FEWEST_SEEDS:
            # Runs of a group differ in seconds: a point is the mean of both over seeds.
            keys = ["arch", "optim", "strategy", "group", "cycle"]
            table = table.groupby(keys, sort=False)[["cost", "accuracy"]].mean().reset_index().assign(seed="mean")
        figures[name], panels = _panels(table, "cost", "accuracy")
        for axes in panels.values():
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        _finish(figures[name], panels, tidy, title, label, "test accuracy", has_band=False)
        for axes in panels.values():
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    return figures


def ranks(tidy: pd.DataFrame) -> dict[str, Figure]:
    """How well predicted loss ranks true loss on the test set."""
    figures = {}
    for column, label, chance in (
        ("loss_spearman", "Spearman's rank correlation", 0),
        ("loss_pair_accuracy", "pairs in the right order", 0.5),
    ):
        table = tidy[tidy[column].notna()]
        if table.empty:
            continue
        figures[column], panels = _panels(table, "labels", column)
        for axes in panels.values():
            axes.axhline(chance, color="0.4", linewidth=1)
        _finish(
            figures[column], panels, tidy, "Predicted against true loss", BUDGET_LABEL, label, "; grey line: chance"
        )
    return figures


def budgets(tidy: pd.DataFrame) -> Figure | None:
    """Area under the budget curve a group: a point a seed, a bar for their mean; None for single cycles."""
    if tidy["labels"].nunique() < 2:
        return None
    runs = tidy.groupby(["group", "optim", "seed"], sort=False).apply(area).rename("area").reset_index()
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * runs["group"].nunique()), layout="constrained")
    sns.stripplot(
        runs, x="area", y="group", hue="optim", palette=COLOURS, ax=axes, legend=False, alpha=0.8, jitter=False
    )
    means = runs.groupby("group", sort=False)["area"].mean()
    axes.scatter(means, range(len(means)), marker="|", s=200, color="black", zorder=3)
    axes.set(title="Area under the budget curve: a point a seed, a bar the mean", xlabel="mean accuracy", ylabel="")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


def classes(tidy: pd.DataFrame) -> Figure | None:
    """Share of each class among what was acquired after the cold start and trained on; the mean over seeds."""
    # The last cycle queries too, for a cycle that is not run.
    used = tidy[tidy["cycle"] < tidy.groupby("arm")["cycle"].transform("max")]
    counts = {
        group: np.sum([json.loads(row) for row in runs["acquired_classes"]], axis=0)
        for group, runs in used.groupby("group", sort=False)
    }
    if not counts:
        return None
    shares = pd.DataFrame({group: count / max(count.sum(), 1) for group, count in counts.items()}).T
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.32 * len(shares)), layout="constrained")
    balanced = 1 / shares.shape[1]
    sns.heatmap(
        shares, annot=True, fmt=".0%", cmap="vlag", center=balanced, vmin=0, vmax=2 * balanced, cbar=False, ax=axes
    )
    axes.set(title=f"Classes of what was acquired (balanced: {balanced:.0%})", xlabel="class", ylabel="")
    return figure


def win_matrix(tidy: pd.DataFrame) -> Figure | None:
    """Share of cycles in which the row beats the column; None where there are too few seeds."""
    table = wins(tidy)
    if table.isna().all(axis=None):
        return None
    side = 2 + 0.5 * len(table)
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    sns.heatmap(table, annot=True, fmt=".0%", cmap="Greens", vmin=0, vmax=1, cbar=False, square=True, ax=axes)
    axes.grid(False)
    axes.set(title="Share of cycles in which the row is better than the column,\np < 0.05, paired by seed", ylabel="")
    return figure


def all_figures(tidy: pd.DataFrame, anchors: pd.DataFrame) -> dict[str, Figure]:
    """Every figure, by the name of its file."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.85)
    # Words stay words in an SVG: they can be searched, and the file is small.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "study"}
    figures = {
        "figure_3": figure_3(tidy, anchors),
        "label_efficiency": label_efficiency(tidy),
        "area": budgets(tidy),
        **compute(tidy),
        **ranks(tidy),
        "classes": classes(tidy),
        "wins": win_matrix(tidy),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _panels(table: pd.DataFrame, x: str, y: str) -> tuple[Figure, dict[str, plt.Axes]]:
    """A panel an architecture. From three seeds on a line a group with a band of one deviation, else a line a run."""
    names = [arch for arch in ARCHITECTURES if arch in set(table["arch"])]
    figure, grid = plt.subplots(
        1, len(names), figsize=(1.5 + 5.2 * len(names), 4.6), sharey=True, squeeze=False, layout="constrained"
    )
    table = table.assign(variant=_variants(table))
    variants = sorted(table["variant"].unique(), key=lambda name: (name != USUAL, name))
    for arch, axes in zip(names, grid[0], strict=True):
        runs = table[table["arch"] == arch]
        has_mean = _fewest(table) >= FEWEST_SEEDS
        sns.lineplot(
            runs,
            x=x,
            y=y,
            hue="optim",
            hue_order=[optim for optim in OPTIMIZERS if optim in set(table["optim"])],
            palette=COLOURS,
            style="variant",
            style_order=variants,
            **({"errorbar": "sd", "err_kws": {"alpha": 0.15, "linewidth": 0}} if has_mean else SINGLE_RUNS),
            ax=axes,
        )
        axes.set_title(arch)
    return figure, dict(zip(names, grid[0], strict=True))


def _variants(table: pd.DataFrame) -> pd.Series:
    """What a group's name says beside architecture and optimizer: its strategy, and other params that vary."""
    rest = [
        group.removeprefix(f"{arch}-{optim}").strip("-")
        for group, arch, optim in zip(table["group"], table["arch"], table["optim"], strict=True)
    ]
    return pd.Series([name or USUAL for name in rest], index=table.index)


def _fewest(table: pd.DataFrame) -> int:
    """Seeds of the group that has the fewest."""
    return table.groupby("group")["seed"].nunique().min()


def _finish(
    figure: Figure,
    panels: dict[str, plt.Axes],
    tidy: pd.DataFrame,
    title: str,
    x: str,
    y: str,
    note: str = "",
    has_band: bool = True,
) -> None:
    seeds = tidy.groupby("group")["seed"].nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    band = "; single runs"
    if _fewest(tidy) >= FEWEST_SEEDS:
        band = "; means, band: one standard deviation" if has_band else "; means"
    figure.suptitle(f"{title} (protocol {tidy['protocol'].iloc[0]}, {count} seeds{band}{note})", fontsize="medium")
    for number, axes in enumerate(panels.values()):
        axes.set(xlabel=x, ylabel=y)
        if x == BUDGET_LABEL:
            axes.set_xticks(sorted(tidy["labels"].unique())[:: 1 + tidy["labels"].nunique() // 8])
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        legend = axes.get_legend()
        if number < len(panels) - 1:
            legend.remove()
        else:
            sns.move_legend(axes, "upper left", bbox_to_anchor=(1.02, 1), frameon=False)
