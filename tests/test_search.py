"""A search for settings: equal trials, a rule fixed beforehand, edges refused, and what it cost."""

import re
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc.utils.serialize import load_yaml

from lab.errors import BadInput
from lab.params import PARAMS_FILE
from lab.report import search as report
from lab.study import __main__ as study
from lab.study import choice, plan, search
from tests.conftest import ROOT
from tests.study_tables import tidy_of

PARAMS = (ROOT / "params.yaml").read_text()
FILE = {
    "protocol": "demo",
    "dataset": "digits",
    "validation": 200,
    "seeds": [100, 101],
    "labels": [20, 320],
    "grid": {
        "sgd": {"lr": [0.01, 0.03, 0.1], "weight_decay": [0.0005, 0.005, 0.05]},
        "adam": {"lr": [0.0003, 0.001, 0.003], "weight_decay": [0, 0.0005, 0.005]},
    },
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(FILE | changes, sort_keys=False))
    return path


def table(accuracy: dict[tuple[str, float, float, int], float], usual: float = 0.5) -> pd.DataFrame:
    """Trials of the file above, two seeds each, with one accuracy except where another is planted."""
    rows = [
        {"optim": optim, "lr": lr, "weight_decay": decay, "labels": labels, "seed": seed}
        for optim, grid in FILE["grid"].items()
        for lr in grid["lr"]
        for decay in grid["weight_decay"]
        for labels in FILE["labels"]
        for seed in FILE["seeds"]
    ]
    for row in rows:
        # The seeds lie around the planted mean.
        around = 0.01 if row["seed"] == 100 else -0.01
        row["accuracy"] = accuracy.get((row["optim"], row["lr"], row["weight_decay"], row["labels"]), usual) + around
    return pd.DataFrame(rows)


def test_every_optimizer_has_the_same_number_of_trials(tmp_path: Path) -> None:
    arms = plan.read(written(tmp_path), PARAMS)
    counts = pd.Series([arm.params["optim"] for arm in arms]).value_counts()
    assert counts.to_dict() == {"sgd": 36, "adam": 36}
    assert len({arm.name for arm in arms}) == 72
    assert {arm.params["strategy"] for arm in arms} == {"random"}
    assert {arm.params["validation"] for arm in arms} == {200}
    assert {(arm.protocol["cold_start"], len(arm.params["cycles"])) for arm in arms} == {(20, 1), (320, 1)}
    assert arms[0].params["optimizers"]["sgd"] == {
        "class": "SGD", "lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": FILE["grid"] | {"adam": {"lr": [1, 2, 3], "weight_decay": [0]}}}, "grid = {'sgd': 9, 'adam': 3}"),
        ({"grid": {"sgd": {"lr": [0.1, 0.2], "weight_decay": [0]}}}, "grid.sgd.lr"),
        (
            {"grid": {"sdg": FILE["grid"]["sgd"]}},
            "grid.sdg = 'sdg': choose from sgd, adam, adamw, rmsprop, sgd_tuned, adam_tuned (did you mean sgd?)",
        ),
        ({"validation": 0}, "validation = 0"),
        ({"labels": [20, 1200]}, "a budget of 1,200 labels"),
        ({"seeds": ["1"]}, "seeds.0 = '1'"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        plan.read(written(tmp_path, **changes), PARAMS)
    assert message in str(refusal.value)


def test_the_rule_is_the_mean_over_the_budgets() -> None:
    trials = table(
        {
            ("sgd", 0.03, 0.005, 20): 0.6, ("sgd", 0.03, 0.005, 320): 0.9,  # 0.75
            ("sgd", 0.01, 0.0005, 20): 0.8, ("sgd", 0.01, 0.0005, 320): 0.6,  # 0.70, and the best at 20
            ("adam", 0.001, 0.0, 20): 0.7,
        }
    )  # fmt: skip
    best = choice.best_of(trials).set_index("optim")
    assert best.loc["sgd", ["lr", "weight_decay"]].tolist() == [0.03, 0.005]
    assert best.loc["sgd", "score"] == pytest.approx(0.75)
    assert best.loc["adam", ["lr", "weight_decay"]].tolist() == [0.001, 0.0]
    choice.check_edges(trials)  # less decay than none there is not


def test_a_setting_that_diverged_once_is_not_chosen() -> None:
    trials = table({("sgd", 0.03, 0.005, 20): 0.9, ("sgd", 0.1, 0.05, 20): 0.6})
    is_it = (trials["lr"] == 0.03) & (trials["weight_decay"] == 0.005)
    trials.loc[is_it & (trials["seed"] == 100) & (trials["labels"] == 320), "accuracy"] = np.nan
    best = choice.best_of(trials).set_index("optim")
    assert best.loc["sgd", ["lr", "weight_decay"]].tolist() == [0.1, 0.05]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("sgd", 0.1, 0.005), r"grid.sgd.lr = \[0.01, 0.03, 0.1\]: 0.1 is best; add larger values"),
        (("sgd", 0.01, 0.005), "grid.sgd.lr = .*: 0.01 is best; add smaller values"),
        (("sgd", 0.03, 0.0005), "grid.sgd.weight_decay = .*: 0.0005 is best; add smaller values"),
        (("adam", 0.001, 0.005), "grid.adam.weight_decay = .*: 0.005 is best; add larger values"),
    ],
)
def test_a_best_at_the_edge_is_an_error_that_says_which_way(setting: tuple, message: str) -> None:
    inner = {"sgd": ("sgd", 0.03, 0.005), "adam": ("adam", 0.001, 0.0005)}
    planted = inner | {setting[0]: setting}
    with pytest.raises(BadInput, match=message) as refusal:
        choice.check_edges(table({(*one, labels): 0.9 for one in planted.values() for labels in (20, 320)}))
    assert len(str(refusal.value).splitlines()) == 2


