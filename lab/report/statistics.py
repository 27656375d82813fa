"""What the seeds of a study allow to say: paired by the first labelled set, and nothing from fewer than three."""

from collections.abc import Callable, Iterable
from itertools import combinations
from math import floor
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from lab.errors import BadInput
from lab.measures.budget import area_under_budget_curve, labels_to_reach
from lab.process.costs import SECONDS

FEWEST_SEEDS = 3
CONFIDENCE = 0.95
POWER = 0.8
# Accuracies differ by an image at least; less is rounding.
NO_SPREAD = 1e-9
# Of the training accuracy of the arm's best seed, with as many labels.
COLLAPSED_BELOW = 0.75

# A figure of each run, from a table as ``runs_of`` makes it.
Measure = Callable[[pd.DataFrame], pd.Series]


class Estimate(NamedTuple):
    """A mean over seeds. error: its standard error; low, high: its 95 % interval by Student's t; p: of a mean of zero.

    All four are None from fewer than three seeds, and where all have the same value: without a spread there is
    no t.
    """

    mean: float
    seeds: int
    error: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def p_above(self, bound: float) -> float:
        """One-sided p of "the mean is at most the bound": small where it lies clearly above."""
        return float(stats.t.sf(self._t(bound), self.seeds - 1))

    def p_below(self, bound: float) -> float:
        """One-sided p of "the mean is at least the bound": small where it lies clearly below."""
        return float(stats.t.cdf(self._t(bound), self.seeds - 1))

    def p_within(self, margin: float) -> float:
        """p of "the mean is at least ±margin": two one-sided tests, below 5 % where the 90 % interval lies within."""
        return max(self.p_above(-margin), self.p_below(margin))

    def _t(self, bound: float) -> float:
        assert self.error is not None, "a spread over seeds"
        return (self.mean - bound) / self.error


def runs_of(tidy: pd.DataFrame) -> pd.DataFrame:
    """Accuracies: a row a run, by group, seed and hash of its first labelled set; a column a number of labels.

    Rows of two groups pair by their seed, first set and versions of PyTorch, cycle by cycle: another version gives
    other numbers.
    """
    runs = with_versions(tidy)
    return runs.pivot(index=["group", "seed", "first_set", "versions"], columns="labels", values="accuracy")


def with_versions(tidy: pd.DataFrame) -> pd.DataFrame:
    """With ``versions``, those of PyTorch that computed a run: of all its cycles, or else each one's."""
    of_run = tidy.groupby(["group", "seed"])["torch"]
    return tidy.assign(versions=of_run.transform(lambda all_: " ".join(all_ if all_.nunique() > 1 else all_[:1])))


def area(runs: pd.DataFrame) -> pd.Series:
    """Area under the budget curve; NaN for a single cycle."""
    areas = [area_under_budget_curve(run.dropna().index, run.dropna()) for _, run in runs.iterrows()]
    return pd.Series(areas, runs.index, dtype=float)


def final_accuracy(runs: pd.DataFrame) -> pd.Series:
    return runs.ffill(axis=1).iloc[:, -1]


def mean_accuracy(labels: Iterable[int]) -> Measure:
    """Mean accuracy over the cycles with these numbers of labels; NaN where a run lacks one."""
    return lambda runs: runs.reindex(columns=list(labels)).mean(axis=1, skipna=False)


def contrast(runs: pd.DataFrame, weights: dict[str, float], measure: Measure) -> pd.Series:
    """Weighted sum of a measure over groups, one value a seed: {A: 1, B: -1} is A minus B.

    Only seeds that every group has, all from the same first labelled set; none where a group is missing.
    """
    if any(group not in runs.index for group in weights):
        return pd.Series(dtype=float)
    return sum(weight * measure(runs.loc[group]) for group, weight in weights.items()).dropna()


def estimate(values: pd.Series) -> Estimate:
    """Mean and interval of one figure a seed."""
    count = len(values)
    if count < FEWEST_SEEDS or np.ptp(values) < NO_SPREAD:
        return Estimate(values.mean(), count)
    mean, error = values.mean(), values.std() / np.sqrt(count)
    half = stats.t.isf((1 - CONFIDENCE) / 2, count - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, count - 1)
    return Estimate(mean, count, error, mean - half, mean + half, p)


def sign_flip(values: pd.Series) -> float:
    """p of a mean of zero, two-sided: the share of all choices of signs that bring it as far from zero.

    It does not assume a normal distribution. With n seeds it is never less than 2 / 2ⁿ: 0.25 with three, 0.03 with six.
    Exact up to 14 seeds, from then on with random signs. NaN of fewer than two.
    """
    if len(values) < 2:
        return np.nan
    options = {"permutation_type": "samples", "n_resamples": 2**14, "rng": 0, "vectorized": True}
    return float(stats.permutation_test((values.to_numpy(),), np.mean, **options).pvalue)


