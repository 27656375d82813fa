"""The report of a search: what each setting reached, and which were chosen."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from lab.data.files import replaced, write_text
from lab.report.curve import set_theme
from lab.report.style import words

KEYS = ["optim", "lr", "weight_decay"]


def write(tidy: pd.DataFrame, trials: pd.DataFrame, best: pd.DataFrame, cost: str, folder: Path) -> None:
    """Write tidy.csv, search.csv (a row a trial), search.md and search.png.

    Args:
        tidy: the table of the finished trials.
        trials, best: as ``lab.study.choice`` has them.
        cost: a sentence that counts trials and labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = best[KEYS].apply(tuple, axis=1).tolist()
    marked = trials.assign(chosen=trials[KEYS].apply(tuple, axis=1).isin(chosen))
    write_text(folder / "tidy.csv", tidy.to_csv(index=False))
    write_text(folder / "search.csv", marked.to_csv(index=False))
    write_text(folder / "search.md", _markdown(marked, cost))
    figure = draw(marked)
    with replaced(folder / "search.png") as file:
        figure.savefig(file, dpi=130, format="png", bbox_inches="tight")
    plt.close(figure)


def draw(trials: pd.DataFrame) -> Figure:
    """Accuracy against the learning rate, a line a weight decay: a column an optimizer, a row a budget."""
    set_theme(font_scale=0.9)
    decays = [f"{decay:g}" for decay in sorted(trials["weight_decay"].unique())]
    table = trials.assign(
        optimizer=trials["optim"].map(words),
        budget=trials["labels"].map("{:,} labels".format),
        decay=trials["weight_decay"].map("{:g}".format),
    )
    grid = sns.relplot(
        table,
        x="lr",
        y="accuracy",
        hue="decay",
        hue_order=decays,
        style="decay",
        style_order=decays,
        markers=True,
        row="budget",
        col="optimizer",
        kind="line",
        errorbar=("pi", 100),
        height=2.4,
        aspect=1.2,
        palette="viridis",
        facet_kws={"sharex": "col", "sharey": "row", "margin_titles": True},
    )
    grid.set(xscale="log").set_axis_labels("learning rate", "held-out accuracy")
    # The budget stands at the left: at the right its title would touch the legend.
    grid.set_titles(col_template="{col_name}", row_template="")
    for axes, budget in zip(grid.axes[:, 0], grid.row_names, strict=True):
        axes.set_ylabel(f"held-out accuracy\n{budget}")
    grid.legend.set_title("weight decay")
    for (row, column, _), part in grid.facet_data():
        axes = grid.axes[row, column]
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.xaxis.set_major_locator(FixedLocator(sorted(part["lr"].unique())))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        chosen = part[part["chosen"]].groupby("lr")["accuracy"].mean()
        ring = {"markersize": 13, "markerfacecolor": "none", "markeredgecolor": "black", "clip_on": False}
        axes.plot(chosen.index, chosen, "o", **ring)
        missing = part.loc[part["accuracy"].isna(), "lr"].unique()
        axes.plot(missing, [0.04] * len(missing), "kx", transform=axes.get_xaxis_transform())
    best = trials[trials["chosen"]].drop_duplicates("optim")
    chosen = [f"{words(row.optim)} {row.lr:g} with a decay of {row.weight_decay:g}" for row in best.itertuples()]
    note = f"Rings: the chosen settings, {', '.join(chosen)}."
    if trials["accuracy"].isna().any():
        note += " ×: a trial with this rate diverged, or is not finished."
    grid.figure.supxlabel(note, size="small", color="0.4", y=-0.02)
    return grid.figure


def _markdown(trials: pd.DataFrame, cost: str) -> str:
    seeds = trials["seed"].nunique()
    settings = trials.groupby([*KEYS, "chosen", "labels"], sort=False)["accuracy"]
    table = settings.agg(lambda found: found.mean(skipna=False)).unstack("labels").reset_index()
    # The chosen ones first, the others as the grids list them.
    first = {optim: number for number, optim in enumerate(trials["optim"].unique())}
    order = table.assign(chosen=~table["chosen"], optim=table["optim"].map(first))
    table = table.loc[order.sort_values(["chosen", *KEYS]).index]
    budgets = sorted(trials["labels"].unique())
    lines = [
        f"{cost} Accuracy on the held-out images, mean of {seeds} seed{'s' if seeds > 1 else ''}; the chosen setting "
        "of each optimizer is bold.",
        "",
        "| optimizer | learning rate | weight decay | " + " | ".join(f"{count:,} labels" for count in budgets) + " |",
        "|---|---|---|" + "---|" * len(budgets),
    ]
    for _, row in table.iterrows():
        found = ["–" if pd.isna(row[count]) else f"{100 * row[count]:.1f} %" for count in budgets]
        cells = [words(row["optim"]), f"{row['lr']:g}", f"{row['weight_decay']:g}", *found]
        lines.append("| " + " | ".join(f"**{cell}**" if row["chosen"] else cell for cell in cells) + " |")
    if table[budgets].isna().any(axis=None):
        lines += ["", "–: a trial diverged, or is not finished."]
    return "\n".join(lines) + "\n"