def test_chosen_settings_become_blocks_and_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / PARAMS_FILE
    path.write_text(PARAMS)
    best = choice.best_of(table({("sgd", 0.03, 0.005, 20): 0.9, ("adam", 0.001, 0.0005, 20): 0.9}))
    assert choice.write_blocks(best, path) == ["sgd_tuned", "adam_tuned"]
    values = load_yaml(path)["optimizers"]
    assert values["sgd_tuned"] == values["sgd"] | {"lr": 0.03, "weight_decay": 0.005}
    assert values["adam_tuned"] == values["adam"] | {"lr": 0.001, "weight_decay": 0.0005}
    comments = [[line.partition("#")[2] for line in text.splitlines()] for text in (PARAMS, path.read_text())]
    assert list(filter(None, comments[0])) == list(filter(None, comments[1]))
    assert not re.search(r"[&*]\w", path.read_text()), "no alias in place of a list"
    choice.write_blocks(best, path)  # again: the same file
    assert load_yaml(path)["optimizers"] == values


HYBRID = {
    "adam": {"until_labels": 50, "class": "Adam", "lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.0005},
    "sgd": {"class": "SGD", "lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.005},
}


def accounted(folder: Path, study: dict, params: str) -> pd.DataFrame:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"protocol": "demo", "dataset": "digits", "seeds": [0], **study}))
    arms = plan.read(path, params)
    best = choice.best_of(table({("sgd", 0.03, 0.005, 20): 0.9, ("adam", 0.001, 0.0005, 20): 0.9}))
    searched = choice.Searched(search.read(written(folder)), best)
    assert (choice.account(arms, None)["searched"] == "no").all()
    return choice.account(arms, searched).set_index("group")


def test_the_account_counts_trials_and_labels(tmp_path: Path) -> None:
    params = tmp_path / PARAMS_FILE
    params.write_text(PARAMS)
    best = choice.best_of(table({("sgd", 0.03, 0.005, 20): 0.9, ("adam", 0.001, 0.0005, 20): 0.9}))
    choice.write_blocks(best, params)
    study = {"arms": {"optim": ["sgd", "sgd_tuned"]}}
    found = accounted(tmp_path, study, params.read_text())
    assert found.loc["resnet18-sgd"].tolist() == ["no", 0, 0, 0]
    # 9 settings at 2 budgets with 2 seeds; two seeds of 20 and 320 labels drawn, 200 held out.
    assert found.loc["resnet18-sgd_tuned"].tolist() == ["yes", 36, 680, 200]
    file = search.read(written(tmp_path))
    assert "36 trials of each optimizer" in file.cost
    assert "They read 880 labels" in file.cost
    elsewhere = accounted(tmp_path, study | {"protocol": "cpu_study", "dataset": "cifar10"}, params.read_text())
    assert elsewhere.loc["resnet18-sgd_tuned", "searched"] == "yes, with demo on digits"
    # A block that was changed afterwards is not what the search chose.
    changed = params.read_text().replace("lr: 0.03", "lr: 0.04")
    assert accounted(tmp_path, study, changed).loc["resnet18-sgd_tuned"].tolist() == ["no", 0, 0, 0]


