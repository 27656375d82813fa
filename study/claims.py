"""The paper's claims, each a predicate on the tidy table with a verdict.

A claim has parts, each an inequality about a mean over seeds. A part is supported where its 95 % interval lies
wholly on the claimed side, contradicted where it lies wholly on the other, and otherwise not decided; so is a part
whose arms are missing or have fewer than three seeds. A claim is supported where all parts are, and contradicted
where any is: one of many is easily beyond by chance, so that a contradiction takes the interval of 1 − 5 % / parts
(Bonferroni).

The paper's labels stand for shares of its budget of 10,000: in a study with another budget "1,000 to 3,000
labels" are its first three tenths. What the paper states in per cent is judged at its own scale alone, the
protocol ``paper``.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import pandas as pd

from study.statistics import (
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

BUDGET = 10_000
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
ARCHITECTURES = ("resnet18", "resnet34", "resnet50")

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
    """name: for the table. source: section of the paper. sentence: what it says."""

    name: str
    source: str
    sentence: str
    parts: Callable[["Data"], list[Part]]


class Data(NamedTuple):
    """The tidy table, and what claims ask of it."""

    tidy: pd.DataFrame

    @property
    def is_at_paper_scale(self) -> bool:
        return set(self.tidy["protocol"]) == {"paper"}

    def labels(self, low: int, high: int) -> list[int]:
        """The study's numbers of labels between two shares of its budget, given in the paper's labels."""
        budget = self.tidy["labels"].max()
        share = self.tidy["labels"].unique() / budget
        return [
            int(labels)
            for labels, part in zip(self.tidy["labels"].unique(), share, strict=True)
            if low / BUDGET - 1e-9 <= part <= high / BUDGET + 1e-9
        ]

    def accuracy_at(self, low: int, high: int | None = None) -> Measure:
        return mean_accuracy(self.labels(low, high or low))

    def has(self, *groups: str) -> bool:
        return set(groups) <= set(self.tidy["group"])

    def greater(self, group: str, other: str, measure: Measure, text: str) -> Part:
        """The claim that a measure of one group is greater than that of another, paired by seed."""
        if not self.has(group, other):
            missing = ", ".join(name for name in (group, other) if not self.has(name))
            return Part(f"{group} − {other}, {text}: {missing} is no arm of this study", None)
        found = difference(self.tidy, group, other, measure)
        if not found.seeds:
            return Part(f"{group} − {other}, {text}: no such cycle in this study", None)
        return Part(f"{group} − {other}, {text}", found, above=0)

    def alike(self, group: str, other: str, measure: Measure, text: str) -> Part:
        """The claim that two groups differ by less than ``PARITY``, paired by seed."""
        return self.greater(group, other, measure, text)._replace(above=-PARITY, below=PARITY)

    def between(self, group: str, measure: Measure, text: str, low: float | None, high: float | None) -> Part:
        """The claim that a group's measure lies in a range that the paper states; for its own scale alone."""
        bounds = f"{text}, stated {_range(low, high)}"
        if not self.has(group):
            return Part(f"{group}, {bounds}: no arm of this study", None)
        found = estimate(by_seed(self.tidy, group, measure).dropna())
        if not self.is_at_paper_scale:
            return Part(f"{group}, {bounds}: not at this scale", found)
        return Part(f"{group}, {bounds}", found, low, high)


def judge(part: Part, parts: int = 1) -> Verdict:
    """Whether a part's interval lies wholly within its bounds, wholly beyond one of them, or neither.

    Args:
        parts: of the claim, for the wider interval that a contradiction takes.
    """
    found, above, below = part.found, part.above, part.below
    if found is None or found.low is None or (above is None and below is None):
        return Verdict.UNDECIDED
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


def _resnet18_lead(data: Data) -> list[Part]:
    early = data.accuracy_at(1000, 3000)
    return [
        data.greater("resnet18-adam", "resnet18-sgd", early, "mean of the first three tenths"),
        data.between("resnet18-adam", early, "mean of the first three tenths", 0.77 - ABOUT, 0.77 + ABOUT),
        data.between("resnet18-sgd", early, "mean of the first three tenths", 0.69 - ABOUT, 0.69 + ABOUT),
    ]


def _resnet18_end(data: Data) -> list[Part]:
    ranges = [data.between(f"resnet18-{optim}", final_accuracy, "at the end", 0.86, 0.88) for optim in OPTIMIZERS]
    return ranges + _sgd_ahead(data, "resnet18", final_accuracy, "at the end")


def _sgd_ahead(data: Data, arch: str, measure: Measure, text: str) -> list[Part]:
    return [data.greater(f"{arch}-sgd", f"{arch}-{optim}", measure, text) for optim in OPTIMIZERS[1:]]


def _resnet34_first_half(data: Data) -> list[Part]:
    early = data.accuracy_at(1000, 5000)
    return [
        data.greater(f"resnet34-{optim}", f"resnet34-{other}", early, "mean of the first half")
        for optim in ("adam", "adamw")
        for other in ("sgd", "rmsprop")
    ]


def _resnet34_rmsprop(data: Data) -> list[Part]:
    return [data.greater("resnet34-adam", "resnet34-rmsprop", area, "area under the budget curve")]


