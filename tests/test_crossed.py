"""Crossed arms: each trains on what another acquired, waits for it, and counts only while that is so."""

import csv
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lab.errors import BadInput
from lab.study import __main__ as commands
from lab.study import experiments, plan, table
from lab.study.analysis import crossed
from tests.conftest import ROOT, Clone

PARAMS = (ROOT / "params.yaml").read_text()
STUDY = "studies/small/study.yaml"
COMMAND = [sys.executable, "-m", "lab.study"]


def arms_of(folder: Path, **study: object) -> dict[str, plan.Arm]:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"protocol": "demo", "dataset": "digits", "seeds": [7], **study}, sort_keys=False))
    return {arm.name: arm for arm in plan.read(path, PARAMS)}


def sources(arms: dict[str, plan.Arm]) -> dict[str, str | None]:
    return {name.removeprefix("demo-resnet18-"): arm.chosen_by for name, arm in arms.items() if arm.chosen_by}


def test_every_ordered_pair_of_optimizers_is_an_arm(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, crossed=["optim"], arms={"optim": ["sgd", "adam", "adamw"]})
    assert len(arms) == 3 + 6
    arm = arms["demo-resnet18-adam-chosen_by_sgd-s7"]
    assert (arm.chosen_by, arm.group) == ("demo-resnet18-sgd-s7", "resnet18-adam-chosen_by_sgd")
    assert (arm.params["optim"], arm.params["strategy"], arm.params["seed"]) == ("adam", "replay", 7)
    assert not any("replay.sets" in option for option in arm.options), "known once the other is finished"


def test_names_of_optimizers_can_have_dashes_and_share_words(tmp_path: Path) -> None:
    params = yaml.safe_load(PARAMS)
    params["optimizers"]["sgd-hot"] = params["optimizers"]["sgd"] | {"lr": 0.2}
    names = {"optim": ["sgd", "sgd-hot"]}
    path = tmp_path / "study.yaml"
    text = {"protocol": "demo", "dataset": "digits", "seeds": [7], "crossed": ["optim"], "arms": names}
    path.write_text(yaml.safe_dump(text))
    groups = [arm.group for arm in plan.read(path, yaml.safe_dump(params))]
    one, two = groups[:2]
    assert (one, two) == ("resnet18-sgd", "resnet18-sgd_hot")
    assert set(groups[2:]) == {crossed(one, two), crossed(two, one)}


def test_an_arm_stands_directly_behind_those_that_it_replays(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, seeds=[7, 8], crossed=["optim"], arms={"optim": ["sgd", "adam"]})
    assert [name.removeprefix("demo-resnet18-") for name in arms] == [
        *("sgd-s7", "adam-s7", "sgd-chosen_by_adam-s7", "adam-chosen_by_sgd-s7"),
        *("sgd-s8", "adam-s8", "sgd-chosen_by_adam-s8", "adam-chosen_by_sgd-s8"),
    ]


def test_random_choices_are_not_replayed_and_other_params_are_not_crossed(tmp_path: Path) -> None:
    arms = arms_of(
        tmp_path,
        crossed=["optim"],
        arms=[{"optim": ["sgd", "adam"], "strategy": ["loss_prediction", "random"]}, {"optim": ["adam_then_sgd"]}],
    )
    assert len(arms) == 4 + 2 + 1
    assert sources(arms) == {
        "sgd-chosen_by_adam-s7": "demo-resnet18-adam-s7",
        "adam-chosen_by_sgd-s7": "demo-resnet18-sgd-s7",
    }


@pytest.mark.parametrize(
    ("lost", "computed", "kept"),
    [
        ([], [], ["sgd", "adam", "sgd-chosen_by_adam", "adam-chosen_by_sgd"]),
        (["adam-chosen_by_sgd"], [], ["adam", "sgd-chosen_by_adam"]),
        (["adam-chosen_by_sgd"], ["sgd"], ["adam", "sgd-chosen_by_adam"]),
        (["sgd"], [], ["adam", "sgd-chosen_by_adam", "adam-chosen_by_sgd"]),
    ],
)
def test_rows_stand_for_arms_that_nobody_is_still_to_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: list[str], computed: list[str], kept: list[str]
) -> None:
    arms = arms_of(tmp_path, crossed=["optim"], arms={"optim": ["sgd", "adam"]})
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tidy.csv").touch()

    def rows(folder: Path, asked: list[plan.Arm], revision: str, computed: dict[str, str]) -> pd.DataFrame:
        return pd.DataFrame({"arm": [arm.name for arm in asked if arm.name not in {*name_of(*lost), *computed}]})

    def name_of(*groups: str) -> list[str]:
        return [f"demo-resnet18-{group}-s7" for group in groups]

    monkeypatch.setattr(table, "kept", rows)
    commits = dict.fromkeys(name_of(*computed), "commit")
    found = commands._kept_names(tmp_path / "study.yaml", list(arms.values()), "r", commits)
    assert found == set(name_of(*kept))


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[plan.Arm], pd.DataFrame]:
    """Two optimizers, crossed, and their rows in the table of a folder. Each acquires a set of its own."""
    arms = list(arms_of(tmp_path, crossed=["optim"], arms={"optim": ["sgd", "adam"]}).values())
    values = [
        dict.fromkeys(table.COLUMNS) | {
            "arm": arm.name,
            "settings": table._settings_of(arm),
            "revision": "r",
            "last_set": f"set of {arm.chosen_by or arm.name}",
        }
        for arm in arms
        for _ in arm.params["cycles"]
    ]  # fmt: skip
    tidy = pd.DataFrame(values)
    tidy.to_csv(tmp_path / "tidy.csv", index=False)
    monkeypatch.setattr(table, "git", lambda *arguments: "")
    monkeypatch.setattr(experiments, "is_same", lambda arm, begun, revision: True)
    return arms, tidy