@pytest.mark.parametrize(
    ("rate", "row"),
    [(0.03, ["yes", 2 * 36, 680, 200]), (0.04, ["in part", 36, 680, 200])],
)
def test_the_account_of_a_hybrid_is_that_of_its_phases(tmp_path: Path, rate: float, row: list) -> None:
    phases = HYBRID | {"sgd": HYBRID["sgd"] | {"lr": rate}}
    arms = {"optim": ["adam_then_sgd"], "optimizers.adam_then_sgd.phases": [phases]}
    assert accounted(tmp_path, {"arms": arms}, PARAMS).loc["resnet18-adam_then_sgd"].tolist() == row


def test_labels_that_arms_are_judged_on_are_counted_once(tmp_path: Path) -> None:
    arms = {"optim": ["sgd"], "validation": [100]}
    assert accounted(tmp_path, {"arms": arms}, PARAMS).loc["resnet18-sgd"].tolist() == ["no", 0, 0, 100]
    chosen = {"optimizers.sgd.lr": [0.03], "optimizers.sgd.weight_decay": [0.005]}
    # Those of the search are the same images.
    assert accounted(tmp_path, {"arms": arms | chosen}, PARAMS).loc["resnet18-sgd"].tolist() == ["yes", 36, 680, 200]


def test_a_study_names_a_search_that_has_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    path = tmp_path / "study.yaml"
    values = {"protocol": "demo", "dataset": "digits", "seeds": [0], "arms": {"optim": ["sgd"]}}
    path.write_text(yaml.safe_dump(values | {"search": "studies/digits/study.yaml"}))
    with pytest.raises(BadInput, match=r"search = 'studies/digits/study.yaml': must be the file of a search"):
        plan.read(path, PARAMS)
    file = written(tmp_path)
    path.write_text(yaml.safe_dump(values | {"search": f"{file}"}))
    plan.read(path, PARAMS)
    with pytest.raises(BadInput, match=r"it has no .*search/tidy.csv; run it first: python -m lab.study tune"):
        study._searched(path)
    rows = [tidy_of({"resnet18-sgd": [0.5]}, seeds=1).assign(arm=arm.name) for arm in plan.read(file, PARAMS)]
    (tmp_path / "search").mkdir()
    pd.concat(rows).to_csv(tmp_path / "search/tidy.csv", index=False)
    assert sorted(study._searched(path).best["optim"]) == ["adam", "sgd"]


