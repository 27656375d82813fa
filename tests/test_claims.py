"""Each of the paper's claims, on made-up data that support it, contradict it, and leave it open."""

from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest

from lab.report import claims
from lab.report.claims import ARCHITECTURES, OPTIMIZERS, Part, Verdict
from lab.report.statistics import Estimate, widened
from tests.study_tables import line, tidy_of


def curve(start: float, sixth: float, end: float) -> list[float]:
    """Ten accuracies: level for three cycles, ``sixth`` at 6,000 labels, ``end`` at the last."""
    rising = [start + (sixth - start) * share for share in (1 / 3, 2 / 3)]
    return [start] * 3 + rising + [sixth] + line(sixth, end)[1:8:2]


# What the paper describes, cycle by cycle as far as it says.
AS_STATED = {
    "resnet18-sgd": [*curve(0.69, 0.82, 0.879)[:-1], 0.877],
    **{f"resnet18-{optim}": [*curve(0.77, 0.83, 0.87)[:-1], 0.867] for optim in OPTIMIZERS[1:]},
    "resnet34-sgd": [*curve(0.70, 0.84, 0.89)[:-1], 0.898],
    "resnet34-adam": [*curve(0.78, 0.85, 0.89)[:-1], 0.894],
    "resnet34-adamw": [*curve(0.78, 0.85, 0.88)[:-1], 0.885],
    "resnet34-rmsprop": [*curve(0.72, 0.80, 0.87)[:-1], 0.88],
    "resnet50-sgd": [*curve(0.66, 0.87, 0.90)[:-1], 0.905],
    **{f"resnet50-{optim}": [*curve(0.75, 0.84, 0.88)[:-1], 0.885] for optim in OPTIMIZERS[1:]},
    **{f"{arch}-{optim}-random": line(0.5, 0.8) for arch in ARCHITECTURES for optim in OPTIMIZERS},
}


def noise() -> pd.DataFrame:
    """All groups have the same mean over seeds, and seeds differ by 15 points, each group's in another order."""
    tidy = tidy_of({name: line(0.6, 0.87) for name in AS_STATED}, spread=0)
    return tidy.assign(accuracy=tidy["accuracy"] + 0.15 * ((tidy["seed"] + pd.factorize(tidy["group"])[0]) % 3 - 1))


@cache
def verdicts_of(case: str) -> dict[str, Verdict]:
    return verdicts(
        {
            "as stated": lambda: tidy_of(AS_STATED, spread=0.0002),
            "the opposite": lambda: tidy_of(mirrored(AS_STATED), spread=0.0005),
            "noise": noise,
            "two seeds": lambda: tidy_of(AS_STATED, seeds=2, spread=0.0005),
        }[case]()
    )


def verdicts(tidy: pd.DataFrame) -> dict[str, Verdict]:
    return {str(name): rows["verdict"].iloc[0] for name, rows in claims.verdicts(tidy).groupby("claim")}


def mirrored(curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """The other way round and five times as far: what was ahead is behind, what was alike is not, no figure holds."""
    return {name: [0.5 - 5 * (accuracy - 0.75) for accuracy in values] for name, values in curves.items()}


def test_there_is_a_claim_of_every_kind() -> None:
    assert len(claims.CLAIMS) == len({claim.name for claim in claims.CLAIMS}) == 22


@pytest.mark.parametrize("claim", [claim.name for claim in claims.CLAIMS])
@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ("as stated", Verdict.SUPPORTED),
        ("the opposite", Verdict.CONTRADICTED),
        ("noise", Verdict.UNDECIDED),
        ("two seeds", Verdict.UNDECIDED),
    ],
)
def test_every_claim_on_every_kind_of_data(claim: str, case: str, verdict: Verdict) -> None:
    assert verdicts_of(case)[claim] == verdict


def test_missing_arms_decide_nothing_and_are_named() -> None:
    only = {name: values for name, values in AS_STATED.items() if name in ("resnet18-sgd", "resnet18-adam")}
    table = claims.verdicts(tidy_of(only, spread=0.0005))
    decided = table[table["verdict"] != Verdict.UNDECIDED]
    assert set(decided["claim"]) == {"ResNet-18: Adam leads at first", "ResNet-18: 77 against 69 %"}, (
        "these need no more"
    )
    assert "ResNet-18 RMSProp is no arm of this study" in " ".join(table["measured"])


