"""What the seeds of a study allow to say: paired by the first labelled set, and nothing from fewer than three."""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lab.measures.budget import area_under_budget_curve, labels_to_reach

FEWEST_SEEDS = 3
CONFIDENCE = 0.95
# Accuracies differ by an image at least; less is rounding.
NO_SPREAD = 1e-9

# A figure of one run, from its rows of the tidy table.
Measure = Callable[[pd.DataFrame], float]


class Estimate(NamedTuple):
    """A mean over seeds. low, high: its 95 % interval by Student's t; p: of a mean of zero, two-sided.

    All three are None from fewer than three seeds, and where all have the same value: without a spread there is
    no t.
    """

    mean: float
    seeds: int
    low: float | None = None
    high: float | None = None
    p: float | None = None


def area(run: pd.DataFrame) -> float:
    """Area under the budget curve; NaN for a single cycle."""
    found = area_under_budget_curve(run["labels"], run["accuracy"])
    return np.nan if found is None else found


def final_accuracy(run: pd.DataFrame) -> float:
    return run["accuracy"].iloc[-1]


def mean_accuracy(labels: list[int]) -> Measure:
    """Mean accuracy over the cycles with these numbers of labels."""
    return lambda run: run.loc[run["labels"].isin(labels), "accuracy"].mean()


def by_seed(tidy: pd.DataFrame, group: str, measure: Measure) -> pd.Series:
    """The measure of each run of a group, by seed; empty where there is no such group."""
    runs = tidy[tidy["group"] == group].sort_values("cycle").groupby("seed")
    return pd.Series({seed: measure(run) for seed, run in runs}, dtype=float)


def estimate(values: pd.Series) -> Estimate:
    """Mean and interval of one figure a seed."""
    count = len(values)
    if count < FEWEST_SEEDS or np.ptp(values) < NO_SPREAD:
        return Estimate(values.mean(), count)
    test = stats.ttest_1samp(values, 0)
    interval = test.confidence_interval(CONFIDENCE)
    return Estimate(values.mean(), count, interval.low, interval.high, test.pvalue)


def widened(found: Estimate, count: int) -> tuple[float, float]:
    """The interval of 1 − 5 % / count (Bonferroni), from that of 95 %."""
    level, wider = (stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / number, found.seeds - 1) for number in (1, count))
    assert found.low is not None and found.high is not None, "an interval"
    half = (found.high - found.low) / 2 * wider / level
    return found.mean - half, found.mean + half


def difference(tidy: pd.DataFrame, group: str, other: str, measure: Measure) -> Estimate:
    """Group minus other, paired by seed; a seed whose two runs began from different labelled sets is no pair."""
    one, two = by_seed(tidy, group, measure), by_seed(tidy, other, measure)
    return estimate((one - two)[_is_pair(tidy, group, other)].dropna())


def _is_pair(tidy: pd.DataFrame, group: str, other: str) -> pd.Series:
    """Of every seed of either group, whether both began from the same labelled set."""
    runs = tidy[tidy["group"].isin([group, other])].groupby("seed")
    return (runs["first_set"].nunique() == 1) & (runs["group"].nunique() == 2)


def unpaired_seeds(tidy: pd.DataFrame) -> list[int]:
    """Seeds whose runs began from different labelled sets."""
    sets = tidy.groupby("seed")["first_set"].nunique()
    return [int(seed) for seed in sets.index[sets > 1]]


def summary(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a group: seeds, final accuracy, area and labels to the target; deviations from three seeds on."""
    rows = []
    for group, runs in tidy.groupby("group", sort=False):
        final, areas = by_seed(tidy, group, final_accuracy), by_seed(tidy, group, area)
        needed = [
            labels_to_reach(run["target_accuracy"].iloc[0], run["labels"], run["accuracy"])
            for _, run in runs.sort_values("cycle").groupby("seed")
        ]
        reached = [count for count in needed if count is not None]
        rows.append(
            {
                "group": group,
                "seeds": len(final),
                "final_accuracy": final.mean(),
                "final_accuracy_sd": deviation(final),
                "area": areas.mean(),
                "area_sd": deviation(areas),
                # A median of runs that all end somewhere: one that never reaches the target lies above all others.
                "labels_to_target": np.median([np.inf if count is None else count for count in needed]),
                "reached": f"{len(reached)} of {len(needed)}",
            }
        )
    return pd.DataFrame(rows)


def deviation(values: pd.Series) -> float:
    """Standard deviation over seeds; NaN from fewer than three."""
    return values.std() if len(values) >= FEWEST_SEEDS else np.nan


def pairwise(tidy: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Every pair of groups of one architecture: difference, interval, p and p by Holm over all pairs here.

    No row from fewer than three seeds.
    """
    rows = []
    for _, table in tidy.groupby("arch", sort=False):
        for group, other in combinations(table["group"].unique(), 2):
            found = difference(tidy, group, other, measure)
            if found.p is not None:
                rows.append({"group": group, "other": other, **found._asdict()})
    table = pd.DataFrame(rows, columns=["group", "other", *Estimate._fields])
    adjusted = multipletests(table["p"].astype(float), method="holm")[1] if len(table) else []
    return table.assign(p_holm=adjusted)


def wins(tidy: pd.DataFrame) -> pd.DataFrame:
    """Share of cycles in which the row's group is better than the column's, p < 0.05 in a paired t-test.

    NaN where two groups have fewer than three seeds in common. (Ash et al., 2020, count penalties so.)
    """
    groups = tidy["group"].unique()
    table = pd.DataFrame(np.nan, index=groups, columns=groups)
    for group, other in combinations(groups, 2):
        ours = tidy[tidy["group"] == group].pivot(index="cycle", columns="seed", values="accuracy")
        theirs = tidy[tidy["group"] == other].pivot(index="cycle", columns="seed", values="accuracy")
        is_pair = _is_pair(tidy, group, other)
        gaps = (ours - theirs)[is_pair.index[is_pair]].dropna(how="all")
        if is_pair.sum() < FEWEST_SEEDS or gaps.empty:
            continue
        found = [estimate(row.dropna()) for _, row in gaps.iterrows()]
        clear = np.array([item.p is not None and item.p < 1 - CONFIDENCE for item in found])
        means = np.array([item.mean for item in found])
        table.loc[group, other], table.loc[other, group] = (clear & (means > 0)).mean(), (clear & (means < 0)).mean()
    return table
