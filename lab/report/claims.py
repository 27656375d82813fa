"""The paper's claims, each a list of inequalities with one verdict.

An inequality holds a mean over seeds against a bound. A claim is supported where all of its inequalities are clear,
and contradicted where the opposite of any is: one of many is easily beyond by chance, so that the smallest p is
multiplied by their number (Bonferroni). Holm's correction over all claims that a study judges keeps the probability
of any wrong verdict at 5 % or less.

What the paper ties to numbers of labels is judged at those numbers alone; what it does not is judged over the
study's own budget. What it states in per cent is judged in its own protocol alone.
"""

from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from lab.report.protocol import BUDGET, LABELS, PROTOCOL, is_kept
from lab.report.statistics import (
    CONFIDENCE,
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
)
from lab.report.style import words

Labels = tuple[int, int]  # from and to
FIRST, EARLY, FINAL, LAST = (1000, 1000), (1000, 3000), (8000, BUDGET), (BUDGET, BUDGET)

ARCHITECTURES = ("resnet18", "resnet34", "resnet50")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
ADAPTIVE = OPTIMIZERS[1:]

# "About" in the paper's text is taken as two points, "near parity" as one.
ABOUT = 0.02
PARITY = 0.01


class Verdict(StrEnum):
    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "not decided by these data"
    UNTESTED = "not tested"


class Part(NamedTuple):
    """An inequality, or two: a figure and the bounds that the claim sets it.

    weights: group → weight; {A: 1, B: −1} is the accuracy of A minus that of B. labels: mean over the paper's cycles
    from and to; None for the area under the study's whole budget. since: minus the mean over these.
    """

    weights: dict[str, float]
    labels: Labels | None
    since: Labels | None = None
    above: float | None = None
    below: float | None = None

    @property
    def is_level(self) -> bool:
        """Whether it is an accuracy in per cent, and no difference."""
        return len(self.weights) == 1 and self.since is None

    @property
    def measure(self) -> Measure:
        if self.labels is None:
            return area
        later, earlier = mean_accuracy(within(self.labels)), mean_accuracy(within(self.since or self.labels))
        return (lambda runs: later(runs) - earlier(runs)) if self.since else later


class Claim(NamedTuple):
    """name: for the table. source: section of the paper. sentence: its words."""

    name: str
    source: str
    sentence: str
    parts: list[Part]


def within(labels: Labels) -> list[int]:
    """The paper's numbers of labels from and to."""
    return [count for count in LABELS if labels[0] <= count <= labels[1]]


def arms(archs: str | tuple[str, ...], *optimizers: str) -> list[str]:
    return [f"{arch}-{optim}" for arch in ([archs] if isinstance(archs, str) else archs) for optim in optimizers]


def ahead(
    ones: list[str], others: list[str], labels: Labels | None, since: Labels | None = None, by: float = 0
) -> list[Part]:
    """That each of the ones is ahead of each of the others, or has gained more since."""
    return [Part({one: 1, other: -1}, labels, since, above=by) for one in ones for other in others if one != other]


def level(groups: list[str], labels: Labels, low: float | None, high: float) -> list[Part]:
    return [Part({group: 1}, labels, above=low, below=high) for group in groups]


def about(group: str, labels: Labels, accuracy: float) -> list[Part]:
    return level([group], labels, accuracy - ABOUT, accuracy + ABOUT)


SGD_18, SGD_34, SGD_50 = arms(ARCHITECTURES, "sgd")
ADAM_34, RMSPROP_34 = arms("resnet34", "adam", "rmsprop")

