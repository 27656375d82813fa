"""The answers to what a study asked beforehand."""

from collections.abc import Iterable
from enum import StrEnum

import pandas as pd

from lab.report import decomposition
from lab.report.statistics import (
    CONFIDENCE,
    FEWEST_SEEDS,
    Estimate,
    Measure,
    area,
    contrast,
    estimate,
    holm,
    mean_accuracy,
    runs_of,
    seed_hours,
    seeds_to_find,
    sign_flip,
)
from lab.report.style import seeds, words
from lab.study.analysis import Analysis, Question

WEIGHTS = {
    "difference": decomposition.gap,
    "learning": decomposition.learning,
    "choosing": decomposition.choosing,
}


class Outcome(StrEnum):
    """The last but one: where a difference is clear, and clearly smaller than the margin."""

    DIFFERENCE = "a difference"
    NONE = "no difference of that size"
    SMALL = "a difference, but none of that size"
    UNDECIDED = "undecided"


def answers(tidy: pd.DataFrame, analysis: Analysis) -> pd.DataFrame:
    """A row a question: rank, name, asked (in words), outcome, and its figures.

    Those of an Estimate; p_flip by sign flips; p_holm of a difference and p_within of less than the margin, two
    one-sided tests, both corrected over all questions of the rank, answered or not. needed: seeds with which a
    difference of the margin would be found with 80 % power at the level that the correction begins with; hours: of the
    seeds that are missing; both where undecided.
    """
    runs = runs_of(tidy)
    return pd.concat(
        [
            _of_rank(tidy, runs, questions, analysis.equivalence).assign(rank=rank)
            for rank, questions in (("primary", analysis.primary), ("secondary", analysis.secondary))
            if questions
        ],
        ignore_index=True,
    )


def answer(question: pd.Series) -> str:
    """The answer to a question, a row of ``answers``, in words."""
    if question["seeds"] < FEWEST_SEEDS:
        return f"not tested: {seeds(question['seeds'])}" if question["seeds"] else "not finished"
    if question["outcome"] in (Outcome.DIFFERENCE, Outcome.SMALL):
        return f"{question['outcome']}, {'above' if question['mean'] > 0 else 'below'} zero"
    return str(question["outcome"])


def _of_rank(tidy: pd.DataFrame, runs: pd.DataFrame, questions: list[Question], margin: float) -> pd.DataFrame:
    rows = []
    for question in questions:
        weights = WEIGHTS[question.kind](*question.groups)
        measure, when = _measure(question, _common(runs, weights))
        values = contrast(runs, weights, measure)
        found = estimate(values) if len(values) else Estimate(float("nan"), 0)
        text = f"{words(question.groups[0])} − {words(question.groups[1])}, {when}"
        rows.append(
            {
                "name": question.name,
                "asked": text if question.kind == "difference" else f"{question.kind}: {text}",
                **found._asdict(),
                "p_flip": sign_flip(values),
                "p_within": found.p_within(margin) if found.error else None,
                "hours": seed_hours(tidy, weights),
            }
        )
    table = pd.DataFrame(rows)
    # What has no figure yet counts as well: what was asked decides the correction, not what was found.
    table["p_holm"] = holm(table["p"].astype(float).fillna(1))
    table["p_within"] = holm(table["p_within"].astype(float).fillna(1))
    level = 1 - CONFIDENCE
    outcomes = {
        (True, False): Outcome.DIFFERENCE,
        (True, True): Outcome.SMALL,
        (False, True): Outcome.NONE,
        (False, False): Outcome.UNDECIDED,
    }
    is_clear = zip(table["p_holm"] < level, table["p_within"] < level, strict=True)
    table["outcome"] = [outcomes[bool(apart), bool(within)] for apart, within in is_clear]
    is_open = (table["outcome"] == Outcome.UNDECIDED) & table["error"].notna()
    deviations = table["error"].astype(float) * table["seeds"] ** 0.5
    table["needed"] = [
        seeds_to_find(margin, deviation, level / len(table)) if asked else None
        for deviation, asked in zip(deviations, is_open, strict=True)
    ]
    table["hours"] = ((table["needed"] - table["seeds"]).clip(lower=0) * table["hours"]).where(is_open)
    return table


def _common(runs: pd.DataFrame, groups: Iterable[str]) -> pd.Index:
    """The numbers of labels that all these groups have: other arms of a study can have other budgets."""
    own = runs[runs.index.isin(list(groups), level="group")]
    return runs.columns[own.notna().groupby("group").any().all()]


def _measure(question: Question, labels: pd.Index) -> tuple[Measure, str]:
    if question.labels is None:
        return lambda runs: area(runs[labels]), f"area under {labels.min():,} to {labels.max():,} labels"
    low, high = question.labels
    within = [count for count in labels if low <= count <= high]
    return mean_accuracy(within), f"at {low:,} labels" if low == high else f"mean of {low:,} to {high:,} labels"
