"""The paper's claims, each a predicate on the tidy table with a verdict.

A claim has parts, each an inequality about a mean over seeds. A part is supported where its 95 % interval lies
wholly on the claimed side, contradicted where it lies wholly on the other, and otherwise not decided; so is a part
whose arms are missing or have fewer than three seeds. A claim is supported where all parts are, and contradicted
where any is: one of many is easily beyond by chance, so that a contradiction takes the interval of 1 − 5 % / parts
(Bonferroni).

The paper's labels stand for shares of its budget of 10,000: in a study with another budget "1,000 to 3,000
labels" are its first three tenths. What the paper states in per cent is judged at its own scale alone.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from lab.report import style
from lab.report.statistics import (
    Estimate,
    Measure,
    area,
    by_seed,
    difference,
    estimate,
    final_accuracy,
    mean_accuracy,
    widened,
)
from lab.report.style import words

BUDGET = 10_000
OPTIMIZERS = tuple(style.OPTIMIZERS)
ADAPTIVE = OPTIMIZERS[1:]
ARCHITECTURES = ("resnet18", "resnet34", "resnet50")

# What the paper's protocol means here.
EPOCHS = 200
PARAMETERS = {"resnet18": 11_173_962, "resnet34": 21_282_122, "resnet50": 23_520_842}

# "About" in the paper's text is taken as two points, "near parity" as one.
ABOUT = 0.02
PARITY = 0.01


class Verdict(StrEnum):
    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "not decided by these data"


class Part(NamedTuple):
    """text: what was measured, in words. found: the figure and its interval; None where it cannot be measured.

    above, below: the bounds that the claim sets it, or None; where both are None, it is not judged.
    """

    text: str
    found: Estimate | None
    above: float | None = None
    below: float | None = None


class Claim(NamedTuple):
    """name: for the table. source: section of the paper. sentence: its words."""

    name: str
    source: str
    sentence: str
    parts: Callable[["Data"], list[Part]]


class Data(NamedTuple):
    """The tidy table, and what claims ask of it."""

    tidy: pd.DataFrame

    @property
    def is_at_paper_scale(self) -> bool:
        """Whether every run has the paper's protocol, and its budget, epochs and networks with it."""
        tidy = self.tidy
        expected = tidy["arch"].map(PARAMETERS)
        return (
            set(tidy["protocol"]) == {"paper"}
            and sorted(tidy["labels"].unique()) == list(range(1000, BUDGET + 1, 1000))
            and (tidy["training_images"] == tidy["labels"] * EPOCHS).all()
            and (tidy["parameters"] == expected).all()
        )

    def labels(self, low: int, high: int) -> list[int]:
        """The study's numbers of labels between two shares of its budget, given in the paper's labels."""
        found = self.tidy["labels"].unique()
        shares = found / found.max()
        return found[(low / BUDGET - 1e-9 <= shares) & (shares <= high / BUDGET + 1e-9)].tolist()

    def accuracy_at(self, low: int, high: int | None = None) -> Measure:
        return mean_accuracy(self.labels(low, high or low))

    def has(self, *groups: str) -> bool:
        return set(groups) <= set(self.tidy["group"])

    def greater(self, group: str, other: str, measure: Measure, text: str) -> Part:
        """The claim that a measure of one group is greater than that of another, paired by seed."""
        text = f"{words(group)} − {words(other)} ({text})"
        if missing := [words(name) for name in (group, other) if not self.has(name)]:
            return Part(f"{text}: {', '.join(missing)} is no arm of this study", None)
        found = difference(self.tidy, group, other, measure)
        if not found.seeds:
            return Part(f"{text}: no such cycle in this study", None)
        return Part(text, found, above=0)

    def alike(self, group: str, other: str, measure: Measure, text: str) -> Part:
        """The claim that two groups differ by less than ``PARITY``, paired by seed."""
        return self.greater(group, other, measure, text)._replace(above=-PARITY, below=PARITY)

    def between(self, group: str, measure: Measure, text: str, low: float | None, high: float | None) -> Part:
        """The claim that a group's measure lies in a range that the paper states; for its own scale alone."""
        text = f"{words(group)} ({text}), stated {_range(low, high)}"
        if not self.has(group):
            return Part(f"{text}: no arm of this study", None)
        found = estimate(by_seed(self.tidy, group, measure).dropna())
        if not self.is_at_paper_scale:
            return Part(f"{text}: not at the paper's scale", found)
        return Part(text, found, low, high)


def is_judged(part: Part) -> bool:
    """Whether there is an interval, and a bound to hold it against."""
    has_bound = part.above is not None or part.below is not None
    return has_bound and part.found is not None and part.found.low is not None