CLAIMS = [
    Claim(
        "ResNet-18: adaptive optimizers lead at first",
        "6.1",
        "Adaptive optimizers, particularly Adam, demonstrate superior performance during the initial “cold start” "
        "phases (1,000 to 3,000 samples)",
        ahead(arms("resnet18", *ADAPTIVE), [SGD_18], EARLY),
    ),
    Claim(
        "ResNet-18: 77 against 69 %",
        "6.1",
        "achieving approximately 77% accuracy compared to SGD's 69%",
        about("resnet18-adam", EARLY, 0.77) + about(SGD_18, EARLY, 0.69),
    ),
    Claim(
        "ResNet-18: SGD closes the gap",
        "6.1",
        "as the labeled data budget increases, SGD closes this gap significantly",
        ahead([SGD_18], arms("resnet18", *ADAPTIVE), LAST, since=EARLY),
    ),
    Claim(
        "ResNet-18: all end at 86 to 88 %",
        "6.1",
        "By the final cycle (10,000 samples), all optimizers converge towards a similar range (86% - 88%)",
        level(arms("resnet18", *OPTIMIZERS), LAST, 0.86, 0.88),
    ),
    Claim(
        "ResNet-18: SGD ahead in the final cycles",
        "6.1",
        "with SGD notably outperforming the adaptive methods in the final cycles",
        ahead([SGD_18], arms("resnet18", *ADAPTIVE), FINAL),
    ),
    Claim(
        "ResNet-34 ends higher than ResNet-18",
        "6.2",
        "mirror those of ResNet-18 but with higher overall accuracy ceilings due to the increased model depth",
        [part for optim in OPTIMIZERS for part in ahead(arms("resnet34", optim), arms("resnet18", optim), LAST)],
    ),
    Claim(
        "ResNet-34: Adam and AdamW lead in the first half",
        "6.2",
        "Adam and AdamW maintain a lead in sample efficiency during the first half of the experiment",
        ahead(arms("resnet34", "adam", "adamw"), [SGD_34, RMSPROP_34], (1000, 5000)),
    ),
    Claim(
        "ResNet-34: RMSProp is slower",
        "6.2",
        "RMSProp shows a slower learning curve compared to Adam",
        ahead([ADAM_34], [RMSPROP_34], None),
    ),
    Claim(
        "ResNet-34: RMSProp improves in every cycle",
        "6.2",
        "but consistently improves",
        [Part({RMSPROP_34: 1}, (count, count), (count - 1000, count - 1000), above=0) for count in LABELS[1:]],
    ),
    Claim(
        "ResNet-34: SGD and Adam end alike",
        "6.2",
        "By the 10,000 sample mark, SGD and Adam achieve near parity",
        [Part({SGD_34: 1, ADAM_34: -1}, LAST, above=-PARITY, below=PARITY)],
    ),
    Claim(
        "ResNet-34: at 89.5 %",
        "6.2",
        "at roughly 89.5% accuracy",
        about(SGD_34, LAST, 0.895) + about(ADAM_34, LAST, 0.895),
    ),
    # Of the two that the sentence before compares: more than parity apart at first, and further than at the end.
    Claim(
        "ResNet-34: the choice is critical below 4,000 labels",
        "6.2",
        "the choice of optimizer is critical when the labeling budget is extremely tight (< 4000 samples), but becomes "
        "less significant as the budget expands",
        ahead([ADAM_34], [SGD_34], EARLY, by=PARITY) + ahead([SGD_34], [ADAM_34], LAST, since=EARLY),
    ),
    Claim(
        "ResNet-50: SGD starts lowest",
        "6.3, 7",
        "SGD started with the lowest accuracy",
        ahead(arms("resnet50", *ADAPTIVE), [SGD_50], FIRST),
    ),
    Claim(
        "ResNet-50: below 70 % against 75 %",
        "6.3",
        "At the initial 1,000 sample mark, SGD performs poorly (< 70% accuracy) … "
        "In contrast, Adam starts strong at ≈ 75%",
        level([SGD_50], FIRST, None, 0.70) + about("resnet50-adam", FIRST, 0.75),
    ),
    Claim(
        "ResNet-50: SGD learns steepest",
        "6.3",
        "ResNet-50 with SGD exhibits the steepest learning curve",
        ahead([SGD_50], arms("resnet50", *ADAPTIVE), LAST, since=FIRST),
    ),
    Claim(
        "ResNet-50: SGD overtakes",
        "6.3",
        "eventually overtaking all other optimizers by the 6,000-sample mark",
        ahead([SGD_50], arms("resnet50", *ADAPTIVE), (6000, 6000)),
    ),
    Claim(
        "ResNet-50 with SGD ends highest of all",
        "6.3",
        "finishing with the highest accuracy of all experiments",
        ahead([SGD_50], arms(ARCHITECTURES, *OPTIMIZERS), LAST),
    ),
    Claim(
        "ResNet-50 with SGD: 90 %",
        "6.3",
        "the highest accuracy of all experiments (≈ 90%)",
        about(SGD_50, LAST, 0.90),
    ),
    # More of its accuracy comes after the first cycles.
    Claim(
        "ResNet-50 with SGD warms up longer",
        "abstract, 6.3",
        "deeper models combined with SGD require a larger “warm-up” period of labeled data",
        ahead([SGD_50], [SGD_18, SGD_34], LAST, since=EARLY),
    ),
    Claim(
        "Deeper is better at the end, with SGD",
        "abstract, 6.3",
        "deeper architectures … ultimately provide the highest performance when paired with SGD",
        ahead([SGD_34], [SGD_18], LAST) + ahead([SGD_50], [SGD_34], LAST),
    ),
    *(
        Claim(
            f"Cross-over, {words(arch)}",
            "7",
            "adaptive optimizers (Adam, AdamW) are significantly more sample-efficient in the early, low-data regimes, "
            "while SGD with momentum provides superior generalization as the labeled dataset grows",
            ahead(arms(arch, "adam", "adamw"), arms(arch, "sgd"), EARLY)
            + ahead(arms(arch, "sgd"), arms(arch, "adam", "adamw"), FINAL),
        )
        for arch in ARCHITECTURES
    ),
    *(
        Claim(
            f"Loss prediction beats random, {words(arch)}",
            "4.5; assumed there, not tested",
            "under the assumption that high loss samples are the most informative for the current model state",
            [part for group in arms(arch, *OPTIMIZERS) for part in ahead([group], [f"{group}-random"], None)],
        )
        for arch in ARCHITECTURES
    ),
]