def test_another_scale_is_judged_by_shares_of_its_budget_and_never_by_stated_figures() -> None:
    tidy = tidy_of(AS_STATED, spread=0.0005, protocol="cpu_study").assign(labels=lambda table: table["labels"] // 10)
    found = verdicts(tidy)
    assert found["Cross-over, ResNet-18"] == Verdict.SUPPORTED
    assert found["ResNet-50: SGD overtakes"] == Verdict.SUPPORTED
    assert found["ResNet-18: Adam leads at first"] == Verdict.SUPPORTED
    assert found["ResNet-18: 77 against 69 %"] == Verdict.UNDECIDED
    parts = claims.verdicts(tidy)
    stated = parts[parts["measured"].str.contains("stated")]
    assert set(stated["part"]) == {Verdict.UNDECIDED}
    assert stated["measured"].str.contains("not at the paper's scale").all()


@pytest.mark.parametrize(
    "change",
    [
        lambda tidy: tidy[tidy["labels"] <= 4000],
        lambda tidy: tidy.assign(training_images=tidy["training_images"] // 100),
        lambda tidy: tidy.assign(parameters=tidy["parameters"] // 16),
    ],
)
def test_fewer_labels_epochs_or_channels_are_not_the_papers_scale(change: Callable) -> None:
    tidy = tidy_of(AS_STATED, spread=0.0005)
    assert claims.Data(tidy).is_at_paper_scale
    found = claims.verdicts(change(tidy))
    assert set(found.loc[found["measured"].str.contains("stated"), "part"]) == {Verdict.UNDECIDED}


def test_a_claim_is_contradicted_by_its_orderings_alone() -> None:
    parts = claims.verdicts(tidy_of(mirrored(AS_STATED), spread=0.0005))
    assert set(parts["part"]) == {Verdict.CONTRADICTED}


def test_only_judged_parts_widen_the_interval() -> None:
    # One of three optimizers is there: its interval alone decides.
    only = {name: line(0.5, end) for name, end in (("resnet50-sgd", 0.7), ("resnet50-adam", 0.72))}
    tidy = tidy_of(only, spread=0.001)
    (part,) = [
        row
        for _, row in claims.verdicts(tidy).iterrows()
        if row["claim"] == "ResNet-50: SGD overtakes" and row["seeds"]
    ]
    assert part["part"] == Verdict.CONTRADICTED


def test_stated_labels_are_shares_of_the_budget() -> None:
    data = claims.Data(tidy_of(AS_STATED).assign(labels=lambda table: table["labels"] // 10))
    assert data.labels(1000, 3000) == [100, 200, 300]
    assert data.labels(6000, 6000) == [600]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.02, Verdict.SUPPORTED),
        (-0.02, -0.01, Verdict.CONTRADICTED),
        (-0.01, 0.02, Verdict.UNDECIDED),
        (None, None, Verdict.UNDECIDED),
    ],
)
def test_a_bound_is_judged_by_the_interval(low: float | None, high: float | None, verdict: Verdict) -> None:
    mean = 0.0 if low is None else (low + high) / 2
    assert claims.judge(Part("", Estimate(mean, 3, low, high), above=0)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.009, 0.009, Verdict.SUPPORTED),
        (0.011, 0.02, Verdict.CONTRADICTED),
        (-0.03, -0.02, Verdict.CONTRADICTED),
        (-0.009, 0.02, Verdict.UNDECIDED),
    ],
)
def test_a_range_is_judged_by_the_interval(low: float, high: float, verdict: Verdict) -> None:
    assert claims.judge(Part("", Estimate((low + high) / 2, 3, low, high), above=-0.01, below=0.01)) == verdict


def test_one_of_many_parts_takes_more_to_contradict() -> None:
    # [−2, −0.1] around −1.05: at 1 − 5 %/10, t(2) grows from 4.30 to 14.09
    part = Part("", Estimate(-1.05, 3, -2.0, -0.1), above=0)
    assert claims.judge(part) == Verdict.CONTRADICTED
    assert claims.judge(part, parts=10) == Verdict.UNDECIDED
    assert widened(part.found, 10) == (
        pytest.approx(-1.05 - 0.95 * 14.089 / 4.3027, abs=1e-3),
        pytest.approx(2.06, abs=1e-2),
    )
