"""Two effects of an optimizer taken apart: it learns differently from the same labels, and it chooses other labels.

XY is the arm that X trained on what the arm Y acquired; XX is X as it is. The gap between A and B is the sum of

    learning(A, B) = ½ [(AA − BA) + (AB − BB)]    both trained on the same labelled sets
    choosing(A, B) = ½ [(AA − AB) + (BA − BB)]    the same optimizer on either's sets

With one labelled set for all, before the first query, choosing is zero. The interaction AA − BA − AB + BB is shown
and not interpreted: the diagonal is also "on one's own choices". Where A and B also replayed their own choices under
another seed, these arms take the place of AA and BB in it, and no arm is on its own choices any more.

Lowell et al. (2019, arXiv 1807.04801) crossed models so; nobody was found who crossed optimizers.
"""

from collections.abc import Callable, Sequence

import pandas as pd

from lab.report.statistics import Measure, area, contrast, estimate, mean_accuracy, runs_of
from lab.study.analysis import ANOTHER_SEED, CROSSED, crossed

Weights = dict[str, float]


def gap(one: str, two: str) -> Weights:
    return {one: 1, two: -1}


def learning(one: str, two: str) -> Weights:
    return {one: 0.5, crossed(two, one): -0.5, crossed(one, two): 0.5, two: -0.5}


def choosing(one: str, two: str) -> Weights:
    return {one: 0.5, crossed(one, two): -0.5, crossed(two, one): 0.5, two: -0.5}


def interaction(one: str, two: str) -> Weights:
    return {one: 1, crossed(two, one): -1, crossed(one, two): -1, two: 1}


def interaction_of_others(one: str, two: str) -> Weights:
    """The interaction without arms on their own choices: the diagonal replays them under another seed."""
    weights = interaction(one, two)
    return {f"{name}{ANOTHER_SEED}" if name in (one, two) else name: weight for name, weight in weights.items()}


EFFECTS: dict[str, Callable[[str, str], Weights]] = {
    "gap": gap,
    "learning": learning,
    "choosing": choosing,
    "interaction": interaction,
    "interaction, under another seed": interaction_of_others,
}


def pairs(tidy: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of groups of which each was trained on the other's choices, with one seed at least."""
    groups = list(tidy["group"].unique())
    return [
        (one, two)
        for number, one in enumerate(groups)
        for two in groups[number + 1 :]
        if CROSSED not in one + two and len(whole(tidy, one, two))
    ]


def whole(tidy: pd.DataFrame, one: str, two: str) -> pd.DataFrame:
    """The rows of the seeds that have all four arms of a pair: over other seeds the parts would not add up."""
    four = [one, two, crossed(one, two), crossed(two, one)]
    counts = tidy[tidy["group"].isin(four)].groupby("seed")["group"].nunique()
    return tidy[tidy["seed"].isin(counts.index[counts == len(four)])]


def matrix(tidy: pd.DataFrame, groups: Sequence[str], measure: Measure = area) -> pd.DataFrame:
    """Means over seeds: a row a group that was trained, a column the group that chose; NaN without such an arm."""
    runs = runs_of(tidy)
    return pd.DataFrame(
        {
            chosen: {trained: contrast(runs, {crossed(trained, chosen): 1}, measure).mean() for trained in groups}
            for chosen in groups
        }
    )


def effects(tidy: pd.DataFrame, one: str, two: str) -> pd.DataFrame:
    """The gap between two groups taken apart, at each budget and over the area; effects whose arms the table has.

    Returns:
        columns labels (None for the area), effect, and those of an Estimate, paired by seed, of whole seeds.
    """
    tidy = whole(tidy, one, two)
    runs = runs_of(tidy)
    found = {name: weights(one, two) for name, weights in EFFECTS.items()}
    found = {name: weights for name, weights in found.items() if set(weights) <= set(tidy["group"])}
    measures = {None: area} | {labels: mean_accuracy([labels]) for labels in runs.columns}
    rows = [
        {"labels": labels, "effect": name, **estimate(contrast(runs, weights, measure))._asdict()}
        for labels, measure in measures.items()
        for name, weights in found.items()
    ]
    return pd.DataFrame(rows)


def overlap(one: Sequence[set[int]], two: Sequence[set[int]], candidates: float) -> pd.DataFrame:
    """How much of what two arms acquired is the same, up to each query.

    Args:
        one, two: the indices that each arm acquired, a set a query; the cold start is in none.
        candidates: images that the first query could choose from; NaN where that is not known, nor chance then.

    Returns:
        a row a query: acquired (images of an arm so far), jaccard (common of all that either acquired), chance (of as
        many images drawn at random, by the expected number in common).
    """
    rows = []
    ours: set[int] = set()
    theirs: set[int] = set()
    for mine, other in zip(one, two, strict=True):
        ours, theirs = ours | mine, theirs | other
        common = len(ours) * len(theirs) / candidates
        chance = common / (len(ours) + len(theirs) - common)
        rows.append({"acquired": len(ours), "jaccard": len(ours & theirs) / len(ours | theirs), "chance": chance})
    return pd.DataFrame(rows)