class Measured(NamedTuple):
    """A part on a study. text: what was measured. why: it cannot be judged; empty where it can."""

    part: Part
    found: Estimate
    text: str
    why: str


def verdicts(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a part of a claim: what was measured, its figures and bounds, and why it is not judged.

    And of the claim: its name, source, sentence, verdict and p_holm. Where it is not decided, needed: seeds with which
    a difference of one point would be found in each part, with 80 % power at the level that Holm's correction begins
    with; hours: of the seeds that are missing.
    """
    runs, rows = runs_of(tidy), []
    claims = {claim.name: [_measured(tidy, runs, part) for part in claim.parts] for claim in CLAIMS}
    tested = {name: _p_values(parts) for name, parts in claims.items() if any(not item.why for item in parts)}
    corrected = dict(zip(tested, holm(min(1, 2 * min(both)) for both in tested.values()), strict=True))
    for name, source, sentence, _ in CLAIMS:
        verdict, needed, hours = Verdict.UNTESTED, None, None
        if name in tested:
            supports, contradicts = tested[name]
            verdict = Verdict.SUPPORTED if supports < contradicts else Verdict.CONTRADICTED
            if corrected[name] >= 1 - CONFIDENCE:
                verdict = Verdict.UNDECIDED
                needed, hours = _to_decide(tidy, claims[name], len(tested))
        about: dict[str, object] = {"claim": name, "source": source, "sentence": sentence, "verdict": verdict}
        about |= {"p_holm": corrected.get(name), "needed": needed, "hours": hours}
        for part, found, text, why in claims[name]:
            figures = {"measured": text, **found._asdict(), "above": part.above, "below": part.below, "why": why}
            rows.append({**about, **figures})
    return pd.DataFrame(rows)


def _measured(tidy: pd.DataFrame, runs: pd.DataFrame, part: Part) -> Measured:
    text = f"{' − '.join(map(words, part.weights))}, {_when(part, runs.columns)}{_bounds(part)}"
    values = contrast(runs, part.weights, part.measure)
    found = estimate(values) if len(values) else Estimate(float("nan"), 0)
    missing = [words(group) for group in part.weights if group not in runs.index]
    cycles = [count for labels in (part.labels, part.since) if labels for count in within(labels)]
    absent = [f"{count:,}" for count in cycles if count not in runs.columns]
    if tidy["dataset"].iloc[0] != PROTOCOL["dataset"]:
        why = "the paper's data set is CIFAR-10"
    elif missing:
        why = f"no arm {missing[0]}"
    elif absent:
        why = f"no cycle with {absent[0]} labels"
    elif part.is_level and not is_kept(tidy[tidy["group"].isin(part.weights)]):
        why = "not the paper's protocol"
    else:
        why = "" if found.error else "too few seeds, or no spread over them"
    return Measured(part, found, text, why)


def _p_values(parts: list[Measured]) -> tuple[float, float]:
    """One-sided p of a claim's support, and of its contradiction."""
    holds, fails = [], []
    for part, found, _, why in parts:
        if why:
            holds.append(1.0)
            continue
        if part.above is not None:
            holds.append(found.p_above(part.above))
            fails.append(found.p_below(part.above))
        if part.below is not None:
            holds.append(found.p_below(part.below))
            fails.append(found.p_above(part.below))
    return max(holds), min(1.0, len(fails) * min(fails))


def _to_decide(tidy: pd.DataFrame, parts: list[Measured], claims: int) -> tuple[int, float]:
    judged = [item for item in parts if not item.why]
    deviation = max(found.error * found.seeds**0.5 for _, found, *_ in judged if found.error)
    needed = seeds_to_find(PARITY, deviation, (1 - CONFIDENCE) / claims)
    missing = max(0, needed - min(found.seeds for _, found, *_ in judged))
    return needed, missing * seed_hours(tidy, {group for item in judged for group in item.part.weights})


def _when(part: Part, labels: pd.Index) -> str:
    if part.labels is None:
        return f"area under {labels.min():,} to {labels.max():,} labels"
    later, earlier = (
        "–".join(f"{count:,}" for count in sorted(set(span))) for span in (part.labels, part.since or LAST)
    )
    if part.since:
        return f"gain from {earlier} to {later} labels"
    return f"{'mean of' if '–' in later else 'at'} {later} labels"


def _bounds(part: Part) -> str:
    """The bounds of a part, where they are more than a side of zero."""
    if part.below is None:
        return f", more than {100 * part.above:g} points" if part.above else ""
    if part.above is None:
        return f", stated below {part.below:.0%}"
    if part.is_level:
        return f", stated {part.above:.1%} to {part.below:.1%}".replace(".0%", "%")
    return f", less than {100 * part.below:g} points"
