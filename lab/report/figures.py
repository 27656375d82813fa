"""The figures of a study, drawn with seaborn from its tidy table."""

import json
from textwrap import fill
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator, PercentFormatter

from lab.process.costs import SECONDS
from lab.report import decomposition, style
from lab.report.analysis import Outcome, answer
from lab.report.ceiling import split
from lab.report.curve import BUDGET_LABEL, DASHES, REFERENCE, Look, draw_lines, label_ends, set_theme, show_budget
from lab.report.protocol import is_kept
from lab.report.saved import with_passes
from lab.report.statistics import FEWEST_SEEDS, area, collapsed, runs_of, wins
from lab.report.style import words
from lab.study.analysis import ACCURACY

USUAL = "loss_prediction"
TOO_FEW = f"With fewer than {FEWEST_SEEDS} seeds a difference may be chance."
MOST_LINES = 6  # of a panel
MOST_COLUMNS = 3
# How a gap and its parts are drawn.
PARTS = {
    "gap": {"color": style.REFERENCE, "linestyle": ":", "marker": "o"},
    "learning": {"color": style.OTHERS[2], "marker": "o"},
    "choosing": {"color": style.OTHERS[0], "linestyle": "--", "marker": "s"},
}
RANK_MARKERS = {"primary": "o", "secondary": "s"}

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


class Chart(NamedTuple):
    """One column of the table against another.

    chance: what a guess reaches, drawn as a horizontal line. is_share: whether y is written in per cent.
    """

    title: str
    y_label: str
    y: str
    x: str = "labels"
    x_label: str = BUDGET_LABEL
    chance: float | None = None
    is_share: bool = True


TEST_ACCURACY, RANKS = "test accuracy", "Predicted against true loss, on the test images"
CHARTS = {
    "figure_3": Chart("Accuracy against budget", TEST_ACCURACY, ACCURACY),
    "label_efficiency": Chart("Label efficiency", "points gained per 1,000 labels", "points_gained", is_share=False),
    "accuracy_vs_image_passes": Chart(
        "Accuracy against compute", TEST_ACCURACY, ACCURACY, "image_passes", "images trained on, so far"
    ),
    "accuracy_vs_seconds": Chart(
        "Accuracy against time", TEST_ACCURACY, ACCURACY, "seconds", "seconds of training, evaluation and query, so far"
    ),
    "loss_spearman": Chart(RANKS, "Spearman's rank correlation", "loss_spearman", chance=0, is_share=False),
    "loss_pair_accuracy": Chart(RANKS, "pairs in the right order", "loss_pair_accuracy", chance=0.5),
}


