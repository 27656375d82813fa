"""A study end to end: through its command, DVC's experiments and its report; stopped, killed and run again."""

import fcntl
import json
import os
import sys
from contextlib import chdir
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lab.study.run import arm
from tests.conftest import Clone

pytestmark = pytest.mark.pipeline
GOOD = ["demo-resnet18-sgd-lr0.1-s3", "demo-resnet18-sgd-lr0.05-s3"]
BAD = "demo-resnet18-sgd-lr1e+30-s3"
STUDY = "studies/toy/study.yaml"
RUN = [sys.executable, "-m", "lab.study", "run", STUDY, "--jobs", "2"]
STATUS = [sys.executable, "-m", "lab.study", "status", STUDY]


def write_study(clone: Clone, rates: list[float], epochs: int, count: int) -> None:
    file = clone.folder / "studies/toy/study.yaml"
    file.parent.mkdir(exist_ok=True)
    arms = {"optim": ["sgd"], "optimizers.sgd.lr": rates, "protocols.demo.width": [4]}
    arms["protocols.demo.training.epochs"] = [epochs]
    study = {"protocol": "demo", "dataset": "digits", "seeds": [3], "cycles": count, "arms": arms}
    file.write_text(yaml.safe_dump(study, sort_keys=False))


@pytest.fixture(scope="module")
def study(clone: Clone) -> tuple[Clone, str]:
    """A study of three arms of which one cannot be trained, and what its first run printed."""
    write_study(clone, [0.1, 0.05, 1e30], epochs=3, count=1)
    return clone, clone(*RUN, fails=True)


def names(clone: Clone) -> list[str]:
    return sorted(clone("dvc", "exp", "list", "--name-only").split())


def test_a_failing_arm_is_named_and_the_others_are_experiments(study: tuple[Clone, str]) -> None:
    clone, printed = study
    assert "2 done, 0 running, 1 failed, 0 waiting" in printed
    assert f"1 of 3 arms failed:\n  {BAD}: error: training diverged" in printed
    assert names(clone) == sorted(GOOD)
    assert clone("git", "status", "--porcelain", "--untracked-files=no") == "", "the workspace is as it was"


def test_the_status_of_each_arm(study: tuple[Clone, str]) -> None:
    clone, _ = study
    *rows, last = clone(*STATUS).splitlines()
    statuses = {name: rest.split() for name, rest in (row.split(maxsplit=1) for row in rows)}
    assert [statuses[name] for name in GOOD] == [["done", "1", "of", "1"]] * 2
    assert " ".join(statuses[BAD]).startswith("failed 0 of 1 error: training diverged")
    assert "0 waiting, 0 running, 2 done, 1 failed, 0 lost" in last
    assert "0 jobs of" in clone("python", "-m", "lab.study", "cancel", "studies/toy/study.yaml")


def test_what_is_finished_is_skipped_while_nothing_that_it_depends_on_has_changed(study: tuple[Clone, str]) -> None:
    clone, _ = study
    begun = clone("git", "rev-parse", "HEAD").strip()
    # Beside these arms: another optimizer's rate, and how the laboratory reports.
    params = yaml.safe_load(clone.read("params.yaml"))
    params["optimizers"]["adam"]["lr"] = 0.002
    (clone.folder / "params.yaml").write_text(yaml.safe_dump(params))
    (clone.folder / "lab/report/compare.py").write_text(clone.read("lab/report/compare.py") + "\n")
    clone("git", "commit", "--quiet", "--all", "-m", "a change beside the study")
    printed = clone(*RUN, fails=True)
    assert f"3 arms at {begun[:9]}, 2 of them finished" in printed
    assert "0 done, 0 running, 1 failed, 0 waiting" in printed
    params["optimizers"]["sgd"]["momentum"] = 0.8
    (clone.folder / "params.yaml").write_text(yaml.safe_dump(params))
    clone("git", "commit", "--quiet", "--all", "-m", "a change to the study's optimizer")
    printed = clone(*RUN, fails=True)
    assert f"was run at {begun[:9]}" in printed
    assert f"git checkout {begun[:9]}" in printed
    clone("git", "reset", "--quiet", "--hard", begun)


