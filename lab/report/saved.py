"""What an arm saves beside another: how much more the other takes for the accuracy that the arm has at each budget.

Labels beside random queries; image passes beside networks that are trained anew each cycle. Of a run that has accuracy
a and has spent s at some budget,

    saved = S(a) − s

where S(a) is where the curve of the other arm, of the same seed, first labelled set and PyTorch, reaches a: on straight
lines between its budgets, after the rising curve nearest to it (isotonic regression) took its place. Where a noisy
curve *first* reaches a is too early. Positive where the arm needs less. It is censored where that curve never reaches a
(more than its last budget) or begins above a (less than its first). At the last budget of the other arm nothing above
zero is seen uncensored, so no interval is shown there.
"""

import re
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from lab.report.statistics import estimate, with_versions
from lab.study.analysis import CROSSED

LABELS, PASSES = "labels", "image_passes"
RANDOM = ("random", "random_without_module")
FRESH = "fresh"


def to_reach(accuracy: float, spent: ArrayLike, curve: ArrayLike) -> tuple[float, int]:
    """Where the rising curve nearest to a curve reaches an accuracy.

    Args:
        spent, curve: (cycles,), ascending, and the accuracy there.

    Returns:
        what is spent there, and 0; the last of what is spent and 1 where the curve never reaches it; the first and −1
        where it begins above.
    """
    budgets, rising = np.asarray(spent, dtype=float), isotonic_regression(np.asarray(curve, dtype=float)).x
    reached = np.flatnonzero(rising >= accuracy)
    if not len(reached):
        return float(budgets[-1]), 1
    after = reached[0]
    if after == 0:
        return float(budgets[0]), -1 if rising[0] > accuracy else 0
    ends = slice(after - 1, after + 1)
    return float(np.interp(accuracy, rising[ends], budgets[ends])), 0


def saved(tidy: pd.DataFrame, group: str, other: str, what: str) -> pd.DataFrame:
    """What a group saves beside another at each budget after the first, where nothing is chosen or carried over yet.

    Args:
        what: ``LABELS`` or ``PASSES``.

    Returns:
        a row a budget: labels; more, less (seeds that are censored so); and those of an Estimate over the seeds that
        both groups have. Its mean is a bound where seeds are censored to one side, and NaN where they are to both.
    """
    table = with_versions(with_passes(tidy))
    runs = {pair: run.sort_values("labels") for pair, run in table.groupby(["group", "seed", "first_set", "versions"])}
    rows = []
    for (name, *pair), run in runs.items():
        reference = runs.get((other, *pair))
        if name != group or reference is None:
            continue
        for labels, spent, accuracy in run[["labels", what, "accuracy"]].iloc[1:].itertuples(index=False):
            needed, side = to_reach(accuracy, reference[what], reference["accuracy"])
            is_last = spent >= reference[what].max()
            rows.append(
                {"labels": labels, "saved": needed - spent, "more": side > 0, "less": side < 0, "last": is_last}
            )
    found = []
    for labels, seeds in pd.DataFrame(rows, columns=["labels", "saved", "more", "less", "last"]).groupby("labels"):
        more, less, values = int(seeds["more"].sum()), int(seeds["less"].sum()), seeds["saved"]
        # Without the value of a seed there is no interval.
        known = estimate(values)
        if more or less or seeds["last"].any():
            known = known._replace(
                mean=np.nan if more and less else known.mean, error=None, low=None, high=None, p=None
            )
        found.append({"labels": labels, "more": more, "less": less, **known._asdict()})
    return pd.DataFrame(found)


def beside_random(tidy: pd.DataFrame) -> dict[str, str]:
    """The arm with random queries that each other group is held against: all else is alike, the module if possible."""
    module = tidy.groupby("group")["loss_spearman"].count() > 0
    strategies = tidy.drop_duplicates("group").set_index("group")["strategy"]
    chosen = {*strategies}
    return _beside(
        tidy,
        lambda group: _without_strategy(group.split(CROSSED)[0].split("-"), strategies[group], chosen),
        lambda group: strategies[group] in RANDOM,
        lambda group, other: module[group] == module[other],
    )


def _without_strategy(words: list[str], own: str, all_: set[str]) -> list[str]:
    """The words of a group's name without its strategy; a cold start of the same name stays."""
    found = own if own in words else next((word for word in words if word in all_), None)
    return [word for number, word in enumerate(words) if found is None or number != words.index(found)]


def beside_fresh(tidy: pd.DataFrame) -> dict[str, str]:
    """The arm whose networks begin anew each cycle that each other initialisation is held against."""
    pattern = re.compile(r"(?<!\S)initialisation=(\S+)")
    starts = {found[1].replace("-", "_") for text in tidy["settings"].unique() if (found := pattern.search(text))}
    return _beside(
        tidy,
        lambda group: [word for word in group.split("-") if word not in starts],
        lambda group: FRESH in starts.intersection(group.split("-")),
        lambda group, other: True,
    )


def _beside(
    tidy: pd.DataFrame,
    rest: Callable[[str], list[str]],
    is_reference: Callable[[str], bool],
    is_closer: Callable[[str, str], bool],
) -> dict[str, str]:
    groups: Iterable[str] = tidy["group"].unique()
    found = {}
    for group in groups:
        alike = [other for other in groups if is_reference(other) and rest(other) == rest(group)]
        if alike and not is_reference(group):
            found[group] = max(alike, key=lambda other: is_closer(group, other))
    return found


def with_passes(tidy: pd.DataFrame) -> pd.DataFrame:
    """With image_passes, up to and with each cycle."""
    return tidy.assign(image_passes=tidy.groupby("arm")["training_images"].cumsum())