def all_figures(tidy: pd.DataFrame, anchors: pd.DataFrame, measure: str = ACCURACY) -> dict[str, Figure]:
    """Every figure that the table has something for, by the name of its file.

    Args:
        anchors: public curves, shown beside a study at the paper's scale.
        measure: what the study compares its arms by; has a figure of its own where it is not accuracy.
    """
    set_theme(font_scale=0.9)
    # Words stay words in an SVG: they can be searched, and the file is small.
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "study"}
    tidy, ceilings = split(tidy)
    public = anchors if is_kept(tidy) else None
    table = _with_costs(_in_order(tidy))
    beside = {"figure_3": {"public": public, "ceilings": ceilings}}
    charts = dict(CHARTS)
    if measure != ACCURACY:
        name = measure.replace("_", " ")
        charts["measure"] = Chart(f"{name.capitalize()} against budget", name, measure)
    figures = {name: draw(chart, table, **beside.get(name, {})) for name, chart in charts.items()}
    figures |= {
        "area": areas(tidy),
        "classes": classes(tidy),
        "wins": win_matrix(tidy),
        "learning_and_choosing": learning_and_choosing(tidy),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def draw(
    chart: Chart, table: pd.DataFrame, public: pd.DataFrame | None = None, ceilings: pd.DataFrame | None = None
) -> Figure | None:
    """Panels of lines: one an architecture, and with many lines one a strategy or optimizer.

    From three seeds on a line is their mean, with a band of one standard deviation against labels; else it is a run.
    None where the table has no values.

    Args:
        public: curves of others, drawn in the panels of their architecture beside what the paper's text states.
        ceilings: rows of arms with all labels, each a line across the panels of its architecture.
    """
    table = table.dropna(subset=[chart.x, chart.y])
    if table.empty:
        return None
    protocol, seeds = table["protocol"].iloc[0], table.groupby("group")["seed"].nunique()
    counts = style.seeds(seeds.max())
    if seeds.min() < seeds.max():
        counts = f"{seeds.min()} to {counts}"
    options: dict[str, object] = {"units": "seed", "estimator": None}
    drawn = f"Lines: single runs, {counts}. {TOO_FEW}"
    if seeds.min() >= FEWEST_SEEDS:
        drawn = f"Lines: means of {counts}."
        if chart.x == "labels":
            options = {"errorbar": "sd", "err_kws": {"alpha": 0.12, "linewidth": 0}}
            drawn += " Bands: one standard deviation."
        else:
            # Seeds differ in seconds: a point is the mean of both.
            keys = ["arch", "optim", "strategy", "variant", "group", "cycle"]
            table = table.groupby(keys, observed=True)[[chart.x, chart.y]].mean().reset_index().assign(seed="mean")
    panels = _panels(table)
    archs = table["arch"].nunique()
    figure, grid = _grid(len(panels), min(len(panels), archs if archs > 1 else MOST_COLUMNS))
    failed = collapsed(table) if (chart.x, chart.y) == ("labels", "accuracy") else None
    ends = []
    for axes, (title, part) in zip(grid, panels.items(), strict=True):
        others = table[table["arch"].isin(part["arch"]) & ~table["group"].isin(part["group"])]
        for _, other in others.groupby(["group", "seed"] if "units" in options else "group"):
            axes.plot(*other.groupby("cycle")[[chart.x, chart.y]].mean().T.to_numpy(), color="0.85", linewidth=1)
        ends.append(draw_lines(axes, part, chart.x, chart.y, _looks(part), **options))
        if public is not None:
            ends[-1] = pd.concat([ends[-1], _draw_published(axes, part, public)])
        if ceilings is not None:
            ends[-1] = pd.concat([ends[-1], _draw_ceilings(axes, part, ceilings)])
        if failed is not None:
            marked = failed[failed["group"].isin(part["group"])]
            axes.plot(marked["labels"], marked["accuracy"], "kx", zorder=4)
        if chart.chance is not None:
            axes.axhline(chart.chance, color="black", linewidth=1)
        axes.set(title=title, xlabel=chart.x_label, ylabel=chart.y_label)
        if chart.x == "labels":
            show_budget(axes, table["labels"])
        else:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if chart.is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    # Only now are the limits final, which the panels share.
    for axes, lines in zip(grid, ends, strict=True):
        label_ends(axes, lines)
    notes = [f"Protocol {protocol}. {drawn}"]
    if len(panels) > archs:
        notes.append("Grey: the lines of the other panels.")
    if failed is not None and len(failed):
        notes.append("×: a run whose training collapsed.")
    if chart.chance is not None:
        notes.append("Black: chance.")
    if public is not None:
        notes.append("Stars: the paper's text. Dashed grey: public curves.")
    figure.suptitle(chart.title)
    figure.supxlabel(fill(" ".join(notes), int(14 * figure.get_figwidth())), size="small", color="0.4")
    return figure


def areas(tidy: pd.DataFrame) -> Figure | None:
    """Area under the budget curve: a dot a seed, a bar for their mean; None for single cycles."""
    if tidy["labels"].nunique() < 2:
        return None
    runs = tidy.drop_duplicates("arm").merge(area(runs_of(tidy)).rename("area").reset_index())
    runs["group"] = runs["group"].map(words)
    figure, axes = plt.subplots(figsize=(7, 1.4 + 0.34 * runs["group"].nunique()), layout="constrained")
    options = {"palette": style.colours(runs["optim"]), "alpha": 0.8, "jitter": False, "clip_on": False}
    sns.stripplot(runs, x="area", y="group", hue="optim", legend=False, ax=axes, **options)
    means = runs.groupby("group", sort=False)["area"].mean()
    axes.scatter(means, range(len(means)), marker="|", s=200, color="black", zorder=3)
    figure.suptitle("Area under the budget curve: a dot for each seed, a bar for their mean")
    axes.set_ylabel("")
    is_enough = runs.groupby("group")["seed"].nunique().min() >= FEWEST_SEEDS
    axes.set_xlabel("mean accuracy")
    if not is_enough:
        figure.supxlabel(TOO_FEW, size="small", color="0.4")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.margins(0.06)
    axes.set_ylim(len(means) - 0.5, -0.5)
    return figure


def classes(tidy: pd.DataFrame) -> Figure | None:
    """Share of each class among the images acquired after the cold start and trained on; the mean over seeds."""
    # The last cycle queries too, for a cycle that is not run.
    used = tidy[tidy["cycle"] < tidy.groupby("arm")["cycle"].transform("max")].dropna(subset="acquired_classes")
    counts = {
        words(group): np.sum([json.loads(row) for row in runs["acquired_classes"]], axis=0)
        for group, runs in used.groupby("group", sort=False)
    }
    if not counts:
        return None
    shares = pd.DataFrame({group: count / max(count.sum(), 1) for group, count in counts.items()}).T
    shares.columns = json.loads(tidy["class_names"].iloc[0])
    balanced = 1 / shares.shape[1]
    title = f"Classes of the acquired images (balanced: {balanced:.0%})"
    return _matrix({"": shares}, "class", title, cmap="vlag", center=balanced, vmin=0, vmax=2 * balanced)


def learning_and_choosing(tidy: pd.DataFrame) -> Figure | None:
    """What two crossed arms learn and choose at each budget, a panel a pair; None where none were crossed."""
    pairs = decomposition.pairs(tidy)
    if not pairs:
        return None
    figure, grid = _grid(len(pairs), min(len(pairs), MOST_COLUMNS))
    tables = [decomposition.effects(tidy, one, two).dropna(subset="labels") for one, two in pairs]
    for axes, (one, two), table in zip(grid, pairs, tables, strict=True):
        axes.axhline(0, color="black", linewidth=1)
        for effect, look in PARTS.items():
            rows = table[table["effect"] == effect].astype({"low": float, "high": float})
            ends = (rows["mean"] - rows["low"], rows["high"] - rows["mean"])
            axes.errorbar(rows["labels"], rows["mean"], ends, label=effect, capsize=3, elinewidth=1, **look)
        axes.set(title=f"{words(one)} − {words(two)}", xlabel=BUDGET_LABEL, ylabel="points of accuracy")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:+.3g}" if share else "0"))
        show_budget(axes, table["labels"])
    grid[0].legend(frameon=False)
    figure.suptitle("The gap between two arms, split into learning and choosing")
    count = min(table["seeds"].max() for table in tables)
    spread = ", 95 % intervals." if count >= FEWEST_SEEDS else f". {TOO_FEW}"
    parts = "Gap = learning (the same labelled sets) + choosing (the same optimizer)."
    note = f"Means of {style.seeds(count)}{spread} {parts}"
    figure.supxlabel(fill(note, int(14 * figure.get_figwidth())), size="small", color="0.4")
    return figure