@pytest.mark.parametrize(
    ("acquired", "kept"),
    [
        ("set of demo-resnet18-sgd-s7", ["adam", "sgd-chosen_by_adam", "adam-chosen_by_sgd"]),
        ("other images", ["adam", "sgd-chosen_by_adam"]),
    ],
)
def test_a_row_of_a_replay_holds_while_the_other_acquired_the_same(
    rows: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acquired: str, kept: list[str]
) -> None:
    arms, _ = rows
    monkeypatch.setattr(experiments, "replay_of", lambda commit: {"sets": ["first", "second", acquired]})
    found = table.kept(tmp_path, arms, "r", {"demo-resnet18-sgd-s7": "commit"})
    assert found["arm"].unique().tolist() == [f"demo-resnet18-{group}-s7" for group in kept]


def test_rows_from_a_commit_that_is_not_here_are_named(
    rows: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: str) -> str:
        assert arguments == ("cat-file", "-e", "r^{commit}")
        raise BadInput("fatal: Not a valid object name")

    monkeypatch.setattr(table, "git", refuse)
    with pytest.raises(BadInput, match=r"demo-resnet18-sgd-s7 began from r, which this clone lacks"):
        table.kept(tmp_path, rows[0], "r", {})


def test_each_row_names_the_commit_that_its_arm_began_from(rows: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    arms, tidy = rows
    monkeypatch.setattr(table, "_rows", lambda arm, commit: tidy[tidy["arm"] == arm.name])
    begun = [experiments.Experiment(arm, f"revision {n}", f"commit {n}") for n, arm in enumerate(arms)]
    monkeypatch.setattr(experiments, "experiments_of", lambda arms: begun)
    found = table.collect(arms, {item.arm.name: item.commit for item in begun})
    assert found.groupby("arm", sort=False)["revision"].unique().str.join("").tolist() == [
        item.revision for item in begun
    ]


def test_a_small_network_chooses_for_a_large_one(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, crossed=["arch"], arms={"arch": ["resnet18", "resnet50"], "optim": ["sgd"]})
    arm = arms["demo-resnet50-sgd-chosen_by_resnet18-s7"]
    assert arm.chosen_by == "demo-resnet18-sgd-s7"
    assert arm.params["arch"] == "resnet50"


def test_an_arm_replays_itself_under_another_seed_from_the_same_first_set(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, crossed=["seed"], arms={"optim": ["sgd"]})
    arm = arms["demo-resnet18-sgd-chosen_by_another_seed-s7"]
    assert arm.chosen_by == "demo-resnet18-sgd-s7"
    assert arm.params["seed"] != 7
    assert (arm.params["cold_start_seed"], arm.seed) == (7, 7)


def test_a_ceiling_is_one_cycle_on_the_whole_pool(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, crossed=["optim"], arms={"optim": ["sgd", "adam"]}, ceiling={"optim": ["sgd"]})
    assert len(arms) == 4 + 1
    arm = arms["demo-resnet18-sgd-all_labels-s7"]
    assert (arm.group, arm.labels) == ("resnet18-sgd-all_labels", [1297])
    held_out = {"arms": {"optim": ["sgd"]}, "ceiling": {"optim": ["sgd"], "validation": [200]}}
    assert arms_of(tmp_path, **held_out)["demo-resnet18-sgd-all_labels-s7"].labels == [1097]


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"ceiling": {"optim": ["sdg"]}}, "optim = 'sdg': choose from sgd"),
        ({"dataset": "digit", "ceiling": {"optim": ["sgd"]}}, "dataset = 'digit': choose from"),
        ({"ceiling": {"validation": ["some"]}}, "validation = 'some'"),
        ({"ceiling": {"cycles": [1]}}, "cycles: set cycles instead"),
        ({"ceiling": True}, "ceiling = True"),
    ],
)
def test_a_bad_ceiling_is_refused_by_name(tmp_path: Path, study: dict, message: str) -> None:
    with pytest.raises(BadInput) as refusal:
        arms_of(tmp_path, arms={"optim": ["sgd"]}, **study)
    assert message in str(refusal.value)


