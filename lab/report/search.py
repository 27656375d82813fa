"""The report of a search: what each setting reached, and which were chosen."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
        style="decay",
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
    grid.set(xscale="log").set_axis_labels("learning rate", "accuracy")
    grid.set_titles(col_template="{col_name}", row_template="{row_name}")
    grid.legend.set_title("weight decay")
    for (row, column, _), part in grid.facet_data():
        axes = grid.axes[row, column]
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        for rate in part.loc[part["chosen"], "lr"].unique():
            axes.axvline(rate, color="0.6", linewidth=1, linestyle=":")
    return grid.figure


def _markdown(trials: pd.DataFrame, cost: str) -> str:
    seeds = trials["seed"].nunique()
    settings = trials.groupby([*KEYS, "chosen", "labels"], sort=False)["accuracy"]
    table = settings.agg(lambda found: found.mean(skipna=False)).unstack("labels").reset_index()
    budgets = sorted(trials["labels"].unique())
    lines = [
        f"{cost} Accuracy on the held-out images, mean of {seeds} seed{'s' if seeds > 1 else ''}; the chosen setting "
        "of each optimizer is bold.",
        "",
        "| optimizer | learning rate | weight decay | " + " | ".join(f"{count:,} labels" for count in budgets) + " |",
        "|---|---|---|" + "---|" * len(budgets),
    ]
    for _, row in table.iterrows():
        found = ["diverged" if pd.isna(row[count]) else f"{100 * row[count]:.1f} %" for count in budgets]
        cells = [words(row["optim"]), f"{row['lr']:g}", f"{row['weight_decay']:g}", *found]
        lines.append("| " + " | ".join(f"**{cell}**" if row["chosen"] else cell for cell in cells) + " |")
    return "\n".join(lines) + "\n"