def questions(found: pd.DataFrame, margin: float) -> Figure:
    """What a study asked beforehand: a row a question, its difference with a 95 % interval, and the answer.

    Args:
        found: of ``lab.report.analysis.answers``.
        margin: the difference that counts as none, a share; drawn as a band.
    """
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.42 * len(found)), layout="constrained")
    axes.axvspan(-100 * margin, 100 * margin, color="0.93")
    axes.axvline(0, color="black", linewidth=1)
    points = 100 * found[["mean", "low", "high"]].astype(float)
    for place, ((_, question), (mean, low, high)) in enumerate(zip(found.iterrows(), points.to_numpy(), strict=True)):
        marker = RANK_MARKERS[question["rank"]]
        face = "black" if question["outcome"] in (Outcome.DIFFERENCE, Outcome.SMALL) else "white"
        axes.plot([low, high], [place, place], color="black", linewidth=1.2)
        axes.plot(mean, place, marker, color="black", markerfacecolor=face, markersize=7)
        axes.text(1.02, place, answer(question), transform=axes.get_yaxis_transform(), va="center", size="small")
    axes.set_yticks(range(len(found)), [fill(name, 40) for name in found["name"]])
    axes.set(ylim=(len(found) - 0.5, -0.5), xlabel="points")
    axes.grid(visible=False, axis="y")
    figure.suptitle("The questions stated beforehand")
    note = (
        "Means over seeds, 95 % intervals. Circles: primary questions. Squares: secondary ones. Filled: a difference, "
        f"corrected over all of its kind. Grey: within ±{100 * margin:g} points of zero."
    )
    figure.supxlabel(fill(note, int(14 * figure.get_figwidth())), size="small", color="0.4")
    return figure