def test_only_what_chooses_can_be_crossed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"crossed\.0 = 'strategy': choose from"):
        arms_of(tmp_path, crossed=["strategy"], arms={"optim": ["sgd"]})


@pytest.fixture(scope="module")
def study(clone: Clone) -> Clone:
    """A finished study of two optimizers, crossed: the smallest there is."""
    file = clone.folder / STUDY
    file.parent.mkdir()
    arms = {"optim": ["sgd", "adam"], "protocols.demo.width": [4], "protocols.demo.training.epochs": [3]}
    study = {"protocol": "demo", "dataset": "digits", "seeds": [3], "cycles": 2, "crossed": ["optim"], "arms": arms}
    file.write_text(yaml.safe_dump(study))
    printed = clone(*COMMAND, "run", STUDY, "--jobs", "2")
    assert "4 of 4 arms are finished" in printed
    return clone


def sets(clone: Clone, name: str) -> list[str]:
    lock = yaml.safe_load(clone("git", "show", f"{_commit(clone, name)}:dvc.lock"))
    hashes = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
    return [hashes[f"data/labelled/{cycle}.csv"] for cycle in range(3)]


def _commit(clone: Clone, name: str) -> str:
    return clone("git", "for-each-ref", f"refs/exps/*/*/demo-resnet18-{name}-s3", "--format=%(objectname)").strip()


@pytest.mark.pipeline
def test_a_crossed_arm_trains_on_the_very_sets_of_the_other(study: Clone) -> None:
    assert sets(study, "adam-chosen_by_sgd") == sets(study, "sgd")
    assert sets(study, "sgd-chosen_by_adam") == sets(study, "adam")
    assert sets(study, "sgd") != sets(study, "adam")
    # What was computed in the first cycle is the arm's own: it has chosen nothing yet.
    histories = {
        name: yaml.safe_load(study("git", "show", f"{_commit(study, name)}:metrics/summary.json"))
        for name in ("adam", "adam-chosen_by_sgd", "sgd")
    }
    assert len({str(history) for history in histories.values()}) == 3
    texts = {name: study("git", "show", f"{_commit(study, name)}:plots/curve.csv") for name in histories}
    curves = {name: list(csv.DictReader(text.splitlines())) for name, text in texts.items()}
    # The query at its end is the other's; all that was learnt before it is the arm's own.
    own, crossed = ({**curves[name][0], "acquired_classes": None} for name in ("adam", "adam-chosen_by_sgd"))
    assert own == crossed, "choosing is zero before the first query"
    assert curves["adam"][1]["accuracy"] != curves["adam-chosen_by_sgd"][1]["accuracy"]


@pytest.mark.pipeline
def test_the_report_says_what_crossed_arms_acquired_in_common(study: Clone) -> None:
    study(*COMMAND, "report", STUDY)
    results = study.folder / "studies/small/results"
    (row,) = pd.read_csv(results / "overlap.csv").itertuples()
    pools = [pd.read_csv(study.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]) for name in (
        sets(study, "sgd")[1], sets(study, "adam")[1]
    )]  # fmt: skip
    one, two = (set(pool.loc[pool["cycle"] == 1, "index"]) for pool in pools)
    assert (row.group, row.other, row.seed, row.other_seed) == ("resnet18-sgd", "resnet18-adam", 3, 3)
    assert (row.labels, row.acquired) == (60, 40)
    assert row.jaccard == len(one & two) / len(one | two)
    assert "Images that both acquired" in (results / "report.html").read_text()


@pytest.mark.pipeline
def test_a_study_goes_on_from_its_table_alone(study: Clone) -> None:
    study(*COMMAND, "report", STUDY)
    tidy = pd.read_csv(study.folder / "studies/small/results/tidy.csv")
    study("git", "add", "--all")
    study("git", "commit", "--quiet", "-m", "results")
    elsewhere = study.beside("elsewhere")
    printed = elsewhere(*COMMAND, "run", STUDY)
    assert "4 of them finished" in printed
    # A whole arm is missing, and half of another: both are computed again, and the others are not.
    lost = tidy["arm"].str.contains("-sgd-s3") | (tidy["arm"].str.contains("-adam-s3") & (tidy["cycle"] == 1))
    path = elsewhere.folder / "studies/small/results/tidy.csv"
    tidy[~lost].to_csv(path, index=False)
    printed = elsewhere(*COMMAND, "run", STUDY)
    assert "2 of them finished" in printed
    assert "2 done, 0 running, 0 failed, 0 waiting" in printed
    elsewhere(*COMMAND, "report", STUDY)
    exact = ["arm", "cycle", "labels", "accuracy", "settings", "first_set"]
    pd.testing.assert_frame_equal(pd.read_csv(path)[exact], tidy[exact])