def _resnet34_parity(data: Data) -> list[Part]:
    stated = [
        data.between(f"resnet34-{optim}", final_accuracy, "at the end", 0.895 - ABOUT, 0.895 + ABOUT)
        for optim in ("sgd", "adam")
    ]
    return [data.alike("resnet34-sgd", "resnet34-adam", final_accuracy, "at the end, by less than one point"), *stated]


def _resnet50_start(data: Data) -> list[Part]:
    start = data.accuracy_at(1000)
    return [
        data.greater("resnet50-adam", "resnet50-sgd", start, "at the first tenth"),
        data.between("resnet50-sgd", start, "at the first tenth", None, 0.70),
        data.between("resnet50-adam", start, "at the first tenth", 0.75 - ABOUT, 0.75 + ABOUT),
    ]


def _resnet50_overtakes(data: Data) -> list[Part]:
    return _sgd_ahead(data, "resnet50", data.accuracy_at(6000), "at six tenths")


def _resnet50_ends_highest(data: Data) -> list[Part]:
    others = [f"{arch}-{optim}" for arch in ARCHITECTURES for optim in OPTIMIZERS if (arch, optim) != SGD_50]
    parts = [data.greater("-".join(SGD_50), other, final_accuracy, "at the end") for other in others]
    return [*parts, data.between("-".join(SGD_50), final_accuracy, "at the end", 0.90 - ABOUT, 0.90 + ABOUT)]


SGD_50 = ("resnet50", "sgd")


def _cross_over(arch: str) -> Callable[[Data], list[Part]]:
    def parts(data: Data) -> list[Part]:
        early = data.accuracy_at(1000, 3000)
        adaptive = ("adam", "adamw")
        first = [
            data.greater(f"{arch}-{optim}", f"{arch}-sgd", early, "mean of the first three tenths")
            for optim in adaptive
        ]
        last = [data.greater(f"{arch}-sgd", f"{arch}-{optim}", final_accuracy, "at the end") for optim in adaptive]
        return first + last

    return parts


def _deeper(data: Data) -> list[Part]:
    return [
        data.greater("resnet34-sgd", "resnet18-sgd", final_accuracy, "at the end"),
        data.greater("resnet50-sgd", "resnet34-sgd", final_accuracy, "at the end"),
    ]


def _beats_random(arch: str) -> Callable[[Data], list[Part]]:
    def parts(data: Data) -> list[Part]:
        return [
            data.greater(f"{arch}-{optim}", f"{arch}-{optim}-random", area, "area under the budget curve")
            for optim in OPTIMIZERS
        ]

    return parts


CLAIMS = [
    Claim(
        "ResNet-18: Adam leads at first",
        "6.1",
        "From 1,000 to 3,000 labels Adam reaches about 77 % and SGD 69 %.",
        _resnet18_lead,
    ),
    Claim(
        "ResNet-18: all converge, SGD ahead",
        "6.1",
        "At 10,000 labels all optimizers lie at 86 to 88 %, SGD above the adaptive ones.",
        _resnet18_end,
    ),
    Claim(
        "ResNet-34: Adam and AdamW lead in the first half",
        "6.2",
        "Adam and AdamW are ahead during the first half of the experiment.",
        _resnet34_first_half,
    ),
    Claim("ResNet-34: RMSProp is slower", "6.2", "RMSProp learns more slowly than Adam.", _resnet34_rmsprop),
    Claim(
        "ResNet-34: SGD and Adam end alike",
        "6.2",
        "At 10,000 labels SGD and Adam are nearly on a par, at about 89.5 %.",
        _resnet34_parity,
    ),
    Claim(
        "ResNet-50: SGD starts lowest",
        "6.3",
        "At 1,000 labels SGD lies below 70 %, Adam at about 75 %.",
        _resnet50_start,
    ),
    Claim("ResNet-50: SGD overtakes", "6.3", "By 6,000 labels SGD has overtaken all others.", _resnet50_overtakes),
    Claim(
        "ResNet-50 with SGD ends highest",
        "6.3",
        "ResNet-50 with SGD ends with the highest accuracy of all experiments, about 90 %.",
        _resnet50_ends_highest,
    ),
    *(
        Claim(
            f"Cross-over, {arch}",
            "7",
            "Adam and AdamW are ahead with few labels, SGD once the labelled pool has grown.",
            _cross_over(arch),
        )
        for arch in ARCHITECTURES
    ),
    Claim("Deeper is better at the end", "1, 6.3", "Deeper architectures end higher, with SGD.", _deeper),
    *(
        Claim(
            f"Loss prediction beats random, {arch}",
            "1, 4.5",
            "Querying the highest predicted loss is more informative than drawing at random.",
            _beats_random(arch),
        )
        for arch in ARCHITECTURES
    ),
]


def verdicts(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a part of a claim: claim, source, sentence, verdict of the claim, and the part's own figures."""
    data = Data(tidy)
    rows = []
    for claim in CLAIMS:
        parts = claim.parts(data)
        judged = [judge(part, len(parts)) for part in parts]
        for part, verdict in zip(parts, judged, strict=True):
            found = part.found or Estimate(float("nan"), 0)
            rows.append(
                {
                    "claim": claim.name,
                    "source": claim.source,
                    "sentence": claim.sentence,
                    "verdict": verdict_of(judged),
                    "measured": part.text,
                    "mean": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.seeds,
                    "part": verdict,
                }
            )
    return pd.DataFrame(rows)