def win_matrix(tidy: pd.DataFrame) -> Figure | None:
    """Share of cycles in which the row is better than the column, a panel an architecture; None without a win."""
    panels = {}
    for arch, runs in tidy.groupby("arch", sort=False):
        table = wins(runs)
        if np.nansum(table) > 0:
            short = {group: words(group).removeprefix(f"{words(arch)} ") for group in table}
            panels[words(arch)] = table.rename(index=short, columns=short).replace(0, np.nan)
    title = "Share of cycles in which the row is better\nthan the column, p < 0.05, paired by seed"
    return _matrix(panels, "", title, cmap="Greens", vmin=0, vmax=1) if panels else None


def _with_costs(tidy: pd.DataFrame) -> pd.DataFrame:
    """With image_passes and seconds, each up to and with the cycle, and points_gained for each 1,000 labels."""
    seconds, arms = tidy[SECONDS].sum(axis=1, skipna=False), tidy["arm"]
    # A cycle that was restored has no seconds: then its run has no sum.
    is_known = ~seconds.isna().groupby(arms).transform("any")
    return with_passes(tidy).assign(
        seconds=seconds.groupby(arms).cumsum().where(is_known), points_gained=100 * 1000 * tidy["label_efficiency"]
    )


def _in_order(tidy: pd.DataFrame) -> pd.DataFrame:
    """With variant, what a group's name says beside architecture and optimizer; all of them in a fixed order."""
    beside = [
        group.removeprefix(f"{arch}-{optim}").strip("-") or USUAL
        for group, arch, optim in zip(tidy["group"], tidy["arch"], tidy["optim"], strict=True)
    ]
    first = [*style.OPTIMIZERS, USUAL]

    def ordered(values: pd.Series) -> pd.Categorical:
        plain = {name: name.removesuffix("_tuned") for name in values}
        names = sorted(plain, key=lambda name: (first.index(plain[name]) if plain[name] in first else len(first), name))
        return pd.Categorical(values, names)

    tidy = tidy.assign(variant=beside)
    return tidy.assign(**{key: ordered(tidy[key]) for key in ("arch", "optim", "variant")})