def judge(part: Part, parts: int = 1) -> Verdict:
    """Whether a part's interval lies wholly within its bounds, wholly beyond one of them, or neither.

    Args:
        parts: judged ones of the claim, for the wider interval that a contradiction takes.
    """
    if not is_judged(part):
        return Verdict.UNDECIDED
    found, above, below = part.found, part.above, part.below
    assert found is not None and found.low is not None and found.high is not None, "is_judged"
    low, high = widened(found, parts)
    if (above is not None and high < above) or (below is not None and low > below):
        return Verdict.CONTRADICTED
    if (above is None or found.low > above) and (below is None or found.high < below):
        return Verdict.SUPPORTED
    return Verdict.UNDECIDED


def verdict_of(verdicts: list[Verdict]) -> Verdict:
    """The verdict of a claim from those of its parts."""
    if Verdict.CONTRADICTED in verdicts:
        return Verdict.CONTRADICTED
    return Verdict.SUPPORTED if set(verdicts) == {Verdict.SUPPORTED} else Verdict.UNDECIDED


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"below {high:.0%}"
    return f"{low:.1%} to {high:.1%}".replace(".0%", "%")


EARLY, FIRST, END = "mean of the first three tenths", "at the first tenth", "at the end"
AREA = "area under the budget curve"
SGD_50 = "resnet50-sgd"


def _greater(
    pairs: list[tuple[str, str]], measure: Measure | tuple[int, int], text: str
) -> Callable[[Data], list[Part]]:
    """That of each pair the first is ahead. measure: or the labels, from and to, of a mean accuracy."""

    def parts(data: Data) -> list[Part]:
        found = data.accuracy_at(*measure) if isinstance(measure, tuple) else measure
        return [data.greater(one, two, found, text) for one, two in pairs]

    return parts


def _stated(
    groups: list[str], labels: tuple[int, int], text: str, low: float | None, high: float
) -> Callable[[Data], list[Part]]:
    """That each group lies in a range, in mean accuracy between two numbers of labels."""
    return lambda data: [data.between(group, data.accuracy_at(*labels), text, low, high) for group in groups]


def _all(*makers: Callable[[Data], list[Part]]) -> Callable[[Data], list[Part]]:
    return lambda data: [part for make in makers for part in make(data)]


def _pairs(ones: list[str], others: list[str]) -> list[tuple[str, str]]:
    return [(one, other) for one in ones for other in others if one != other]


def _arms(arch: str, *optimizers: str) -> list[str]:
    return [f"{arch}-{optim}" for optim in optimizers]


def _at_end(*pairs: tuple[str, str]) -> Callable[[Data], list[Part]]:
    return _greater(list(pairs), (BUDGET, BUDGET), END)


def _cross_over(arch: str) -> Callable[[Data], list[Part]]:
    sgd, adaptive = _arms(arch, "sgd"), _arms(arch, "adam", "adamw")
    return _all(_greater(_pairs(adaptive, sgd), (1000, 3000), EARLY), _at_end(*_pairs(sgd, adaptive)))


def _gain(run: pd.DataFrame) -> float:
    return run["accuracy"].iloc[-1] - run["accuracy"].iloc[0]