def test_the_report_has_every_setting_and_a_picture(tmp_path: Path) -> None:
    trials = table({("sgd", 0.03, 0.005, 20): 0.9})
    trials.loc[(trials["lr"] == 0.1) & (trials["optim"] == "sgd"), "accuracy"] = np.nan
    report.write(pd.DataFrame({"arm": []}), trials, choice.best_of(trials), "72 trials.", tmp_path)
    text = (tmp_path / "search.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 18
    # The chosen ones first, then each grid from its smallest values on.
    assert [row.split(" | ")[:3] for row in rows[1:6]] == [
        ["| **SGD**", "**0.03**", "**0.005**"],
        ["| **Adam**", "**0.0003**", "**0**"],
        ["| SGD", "0.01", "0.0005"],
        ["| SGD", "0.01", "0.005"],
        ["| SGD", "0.01", "0.05"],
    ]
    assert "| **SGD** | **0.03** | **0.005** | **90.0 %** | **50.0 %** |" in rows
    assert "| SGD | 0.1 | 0.005 | – | – |" in rows
    assert (tmp_path / "search.md").read_text().endswith("\n–: a trial diverged, or is not finished.\n")
    assert (tmp_path / "search.png").stat().st_size > 10_000
    assert len(pd.read_csv(tmp_path / "search.csv")) == 72


def test_the_picture_names_the_chosen_settings() -> None:
    trials = table({("sgd", 0.03, 0.005, 20): 0.9})
    is_sgd, is_adam = trials["optim"] == "sgd", trials["optim"] == "adam"
    of_sgd = is_sgd & (trials["lr"] == 0.03) & (trials["weight_decay"] == 0.005)
    of_adam = is_adam & (trials["lr"] == 0.0003) & (trials["weight_decay"] == 0)
    note = report.draw(trials.assign(chosen=of_sgd | of_adam)).get_supxlabel()
    assert note == "Rings: the chosen settings, SGD 0.03 with a decay of 0.005, Adam 0.0003 with a decay of 0."


def test_a_search_is_reported_as_one_whatever_its_file_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = written(tmp_path).rename(tmp_path / "wide.yaml")
    arms = plan.read(path, PARAMS)
    rows = [tidy_of({"resnet18-sgd": [0.5]}, seeds=1).assign(arm=arm.name) for arm in arms]
    pd.concat(rows).to_csv(tmp_path / "trials.csv", index=False)
    study._report(Namespace(study=path, tidy=tmp_path / "trials.csv"))
    assert (tmp_path / "wide/search.md").exists()


def tuned(folder: Path, best: dict[str, tuple[float, float]], failed: dict[str, str]) -> None:
    """``tune``, with trials that were run elsewhere: each optimizer's best setting as planted."""
    path = written(folder)
    rows = []
    for arm in plan.read(path, PARAMS):
        block = arm.params["optimizers"][arm.params["optim"]]
        is_best = (block["lr"], block["weight_decay"]) == best[arm.params["optim"]]
        if arm.name not in failed:
            rows.append(tidy_of({"resnet18-sgd": [0.9 if is_best else 0.5]}, seeds=1).assign(arm=arm.name))
    pd.concat(rows).to_csv(folder / "trials.csv", index=False)
    study._tune(Namespace(study=path, tidy=folder / "trials.csv"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, where trials fail as the test says."""
    monkeypatch.chdir(tmp_path)
    Path(PARAMS_FILE).write_text(PARAMS)
    return tmp_path


INTERIOR = {"sgd": (0.03, 0.005), "adam": (0.001, 0.0005)}
OF_ANOTHER_SETTING = "demo-search-sgd-lr0.1-weight_decay0.05-n20-s100"


@pytest.mark.parametrize("failed", [{}, {OF_ANOTHER_SETTING: "cycle 0: training diverged: the loss is nan in epoch 2"}])
def test_tune_writes_what_it_chose_into_params(
    folder: Path, failed: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(study, "_run_arms", lambda arguments: failed)
    tuned(folder, INTERIOR, failed)
    blocks = load_yaml(folder / PARAMS_FILE)["optimizers"]
    found = {name: (blocks[f"{name}_tuned"]["lr"], blocks[f"{name}_tuned"]["weight_decay"]) for name in INTERIOR}
    assert found == INTERIOR
    assert "compare them by optim: [sgd_tuned, adam_tuned]" in capsys.readouterr().out
    assert ("| – |" in (folder / "search/search.md").read_text()) == bool(failed)


def test_tune_says_where_no_setting_of_an_optimizer_was_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {arm.name: "training diverged" for arm in plan.read(written(folder), PARAMS) if "-sgd-" in arm.name}
    monkeypatch.setattr(study, "_run_arms", lambda arguments: failed)
    with pytest.raises(BadInput, match=r"grid\.sgd: a trial of every setting diverged, so none is chosen"):
        tuned(folder, INTERIOR, failed)
    assert (folder / PARAMS_FILE).read_text() == PARAMS


def test_tune_keeps_params_where_a_best_lies_at_an_edge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "_run_arms", lambda arguments: {})
    with pytest.raises(BadInput, match=r"grid.sgd.lr = \[0.01, 0.03, 0.1\]: 0.1 is best; add larger values"):
        tuned(folder, INTERIOR | {"sgd": (0.1, 0.005)}, {})
    assert (folder / PARAMS_FILE).read_text() == PARAMS
    assert (folder / "search/search.png").exists(), "what was found is shown all the same"


def test_tune_chooses_nothing_while_trials_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {OF_ANOTHER_SETTING: "no space left on the disk"}
    monkeypatch.setattr(study, "_run_arms", lambda arguments: failed)
    with pytest.raises(BadInput, match=f"1 trials failed:\n  {OF_ANOTHER_SETTING}: no space left"):
        tuned(folder, INTERIOR, failed)
    assert (folder / PARAMS_FILE).read_text() == PARAMS
    monkeypatch.setattr(study, "_run_arms", lambda arguments: None)
    tuned(folder, INTERIOR, {})
    assert (folder / PARAMS_FILE).read_text() == PARAMS, "a dry run"