def _panels(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each panel by its title, with line: a name for what the title does not say."""
    keys = ["arch"]
    if _most_lines(table, keys) > MOST_LINES:
        # the fewest panels that are not too full
        parts = sorted(("variant", "optim"), key=lambda key: table[key].nunique())
        keys = [next((key for key in parts if _most_lines(table, ["arch", key]) <= MOST_LINES), parts[-1]), "arch"]
    said = [key for key in ("optim", "variant") if key not in keys and (key == "optim" or table[key].nunique() > 1)]
    lines = [", ".join(map(words, names)) for names in table[said or ["optim"]].to_numpy()]
    panels = table.assign(line=lines).groupby(keys, observed=True)
    return {", ".join(words(name) for name in reversed(names)): rows for names, rows in panels}


def _most_lines(table: pd.DataFrame, keys: list[str]) -> int:
    return table.groupby(keys, observed=True)["group"].nunique().max()


def _looks(part: pd.DataFrame) -> dict[str, Look]:
    """The look of each line of a panel: an optimizer has its colour, a strategy its dashes.

    Where there is one optimizer, each of three strategies or more has a colour, too.
    """
    palette = style.colours(part["optim"].cat.categories)
    variants = sorted(set(part["variant"]), key=list(part["variant"].cat.categories).index)
    lines = part.drop_duplicates("line")[["line", "optim", "variant"]].to_numpy()
    own: dict[str, str] = {}
    if part["optim"].cat.categories.size == 1 and len(variants) > 2:
        spare = [colour for colour in style.OTHERS if colour != palette[lines[0][1]]]
        others = [variant for variant in variants if variant != USUAL]
        own = {variant: spare[number % len(spare)] for number, variant in enumerate(others)}
    return {
        line: Look(own.get(variant, palette[optim]), DASHES[variants.index(variant) % len(DASHES)])
        for line, optim, variant in lines
    }


def _grid(count: int, columns: int) -> tuple[Figure, list[plt.Axes]]:
    """So many panels with the same axes."""
    rows = -(count // -columns)
    size = (max(7, 0.5 + 4.6 * columns), 1 + 3.3 * rows)
    shared = {"sharex": True, "sharey": True}
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in grid.flat[:count]:
        axes.tick_params(labelbottom=True)
    return figure, list(grid.flat[:count])


def _draw_published(axes: plt.Axes, part: pd.DataFrame, public: pd.DataFrame) -> pd.DataFrame:
    """Public curves of the architecture and strategies of a panel, and what the paper's text states of it.

    Returns:
        the ends of the curves.
    """
    look = {
        "marker": "*",
        "markersize": 13,
        "markeredgecolor": "black",
        "linestyle": ":",
        "zorder": 5,
        "clip_on": False,
    }
    for arch, optim, first, last, accuracy in STATED:
        if arch in set(part["arch"]) and USUAL in set(part["strategy"]):
            axes.plot([first, last], [accuracy, accuracy], color=style.OPTIMIZERS[optim], **look)
    curves = public[public["arch"].isin(part["arch"]) & public["method"].isin(part["strategy"])]
    curves = curves.assign(line=curves["source"] + ", " + curves["method"].map(words))
    looks = dict.fromkeys(curves["line"], REFERENCE)
    return draw_lines(axes, curves, "labels", "accuracy", looks, linewidth=0.8, markersize=2)


def _draw_ceilings(axes: plt.Axes, part: pd.DataFrame, ceilings: pd.DataFrame) -> pd.DataFrame:
    """The mean accuracy with all labels, across the panel: of its optimizers, or of others where they have none.

    Returns:
        the ends of the lines.
    """
    alike = ceilings[ceilings["arch"].isin(part["arch"])]
    own = alike[alike["optim"].isin(part["optim"])]
    palette = style.colours([*part["optim"].cat.categories, *ceilings["optim"]])
    ends = []
    for (optim, count), runs in (own if len(own) else alike).groupby(["optim", "labels"]):
        accuracy, name = runs["accuracy"].mean(), f"all {count:,} labels"
        axes.axhline(accuracy, color=palette[optim], linewidth=1, linestyle="--")
        line = name if set(part["optim"]) == {optim} else f"{words(optim)}, {name}"
        ends.append({"line": line, "x": part["labels"].max(), "y": accuracy, "colour": palette[optim]})
    return pd.DataFrame(ends, columns=["line", "x", "y", "colour"]).set_index("line")


def _matrix(panels: dict[str, pd.DataFrame], x_label: str, title: str = "", **options: object) -> Figure:
    """Shares in coloured cells, a panel a table."""
    tables = list(panels.values())
    widths, height = [len(table.columns) for table in tables], max(len(table) for table in tables)
    size = (1.8 + sum(2 + 0.55 * width for width in widths), 1.6 + 0.4 * height)
    ratios = {"width_ratios": widths}
    figure, grid = plt.subplots(1, len(tables), figsize=size, squeeze=False, layout="constrained", gridspec_kw=ratios)
    for axes, (name, table) in zip(grid[0], panels.items(), strict=True):
        sns.heatmap(table, annot=True, fmt=".0%", cbar=False, ax=axes, linewidths=0.5, **options)
        axes.grid(False)
        axes.set(title=name, xlabel=x_label, ylabel="", facecolor="0.97")
        if any(len(f"{column}") > 2 for column in table):
            axes.set_xticks(axes.get_xticks(), table.columns, rotation=40, ha="right", rotation_mode="anchor")
    figure.suptitle(title)
    return figure