def test_every_arm_is_an_experiment_like_any_other(study: tuple[Clone, str]) -> None:
    clone, _ = study
    shown = pd.read_csv(StringIO(clone("dvc", "exp", "show", "--csv"))).set_index("Experiment")
    assert set(GOOD) <= set(shown.index)
    differences = json.loads(clone("dvc", "metrics", "diff", "--json", "--all", *GOOD))
    assert "accuracy" in differences["metrics/summary.json"]
    plots = json.loads(clone("dvc", "plots", "diff", "--json", *GOOD))["data"]["plots/curve.csv"]
    assert {row for plot in plots for row in plot["revisions"]} == set(GOOD)
    assert "all are intact" in clone("python", "-m", "lab.verify", *GOOD)


def test_the_costs_of_an_arm_are_in_its_experiment(study: tuple[Clone, str]) -> None:
    clone, _ = study
    for name in GOOD:
        commit = f"refs/exps/{head(clone)}/{name}"
        costs = pd.read_csv(StringIO(clone("git", "show", f"{commit}:metrics/costs.csv")))
        outs = yaml.safe_load(clone("git", "show", f"{commit}:dvc.lock"))["stages"]["cycle@0"]["outs"]
        (history,) = [out["md5"] for out in outs if out["path"] == "metrics/history/1.json"]
        assert costs[["history", "cycle", "labels"]].values.tolist() == [[history, 0, 20]]
        assert (costs["training_seconds"] > 0).all()


def test_the_cache_has_all_that_an_arm_computed(study: tuple[Clone, str]) -> None:
    clone, _ = study
    params = yaml.safe_load(clone("git", "show", f"refs/exps/{head(clone)}/{GOOD[0]}:params.yaml"))
    settings = [f"protocols.demo.width={params['protocols']['demo']['width']}", "protocols.demo.training.epochs=3"]
    settings += ["protocol=demo", "dataset=digits", "seed=3", "cold_start_seed=3", "optimizers.sgd.lr=0.1"]
    settings += ["cycles=[[0,1]]"]
    options = [word for setting in settings for word in ("-S", setting)]
    log = clone("dvc", "exp", "run", "--temp", "--name", "again", *options)
    assert "Running stage" not in log
    clone("dvc", "exp", "remove", "again")


def head(clone: Clone) -> str:
    commit = clone("git", "rev-parse", "HEAD").strip()
    return f"{commit[:2]}/{commit[2:]}"


def test_the_report_collects_what_is_finished_also_after_params_have_changed(study: tuple[Clone, str]) -> None:
    clone, _ = study
    params = clone.read("params.yaml")
    (clone.folder / "params.yaml").write_text(params.replace("alpha: 0.99", "alpha: 0.9"))
    clone("python", "-m", "lab.study", "report", "studies/toy/study.yaml")
    (clone.folder / "params.yaml").write_text(params)
    table = pd.read_csv(clone.folder / "studies/toy/results/tidy.csv")
    assert table["arm"].tolist() == GOOD
    assert table["labels"].tolist() == [20, 20]
    assert table["first_set"].nunique() == 1
    assert table["compile_seconds"].tolist() == [0, 0], "what the cycles logged: none was compiled"
    assert table["class_names"].map(json.loads).tolist() == [[*"0123456789"]] * 2
    page = clone.read("studies/toy/results/report.html")
    assert "2 of 3 arms finished" in page