def seeds_to_find(size: float, deviation: float, alpha: float = 1 - CONFIDENCE) -> int:
    """Seeds with which a paired t-test finds a difference of this size with 80 % power.

    Args:
        deviation: of the paired differences over seeds.
        alpha: level of the two-sided test.
    """
    # By the normal distribution, which never asks for more than Student's t.
    quantiles = stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER)
    count = max(FEWEST_SEEDS, floor((quantiles * deviation / size) ** 2))
    while TTestPower().power(size / deviation, count, alpha) < POWER:
        count += 1
    return count


def seed_hours(tidy: pd.DataFrame, groups: Iterable[str]) -> float:
    """Hours of one seed more of these groups, by the mean of their runs; NaN where all of a group lack seconds."""
    seconds = tidy[SECONDS].sum(axis=1, skipna=False)
    runs = tidy.assign(seconds=seconds)[tidy["group"].isin(groups)].groupby(["group", "seed"])["seconds"]
    return runs.sum(skipna=False).groupby("group").mean().sum(skipna=False) / 3600


def collapsed(tidy: pd.DataFrame) -> pd.DataFrame:
    """The rows of cycles whose training collapsed: with a training accuracy below three quarters of the best seed's.

    The best seed of the same arm with as many labels, since an arm's networks fit the more the fewer labels they have.
    Columns of the table, and best.
    """
    best = tidy.groupby(["group", "labels"])["training_accuracy"].transform("max")
    return tidy.assign(best=best)[tidy["training_accuracy"] < COLLAPSED_BELOW * best]


def seeds_with_several(tidy: pd.DataFrame, column: str) -> list[int]:
    """Seeds whose runs differ in a column: in ``first_set``, or in the version of ``torch``."""
    values = tidy.groupby("seed")[column].nunique()
    return [int(seed) for seed in values.index[values > 1]]


def judged_by(tidy: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The table with another measure in the place of accuracy, so that all that compares accuracies compares it.

    Raises:
        BadInput: cycles lack it.
    """
    if tidy[measure].isna().any():
        missing = ", ".join(tidy.loc[tidy[measure].isna(), "arm"].unique()[:3])
        raise BadInput(f"measure = {measure!r}: not in the table of {missing}; remove it, or run these arms again")
    return tidy.assign(accuracy=tidy[measure])


def summary(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a group: seeds, final accuracy, area and labels to the target; deviations from three seeds on."""
    rows = []
    every, target = runs_of(tidy), tidy["target_accuracy"].iloc[0]
    for group in tidy["group"].unique():
        runs = every.loc[group]
        final, areas = final_accuracy(runs), area(runs)
        needed = [labels_to_reach(target, run.dropna().index, run.dropna()) for _, run in runs.iterrows()]
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
    """Every pair of groups of one architecture: difference, interval, p; p by sign flips, and by Holm over all pairs.

    No row from fewer than three seeds.
    """
    rows = []
    runs = runs_of(tidy)
    for _, table in tidy.groupby("arch", sort=False):
        for group, other in combinations(table["group"].unique(), 2):
            values = contrast(runs, {group: 1, other: -1}, measure)
            found = estimate(values)
            if found.p is not None:
                rows.append({"group": group, "other": other, **found._asdict(), "p_flip": sign_flip(values)})
    table = pd.DataFrame(rows, columns=["group", "other", *Estimate._fields, "p_flip"])
    return table.assign(p_holm=holm(table["p"].astype(float)))


def holm(p: Iterable[float]) -> list[float]:
    """Values of p, adjusted by Holm: the smallest times their number, the next times one less, none below another."""
    return multipletests(list(p), method="holm")[1].tolist()


def wins(tidy: pd.DataFrame) -> pd.DataFrame:
    """Share of cycles in which the row's group is better than the column's, p < 0.05 in a paired t-test.

    NaN where two groups have fewer than three seeds in common. (Ash et al., 2020, count penalties so.)
    """
    runs, groups = runs_of(tidy), tidy["group"].unique()
    table = pd.DataFrame(np.nan, index=groups, columns=groups)
    for group, other in combinations(groups, 2):
        gaps = (runs.loc[group] - runs.loc[other]).dropna(how="all").dropna(axis=1, how="all")
        if len(gaps) < FEWEST_SEEDS:
            continue
        found = [estimate(gaps[labels].dropna()) for labels in gaps]
        clear = np.array([item.p is not None and item.p < 1 - CONFIDENCE for item in found])
        means = np.array([item.mean for item in found])
        table.loc[group, other], table.loc[other, group] = (clear & (means > 0)).mean(), (clear & (means < 0)).mean()
    return table
