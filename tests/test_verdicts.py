"""The simulation that says what verdicts are worth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from bench import verdicts
from lab.report import claims
from lab.report.claims import Verdict


@dataclass
class Case:
    above: float | None
    below: float | None
    mean: float
    verdict: Verdict
    is_wrong: bool


@pytest.mark.parametrize(
    "case",
    [
        Case(0, None, 0.1, Verdict.SUPPORTED, False),
        Case(0, None, 0.1, Verdict.CONTRADICTED, True),
        Case(0, None, 0.1, Verdict.UNDECIDED, False),
        Case(0, None, -0.1, Verdict.SUPPORTED, True),
        Case(0, None, -0.1, Verdict.CONTRADICTED, False),
        Case(0, None, 0.0, Verdict.SUPPORTED, True),
        Case(0, None, 0.0, Verdict.CONTRADICTED, True),
        Case(-0.01, 0.01, 0.0, Verdict.SUPPORTED, False),
        Case(-0.01, 0.01, 0.02, Verdict.SUPPORTED, True),
        Case(-0.01, 0.01, 0.02, Verdict.CONTRADICTED, False),
    ],
)
def test_which_verdicts_are_wrong(case: Case) -> None:
    truth = pd.DataFrame(
        {"claim": ["a"], "mean": [case.mean], "above": [case.above], "below": [case.below]}, dtype=object
    )
    truth = truth.astype({"mean": float, "above": float, "below": float})
    found = pd.DataFrame({"claim": ["a"], "verdict": [case.verdict]})
    assert verdicts.is_wrong(found, truth) == case.is_wrong


def test_noise_moves_no_mean() -> None:
    base = verdicts.table_of(["resnet18-sgd", "resnet18-adam"], 4000)
    noisy = verdicts.noisy(base, np.random.default_rng(0), verdicts.COLLAPSES)
    shift = (noisy["accuracy"] - base["accuracy"]).groupby(base["group"]).mean()
    assert shift.abs().max() < 0.001
    assert noisy["accuracy"].groupby(base["group"]).std().idxmax() == "resnet18-sgd"


@pytest.mark.soak
def test_few_studies_show_a_wrong_verdict() -> None:
    # Of 100, at 5 %, more than 11 are seen in one of 200 such tests.
    for row in verdicts.null(100):
        assert float(row["the table of claims"].rstrip("%")) <= 11, row


def test_a_simulated_study_tests_every_claim_about_its_architecture_that_states_no_per_cent() -> None:
    found = claims.verdicts(verdicts.table_of(verdicts.GROUPS, 3))
    missing = found["why"].str.startswith("no arm") | found["measured"].str.contains("stated")
    assert found.loc[~missing, "claim"].nunique() == 5


def test_one_study_a_row_fills_every_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench.verdicts", "--studies", "1"])
    verdicts.main()
    assert capsys.readouterr().out.count("\n|---") == 4
