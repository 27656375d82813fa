"""Tables of a report as text: what arms save, what they acquired in common, ceilings, and what was searched."""

import pandas as pd

from lab.report import saved, style
from lab.report.statistics import FEWEST_SEEDS, estimate
from lab.report.style import words
from lab.study.arms import ALL_LABELS


def overlap_table(overlaps: pd.DataFrame, one: str, two: str) -> pd.DataFrame | None:
    """What two groups acquired in common, a row a budget: means over pairs of runs, and what chance gives.

    Pairs of seeds share runs, so that they have no interval. None where nothing is known of the two.
    """
    pairs = overlaps[["group", "other"]].apply(frozenset, axis=1)
    columns = {
        f"{words(one)} and {words(two)}, the same seed": {one, two},
        f"{words(one)} under two seeds": {one},
        f"{words(two)} under two seeds": {two},
    }
    found = {title: overlaps[pairs == groups].groupby("labels") for title, groups in columns.items()}
    between, *_ = found.values()
    if not len(between):
        return None
    cells = {title: rows["jaccard"].mean().map("{:.1%}".format) for title, rows in found.items()}
    intervals = {labels: estimate(seeds) for labels, seeds in between["jaccard"]}
    limits = {labels: f" [{e.low:.1%}, {e.high:.1%}]" for labels, e in intervals.items() if e.low is not None}
    first, *_ = cells
    cells[first] += pd.Series(limits, cells[first].index, dtype=object).fillna("")
    table = pd.DataFrame(
        {
            "images acquired by each": between["acquired"].mean().map("{:,.0f}".format),
            **cells,
            "by chance": between["chance"].mean().map("{:.1%}".format).replace("nan%", "not known"),
        }
    )
    return table.astype(object).fillna("–").rename(index="{:,}".format).rename_axis("labels").reset_index()


def ceiling_lines(ceilings: pd.DataFrame) -> list[str]:
    """What arms with all labels reach, a line a group."""
    lines = []
    for group, rows in ceilings.groupby("group", sort=False):
        reached = rows["accuracy"]
        spread = f" ± {100 * reached.std():.1f}" if len(reached) >= FEWEST_SEEDS else ""
        labels = f"{rows['labels'].iloc[0]:,}"
        lines.append(
            f"{words(str(group).removesuffix(ALL_LABELS))} with all {labels} labels: "
            f"{100 * reached.mean():.1f}{spread} % ({style.seeds(len(reached))})"
        )
    return lines


def saved_cells(tidy: pd.DataFrame, beside: dict[str, str], what: str, title: str) -> pd.DataFrame:
    """What each group saves, as text: a row a group, a column a budget, all under one title."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for group, other in beside.items():
        for _, row in saved.saved(tidy, group, other, what).iterrows():
            cells.setdefault((title, f"{row['labels']:,.0f}"), {})[group] = saved_cell(row)
    return pd.DataFrame(cells, index=tidy["group"].unique()).fillna("–")


def saved_cell(row: pd.Series) -> str:
    """A mean and its interval; of seeds that are censored, a bound and how many."""
    if row["seeds"] < FEWEST_SEEDS:
        return "–"
    if row["more"] and row["less"]:
        return f"not known ({row['more']:.0f} above, {row['less']:.0f} below)"
    mean = f"{round(row['mean']):+,}" if round(row["mean"]) else "0"
    if censored := int(row["more"] + row["less"]):
        return f"{'≥' if row['more'] else '≤'} {mean} ({censored} of {row['seeds']:.0f})".replace("-", "−")
    limits = "" if pd.isna(row["low"]) else f" [{round(row['low']):,}, {round(row['high']):,}]"
    return f"{mean}{limits}".replace("-", "−")


def passes_table(tidy: pd.DataFrame) -> pd.DataFrame:
    """Image passes that networks which are carried over save beside those that begin anew, a row a group."""
    beside = saved.beside_fresh(tidy)
    cells = saved_cells(tidy, beside, saved.PASSES, "image passes saved at a budget of").loc[list(beside)]
    names = [f"{words(group)} beside {words(other)}" for group, other in beside.items()]
    return cells.set_axis(names).rename_axis("arm").reset_index()


def account_table(account: pd.DataFrame) -> pd.DataFrame:
    """What was searched, as text, a row a group."""
    numbers = account[["trials", "drawn", "held_out"]].map("{:,}".format)
    return pd.DataFrame(
        {
            "arm": account["group"].map(words),
            "settings searched": account["searched"],
            "trials": numbers["trials"],
            "labels to train trials on": numbers["drawn"],
            "labels held out": numbers["held_out"],
        }
    )