CLAIMS = [
    Claim(
        "ResNet-18: Adam leads at first",
        "6.1",
        "Adaptive optimizers, particularly Adam, demonstrate superior performance during the initial “cold start” "
        "phases (1,000 to 3,000 samples)",
        _greater([("resnet18-adam", "resnet18-sgd")], (1000, 3000), EARLY),
    ),
    Claim(
        "ResNet-18: 77 against 69 %",
        "6.1",
        "achieving approximately 77% accuracy compared to SGD's 69%",
        _all(
            _stated(["resnet18-adam"], (1000, 3000), EARLY, 0.77 - ABOUT, 0.77 + ABOUT),
            _stated(["resnet18-sgd"], (1000, 3000), EARLY, 0.69 - ABOUT, 0.69 + ABOUT),
        ),
    ),
    Claim(
        "ResNet-18: SGD ahead at the end",
        "6.1",
        "with SGD notably outperforming the adaptive methods in the final cycles",
        _at_end(*_pairs(["resnet18-sgd"], _arms("resnet18", *ADAPTIVE))),
    ),
    Claim(
        "ResNet-18: all end at 86 to 88 %",
        "6.1",
        "By the final cycle (10,000 samples), all optimizers converge towards a similar range (86% - 88%)",
        _stated(_arms("resnet18", *OPTIMIZERS), (BUDGET, BUDGET), END, 0.86, 0.88),
    ),
    Claim(
        "ResNet-34 ends higher than ResNet-18",
        "6.2",
        "mirror those of ResNet-18 but with higher overall accuracy ceilings due to the increased model depth",
        _at_end(*((f"resnet34-{optim}", f"resnet18-{optim}") for optim in OPTIMIZERS)),
    ),
    Claim(
        "ResNet-34: Adam and AdamW lead in the first half",
        "6.2",
        "Adam and AdamW maintain a lead in sample efficiency during the first half of the experiment",
        _greater(
            _pairs(_arms("resnet34", "adam", "adamw"), _arms("resnet34", "sgd", "rmsprop")),
            (1000, 5000),
            "mean of the first half",
        ),
    ),
    Claim(
        "ResNet-34: RMSProp is slower",
        "6.2",
        "RMSProp shows a slower learning curve compared to Adam",
        _greater([("resnet34-adam", "resnet34-rmsprop")], area, AREA),
    ),
    Claim(
        "ResNet-34: SGD and Adam end alike",
        "6.2",
        "By the 10,000 sample mark, SGD and Adam achieve near parity",
        lambda data: [data.alike("resnet34-sgd", "resnet34-adam", final_accuracy, f"{END}, by less than one point")],
    ),
    Claim(
        "ResNet-34: at 89.5 %",
        "6.2",
        "at roughly 89.5% accuracy",
        _stated(_arms("resnet34", "sgd", "adam"), (BUDGET, BUDGET), END, 0.895 - ABOUT, 0.895 + ABOUT),
    ),
    Claim(
        "ResNet-50: SGD starts lowest",
        "6.3, 7",
        "SGD started with the lowest accuracy",
        _greater(_pairs(_arms("resnet50", *ADAPTIVE), [SGD_50]), (1000, 1000), FIRST),
    ),
    Claim(
        "ResNet-50: below 70 % against 75 %",
        "6.3",
        "At the initial 1,000 sample mark, SGD performs poorly (< 70% accuracy) … "
        "In contrast, Adam starts strong at ≈ 75%",
        _all(
            _stated([SGD_50], (1000, 1000), FIRST, None, 0.70),
            _stated(["resnet50-adam"], (1000, 1000), FIRST, 0.75 - ABOUT, 0.75 + ABOUT),
        ),
    ),
    Claim(
        "ResNet-50: SGD learns steepest",
        "6.3",
        "ResNet-50 with SGD exhibits the steepest learning curve",
        _greater(_pairs([SGD_50], _arms("resnet50", *ADAPTIVE)), _gain, "gain from first to last cycle"),
    ),
    Claim(
        "ResNet-50: SGD overtakes",
        "6.3",
        "eventually overtaking all other optimizers by the 6,000-sample mark",
        _greater(_pairs([SGD_50], _arms("resnet50", *ADAPTIVE)), (6000, 6000), "at six tenths"),
    ),
    Claim(
        "ResNet-50 with SGD ends highest of all",
        "6.3",
        "finishing with the highest accuracy of all experiments",
        _at_end(*_pairs([SGD_50], [group for arch in ARCHITECTURES for group in _arms(arch, *OPTIMIZERS)])),
    ),
    Claim(
        "ResNet-50 with SGD: 90 %",
        "6.3",
        "the highest accuracy of all experiments (≈ 90%)",
        _stated([SGD_50], (BUDGET, BUDGET), END, 0.90 - ABOUT, 0.90 + ABOUT),
    ),
    *(
        Claim(
            f"Cross-over, {words(arch)}",
            "7",
            "adaptive optimizers (Adam, AdamW) are significantly more sample-efficient in the early, low-data regimes, "
            "while SGD with momentum provides superior generalization as the labeled dataset grows",
            _cross_over(arch),
        )
        for arch in ARCHITECTURES
    ),
    Claim(
        "Deeper is better at the end, with SGD",
        "abstract, 6.3",
        "deeper architectures … ultimately provide the highest performance when paired with SGD",
        _at_end(("resnet34-sgd", "resnet18-sgd"), (SGD_50, "resnet34-sgd")),
    ),
    *(
        Claim(
            f"Loss prediction beats random, {words(arch)}",
            "4.5; assumed there, not tested",
            "under the assumption that high loss samples are the most informative for the current model state",
            _greater([(group, f"{group}-random") for group in _arms(arch, *OPTIMIZERS)], area, AREA),
        )
        for arch in ARCHITECTURES
    ),
]


def verdicts(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a part of a claim: claim, source, sentence, verdict of the claim, and the part's own figures.

    is_judged: whether the part has an interval and a bound. A claim without such a part is not tested.
    """
    data = Data(tidy)
    rows = []
    for claim in CLAIMS:
        parts = claim.parts(data)
        count = sum(map(is_judged, parts))
        judged = [judge(part, count) for part in parts]
        for part, verdict in zip(parts, judged, strict=True):
            found = part.found or Estimate(float("nan"), 0)
            about = {"claim": claim.name, "source": claim.source, "sentence": claim.sentence}
            about |= {"verdict": verdict_of(judged), "measured": part.text}
            rows.append(about | found._asdict() | {"part": verdict, "is_judged": is_judged(part)})
    return pd.DataFrame(rows)