def test_the_dry_run_counts_and_runs_nothing(study: tuple[Clone, str]) -> None:
    clone, _ = study
    printed = clone(*RUN, "--dry-run")
    # 20 labels, three epochs; 500 test images, the 1,297 of the stop set and the 1,277 of the pool
    row = next(line.split() for line in printed.splitlines() if line.strip().startswith(GOOD[0]))
    assert row[1:4] == ["20", "60", "3,074"]
    assert "2 at once: about" in printed


def test_changes_that_no_clone_would_see_are_refused(study: tuple[Clone, str]) -> None:
    clone, _ = study
    params = clone.read("params.yaml")
    (clone.folder / "params.yaml").write_text(params + "\n")
    assert "lack what is not committed: params.yaml" in clone(*RUN, fails=True)
    (clone.folder / "params.yaml").write_text(params)


def test_an_experiment_of_that_name_with_other_params_is_not_taken_for_the_arm(study: tuple[Clone, str]) -> None:
    clone, _ = study
    file = clone.folder / "studies/toy/study.yaml"
    before = file.read_text()
    write_study(clone, [0.1, 0.05], epochs=4, count=1)
    assert f"the experiment {GOOD[1]} " in clone(*RUN, fails=True)
    file.write_text(before)


def test_an_experiment_of_that_name_with_other_code_is_not_taken_for_the_arm(study: tuple[Clone, str]) -> None:
    clone, _ = study
    name, ref = GOOD[0], f"refs/exps/{head(clone)}/{GOOD[0]}"
    begun, right = clone("git", "rev-parse", "HEAD", ref).split()
    clone("git", "checkout", "--quiet", "-B", "other", right)
    (clone.folder / "lab/seeds.py").write_text(clone.read("lab/seeds.py") + "# other code\n")
    clone("git", "commit", "--quiet", "--all", "-m", "other code")
    clone("git", "update-ref", ref, "HEAD")
    clone("git", "checkout", "--quiet", "-")
    folder = clone.folder / ".dvc/tmp/study/toy"
    run_arm = [sys.executable, "-m", "lab.study.run.arm", STUDY, name, "--revision", begun, "--folder", str(folder)]
    for command in (RUN, run_arm):
        assert f"the experiment {name} (from {begun[:9]}) has other params or other code" in clone(*command, fails=True)
    # Nor where an earlier attempt left it, in the arm's own clone.
    clone("git", "update-ref", "-d", ref)
    with chdir(clone.folder):
        arm.clone(clone.folder, begun, folder / name)
    clone("git", "-C", str(folder / name), "update-ref", ref, "origin/other")
    clone("git", "branch", "--quiet", "-D", "other")
    clone(*run_arm)
    assert clone("git", "diff", "--name-only", right, ref, "--", "lab", "stages", "params.yaml") == ""


def test_two_runs_of_a_study_at_once_are_one(study: tuple[Clone, str]) -> None:
    clone, _ = study
    with open(clone.folder / ".dvc/tmp/study/toy/study.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is already running" in clone(*RUN, fails=True)


def test_an_arm_is_in_a_store_and_computed_nowhere_else(study: tuple[Clone, str], tmp_path: Path) -> None:
    clone, _ = study
    file = clone.folder / "studies/toy/study.yaml"
    before = file.read_text()
    write_study(clone, [0.07], epochs=3, count=1)
    # As a relative path it is another folder seen from the arm's clone.
    store = os.path.relpath(tmp_path / "store", clone.folder)
    clone("dvc", "remote", "add", "--local", "--default", "store", store)
    clone(*RUN)
    elsewhere = clone.beside("elsewhere")
    elsewhere("dvc", "remote", "add", "--local", "--default", "store", store)
    name = "demo-resnet18-sgd-s3"
    elsewhere("dvc", "exp", "pull", "--run-cache", "origin", name)
    elsewhere("dvc", "exp", "apply", name)
    assert "Running stage" not in elsewhere("dvc", "repro")
    assert "all are intact" in elsewhere("python", "-m", "lab.verify", name)
    clone("dvc", "remote", "remove", "--local", "store")
    file.write_text(before)
