"""The analysis that a study states beforehand: what is refused, what it answers, since when it stands."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from lab.errors import BadInput
from lab.report import figures
from lab.report import page as report
from lab.report.analysis import Outcome, answers
from lab.study import analysis, plan, stated
from tests.conftest import ROOT
from tests.study_tables import line, tidy_of
from tests.test_decomposition import planted

PARAMS = (ROOT / "params.yaml").read_text()
ADAM, SGD = "resnet18-adam", "resnet18-sgd"
STUDY = {"protocol": "demo", "dataset": "digits", "seeds": [0], "arms": {"optim": ["sgd", "adam"]}, "cycles": 4}
QUESTION = {"name": "Adam leads", "difference": [ADAM, SGD], "labels": [20, 60]}


def write(path: Path, **stated: object) -> Path:
    path.write_text(yaml.safe_dump({**STUDY, **({"analysis": stated} if stated else {})}, sort_keys=False))
    return path


def analysis_of(primary: list[dict], secondary: list[dict] | None = None) -> analysis.Analysis:
    return analysis.Analysis(equivalence=0.01, primary=primary, secondary=secondary or [])


def asked(**question: object) -> dict:
    return {"name": "a question", "difference": [ADAM, SGD], **question}


def differing(by: float, noise: float, seeds: int = 6) -> pd.DataFrame:
    """Adam ahead of SGD by so much, with so much noise a cycle."""
    curves = {SGD: line(0.5, 0.8), ADAM: [value + by for value in line(0.5, 0.8)]}
    tidy = tidy_of(curves, seeds=seeds, spread=0)
    return tidy.assign(accuracy=tidy["accuracy"] + np.random.default_rng(0).normal(0, noise, len(tidy)))


def test_a_study_file_states_its_analysis(tmp_path: Path) -> None:
    path = write(tmp_path / "study.yaml", equivalence=0.01, primary=[QUESTION])
    assert len(plan.read(path, PARAMS)) == 2
    found = analysis.read(path)
    assert (found.correction, found.primary[0].groups, found.secondary) == ("holm", [ADAM, SGD], [])
    assert analysis.read(write(tmp_path / "other.yaml")) is None


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"primary": [QUESTION]}, "analysis.equivalence: missing"),
        ({"equivalence": 0.01, "primary": []}, "analysis.primary = []"),
        ({"equivalence": 1, "primary": [QUESTION]}, "analysis.equivalence = 1"),
        ({"equivalence": 0.01, "primary": [QUESTION], "correction": "none"}, "analysis.correction = 'none': choose"),
        (
            {"equivalence": 0.01, "primary": [{**QUESTION, "difference": [ADAM, "resnet18-sdg"]}]},
            "analysis.primary: Adam leads: difference needs resnet18-sdg: choose from resnet18-sgd, resnet18-adam",
        ),
        (
            {"equivalence": 0.01, "primary": [QUESTION], "secondary": [{**QUESTION, "labels": [1000, 3000]}]},
            "analysis.secondary: Adam leads: labels = [1000, 3000]: no cycle has so many; choose from 20, 60, 100, 140",
        ),
        (
            {"equivalence": 0.01, "primary": [{**QUESTION, "difference": [ADAM, ADAM]}]},
            "a group is not compared with itself",
        ),
        (
            {"equivalence": 0.01, "primary": [{"name": "q", "choosing": [ADAM, SGD], "measure": "area"}]},
            "choosing needs resnet18-adam-chosen_by_sgd",
        ),
        ({"equivalence": 0.01, "primary": [{"name": "q", "measure": "area"}]}, "one of difference, learning, choosing"),
        (
            {"equivalence": 0.01, "primary": [{**QUESTION, "measure": "area"}]},
            "either labels: [from, to] or measure: area",
        ),
        ({"equivalence": 0.01, "primary": [{**QUESTION, "label": [20, 60]}]}, "label"),
    ],
)
def test_what_the_arms_cannot_answer_is_refused_before_any_work(tmp_path: Path, stated: dict, message: str) -> None:
    with pytest.raises(BadInput, match="is refused, nothing was run") as refusal:
        plan.read(write(tmp_path / "study.yaml", **stated), PARAMS)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("by", "noise", "outcome"),
    [
        (0.03, 0.005, Outcome.DIFFERENCE),
        (0.0, 0.005, Outcome.NONE),
        (0.004, 0.0005, Outcome.SMALL),
        (0.01, 0.05, Outcome.UNDECIDED),
    ],
)
def test_outcomes_are_told_apart(by: float, noise: float, outcome: Outcome) -> None:
    (row,) = answers(differing(by, noise), analysis_of([asked(labels=[1000, 3000])])).itertuples()
    assert row.outcome == outcome
    assert row.mean == pytest.approx(by, abs=0.02)
    assert pd.notna(row.needed) == (outcome == Outcome.UNDECIDED)
    if outcome == Outcome.UNDECIDED:
        # Two groups, ten cycles of 13 seconds.
        assert row.hours == pytest.approx((row.needed - 6) * 2 * 130 / 3600)


def test_no_difference_is_a_90_per_cent_interval_within_the_margin() -> None:
    (row,) = answers(differing(0.002, 0.012, seeds=8), analysis_of([asked(measure="area")])).itertuples()
    # Student's t of 7 degrees of freedom, 95 %: 1.8946
    half = 1.8946 * row.error
    is_within = row.mean - half > -0.01 and row.mean + half < 0.01
    assert (row.p_within < 0.05) == is_within
    assert row.p_within == pytest.approx(row_p(row), abs=1e-4)


def row_p(row: object) -> float:
    from scipy import stats

    return stats.t.sf((0.01 - abs(row.mean)) / row.error, row.seeds - 1)


def test_the_correction_is_over_the_rank_and_counts_what_has_no_figure() -> None:
    tidy = differing(0.02, 0.02)
    question = asked(labels=[1000, 1000])
    alone, *_ = answers(tidy, analysis_of([question])).itertuples()
    missing = asked(difference=[ADAM, "resnet18-rmsprop"], measure="area")
    table = answers(tidy, analysis_of([question, missing, missing], [question]))
    assert alone.p_holm == pytest.approx(alone.p)
    assert table["p_holm"].iloc[0] == pytest.approx(min(1, 3 * alone.p))
    assert table["p_holm"].iloc[1] == 1
    assert table["p_holm"].iloc[3] == pytest.approx(alone.p), "secondary questions are a family of their own"
    assert table["rank"].tolist() == ["primary"] * 3 + ["secondary"]
    assert table["seeds"].tolist() == [6, 0, 0, 6]


def test_a_question_is_about_the_budgets_that_its_groups_have() -> None:
    tidy = differing(0.03, 0.005)
    more = (
        tidy_of({"resnet18-rmsprop": line(0.1, 0.2)}, seeds=6)
        .query("cycle < 2")
        .assign(labels=lambda t: t.labels + 500)
    )
    question = analysis_of([asked(labels=[1000, 3000])])
    (row,) = answers(pd.concat([tidy, more]), question).itertuples()
    (alone,) = answers(tidy, question).itertuples()
    assert (row.mean, row.seeds) == (alone.mean, 6)
    # Without the first budget, which the other one has: what both have counts.
    less = tidy[(tidy["group"] == ADAM) | (tidy["labels"] > 1000)]
    (row,) = answers(less, question).itertuples()
    (common,) = answers(tidy, analysis_of([asked(labels=[2000, 3000])])).itertuples()
    assert row.mean == common.mean
    (row,) = answers(less, analysis_of([asked(measure="area")])).itertuples()
    (common,) = answers(tidy[tidy["labels"] > 1000], analysis_of([asked(measure="area")])).itertuples()
    assert (row.mean, row.asked) == (common.mean, common.asked)


def test_a_question_about_another_budget_than_that_of_the_first_arm_is_taken(tmp_path: Path) -> None:
    arms = [{"optim": ["rmsprop"]}, {"optim": ["sgd", "adam"], "protocols.demo.cold_start": [30]}]

    def read(labels: list[int]) -> list[plan.Arm]:
        stated = {"equivalence": 0.01, "primary": [{**QUESTION, "labels": labels}]}
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**STUDY, "arms": arms, "analysis": stated}, sort_keys=False))
        return plan.read(path, PARAMS)

    assert len(read([30, 30])) == 3
    with pytest.raises(BadInput, match="no cycle has so many; choose from 30, 70"):
        read([20, 20])


def test_learning_and_choosing_can_be_asked() -> None:
    questions = [{"name": kind, kind: [ADAM, SGD], "labels": [2000, 10_000]} for kind in ("learning", "choosing")]
    table = answers(planted(), analysis_of(questions)).set_index("name")
    assert table.loc["learning", "mean"] == pytest.approx(0.035, abs=0.002)
    assert table.loc["choosing", "mean"] == pytest.approx(-0.015, abs=0.002)
    assert set(table["outcome"]) == {Outcome.DIFFERENCE}
    assert table["asked"].str.contains("mean of 2,000 to 10,000 labels").all()


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_study_that_has_just_begun_has_a_report(seeds: int, tmp_path: Path) -> None:
    found = report.Stated(analysis_of([asked(labels=[1000, 3000]), asked(measure="area")]), "Since commit abc.")
    report.write(differing(0.02, 0.01, seeds), 12, tmp_path, found)
    page = (tmp_path / "report.html").read_text()
    assert f"<td>{seeds} seed{'s' * (seeds > 1)}, too few for an interval</td>" in page
    assert "a difference</td>" not in page


def test_the_picture_has_a_row_for_each_question() -> None:
    leads, missing = asked(labels=[1000, 3000]), asked(difference=[ADAM, "resnet18-rmsprop"], measure="area")
    alike = asked(difference=[SGD, ADAM], labels=[9000, 9000])
    table = answers(differing(0.02, 0.01), analysis_of([leads, missing], [alike]))
    (axes,) = figures.questions(table, 0.01).axes
    intervals, dots = axes.lines[1::2], axes.lines[2::2]
    assert [dot.get_ydata()[0] for dot in dots] == [0, 1, 2]
    assert dots[0].get_xdata()[0] == pytest.approx(100 * table["mean"][0])
    assert list(intervals[2].get_xdata()) == pytest.approx([100 * table["low"][2], 100 * table["high"][2]])
    assert [dot.get_marker() for dot in dots] == ["o", "o", "s"]
    assert [dot.get_markerfacecolor() for dot in dots] == ["black", "white", "white"]
    said = [text.get_text() for text in axes.texts]
    assert said == ["a difference, above zero", "not finished", table["outcome"][2]]
    assert said[2] == Outcome.UNDECIDED
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a question"] * 3


def test_the_page_answers_what_was_asked_and_judges_nothing_else(tmp_path: Path) -> None:
    found = report.Stated(analysis_of([asked(labels=[1000, 3000])]), "This analysis was first held by commit abc.")
    report.write(planted(), 20, tmp_path, found)
    page = (tmp_path / "report.html").read_text()
    assert "first held by commit abc" in page
    assert (tmp_path / "questions.png").exists()
    assert ">The questions stated beforehand</text>" in page
    assert re.search(r"<td>primary: a question</td>\s*<td>ResNet-18 Adam − ResNet-18 SGD, mean of 1,000 to 3,000", page)
    assert "a difference" in page
    assert "×" not in page
    assert all(f">{word} by ResNet-18 {optim}<" in page for word in ("trained", "chosen") for optim in ("Adam", "SGD"))
    texts = page + (tmp_path / "claims.md").read_text()
    assert not re.search(r">(supported|contradicted|not decided by these data)<|\*\*(supported|contra|not dec)", texts)
    assert ">not asked beforehand<" in page
    assert "so that the claims get\nno verdict" in page


def git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=N", "-c", "user.email=n@example.org")
    return subprocess.run(["git", *settings, *words], cwd=folder, text=True, check=True, capture_output=True).stdout


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a commit", "--allow-empty")
    return git(folder, "rev-parse", "HEAD").strip()


def test_the_commit_is_that_since_which_the_analysis_stands_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    path = Path("studies/study.yaml")
    path.parent.mkdir()
    write(path)
    before = commit(tmp_path)
    write(path, equivalence=0.02, primary=[QUESTION])
    commit(tmp_path)
    write(path, equivalence=0.01, primary=[QUESTION])
    assert stated.first_commit(path) is None
    assert "is not committed" in stated.when(path, [before])
    first = commit(tmp_path)
    path.write_text(path.read_text().replace("seeds:\n- 0", "seeds:\n- 0\n- 1"))
    later = commit(tmp_path)
    assert stated.first_commit(path) == first, "another number of seeds leaves the analysis as it was"
    assert f"commit {first[:9]}" in stated.when(path, [later])
    said = stated.when(path, [first, later])
    assert said.endswith(", when the study had 1 seeds instead of 2, before the first arm began.")
    assert f"arms began before it, at {before[:9]}" in stated.when(path, [before, later])
    text = path.read_text()
    write(path, equivalence=0.02, primary=[QUESTION])
    commit(tmp_path)
    path.write_text(text)
    again = commit(tmp_path)
    assert stated.first_commit(path) == again, "what was changed and changed back has not stood all the time"
    for other in (f"measure: macro_f1\n{text}", text.replace("cycles: 4", "cycles: 2")):
        path.write_text(other)
        changed = commit(tmp_path)
        assert stated.first_commit(path) == changed, "the same question about something else"
    path.write_text(text)
    commit(tmp_path)
    assert "cannot tell" in stated.when(path, ["0" * 40])
