"""A study end to end: through its command, DVC's experiments and its report; stopped, killed and run again."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tests.conftest import Clone

GOOD = ["demo-resnet18-sgd-lr0.1-s3", "demo-resnet18-sgd-lr0.05-s3"]
BAD = "demo-resnet18-sgd-lr1e+30-s3"
RUN = [sys.executable, "-m", "lab.study", "run", "studies/toy/study.yaml", "--jobs", "2"]
STATUS = [sys.executable, "-m", "lab.study", "status", "studies/toy/study.yaml"]


def write_study(clone: Clone, rates: list[float], epochs: int, cycles: int) -> None:
    file = clone.folder / "studies/toy/study.yaml"
    file.parent.mkdir(exist_ok=True)
    arms = {"optim": ["sgd"], "optimizers.sgd.lr": rates, "protocols.demo.width": [4]}
    arms["protocols.demo.training.epochs"] = [epochs]
    file.write_text(yaml.safe_dump({"protocol": "demo", "seeds": [3], "cycles": cycles, "arms": arms}, sort_keys=False))


@pytest.fixture(scope="module")
def study(clone: Clone) -> tuple[Clone, str]:
    """A study of three arms of which one cannot be trained, and what its first run printed."""
    write_study(clone, [0.1, 0.05, 1e30], epochs=1, cycles=1)
    return clone, clone(*RUN, fails=True)


def names(clone: Clone) -> list[str]:
    return sorted(clone("dvc", "exp", "list", "--name-only").split())


def test_a_failing_arm_is_named_and_the_others_are_experiments(study: tuple[Clone, str]) -> None:
    clone, printed = study
    assert "2 done, 0 running, 1 failed, 0 waiting" in printed
    assert f"1 of 3 arms failed:\n  {BAD}: error: training diverged" in printed
    assert names(clone) == sorted(GOOD)
    assert clone("git", "status", "--porcelain", "--untracked-files=no") == "", "the workspace is as it was"


def test_the_status_names_where_each_arm_stands(study: tuple[Clone, str]) -> None:
    clone, _ = study
    *rows, last = clone(*STATUS).splitlines()
    stands = {name: rest.split() for name, rest in (row.split(maxsplit=1) for row in rows)}
    assert [stands[name] for name in GOOD] == [["done", "1", "of", "1"]] * 2
    assert " ".join(stands[BAD]).startswith("failed 0 of 1 error: training diverged")
    assert "0 waiting, 0 running, 2 done, 1 failed, 0 lost" in last
    assert "0 jobs of" in clone("python", "-m", "lab.study", "cancel", "studies/toy/study.yaml")


def test_what_is_finished_is_skipped(study: tuple[Clone, str]) -> None:
    clone, _ = study
    printed = clone(*RUN, fails=True)
    assert "3 arms at" in printed
    assert "2 of them finished" in printed
    assert "0 done, 0 running, 1 failed, 0 waiting" in printed


def test_every_arm_is_an_experiment_like_any_other(study: tuple[Clone, str]) -> None:
    clone, _ = study
    shown = pd.read_csv(StringIO(clone("dvc", "exp", "show", "--csv"))).set_index("Experiment")
    assert set(GOOD) <= set(shown.index)
    differences = json.loads(clone("dvc", "metrics", "diff", "--json", "--all", *GOOD))
    assert "accuracy" in differences["metrics/summary.json"]
    plots = json.loads(clone("dvc", "plots", "diff", "--json", *GOOD))["data"]["plots/curve.csv"]
    assert {row for plot in plots for row in plot["revisions"]} == set(GOOD)
    assert "all are intact" in clone("python", "-m", "lab.verify", *GOOD)


def test_the_cache_has_all_that_an_arm_computed(study: tuple[Clone, str]) -> None:
    clone, _ = study
    params = yaml.safe_load(clone("git", "show", f"refs/exps/{head(clone)}/{GOOD[0]}:params.yaml"))
    settings = [f"protocols.demo.width={params['protocols']['demo']['width']}", "protocols.demo.training.epochs=1"]
    settings += ["protocol=demo", "seed=3", "cold_start_seed=3", "cycles=[{this: 0, next: 1}]", "optimizers.sgd.lr=0.1"]
    options = [word for setting in settings for word in ("-S", setting)]
    log = clone("dvc", "exp", "run", "--temp", "--name", "again", *options)
    assert "Running stage" not in log
    clone("dvc", "exp", "remove", "again")


def head(clone: Clone) -> str:
    commit = clone("git", "rev-parse", "HEAD").strip()
    return f"{commit[:2]}/{commit[2:]}"


def test_the_report_collects_what_is_finished(study: tuple[Clone, str]) -> None:
    clone, _ = study
    clone("python", "-m", "lab.study", "report", "studies/toy/study.yaml")
    table = pd.read_csv(clone.folder / "studies/toy/results/tidy.csv")
    assert table["arm"].tolist() == GOOD
    assert table["labels"].tolist() == [20, 20]
    assert table["first_set"].nunique() == 1
    page = clone.read("studies/toy/results/report.html")
    assert "2 of 3 arms finished" in page


def test_results_are_reported_after_params_have_changed(study: tuple[Clone, str]) -> None:
    clone, _ = study
    params = clone.read("params.yaml")
    (clone.folder / "params.yaml").write_text(params.replace("alpha: 0.99", "alpha: 0.9"))
    assert "report.html" in clone("python", "-m", "lab.study", "report", "studies/toy/study.yaml")
    (clone.folder / "params.yaml").write_text(params)


def test_the_dry_run_counts_and_runs_nothing(study: tuple[Clone, str]) -> None:
    clone, _ = study
    printed = clone(*RUN, "--dry-run")
    # 20 labels, one epoch; 500 test images and the 1,277 of the pool are scored
    row = next(line.split() for line in printed.splitlines() if line.strip().startswith(GOOD[0]))
    assert row[1:4] == ["20", "20", "1,777"]
    assert "2 at once: about" in printed


def test_changes_that_no_clone_would_see_are_refused(study: tuple[Clone, str]) -> None:
    clone, _ = study
    params = clone.read("params.yaml")
    (clone.folder / "params.yaml").write_text(params + "\n")
    assert "would not see what is not committed: params.yaml" in clone(*RUN, fails=True)
    (clone.folder / "params.yaml").write_text(params)


def test_a_study_goes_on_at_its_revision_while_its_sources_are_the_same(study: tuple[Clone, str]) -> None:
    clone, _ = study
    begun = clone("git", "rev-parse", "HEAD").strip()
    clone("git", "commit", "--quiet", "--allow-empty", "-m", "no change")
    assert f"at {begun[:9]}, 2 of them finished" in clone(*RUN, fails=True)
    (clone.folder / "params.yaml").write_text(clone.read("params.yaml") + "\n")
    clone("git", "commit", "--quiet", "--all", "-m", "a change")
    printed = clone(*RUN, fails=True)
    assert f"were run at {begun[:9]}" in printed
    assert f"git checkout {begun[:9]}" in printed
    clone("git", "reset", "--quiet", "--hard", begun)


def test_an_experiment_of_that_name_with_other_params_is_not_taken_for_the_arm(study: tuple[Clone, str]) -> None:
    clone, _ = study
    file = clone.folder / "studies/toy/study.yaml"
    before = file.read_text()
    write_study(clone, [0.1, 0.05], epochs=2, cycles=1)
    assert f"the experiment {GOOD[1]} " in clone(*RUN, fails=True)
    file.write_text(before)


def test_two_runs_of_a_study_at_once_are_one(study: tuple[Clone, str]) -> None:
    clone, _ = study
    with open(clone.folder / ".dvc/tmp/study/toy/study.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is being run already" in clone(*RUN, fails=True)


def test_an_arm_is_in_a_store_and_computed_nowhere_else(study: tuple[Clone, str], tmp_path: Path) -> None:
    clone, _ = study
    file = clone.folder / "studies/toy/study.yaml"
    before = file.read_text()
    write_study(clone, [0.07], epochs=1, cycles=1)
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


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """A study of two arms at the moment when both have a checkpoint."""
    clone = Clone(tmp_path)
    write_study(clone, [0.1, 0.05], epochs=40, cycles=2)
    with subprocess.Popen(
        RUN, cwd=clone.folder, env=clone.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        deadline = time.monotonic() + 120
        while len(list((clone.folder / ".dvc/tmp/study/toy").glob("*/scratch/cycle-*.pt"))) < 2:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "no checkpoints were saved"
            time.sleep(0.01)
        yield clone, process


def at_work(clone: Clone) -> list[str]:
    """Commands at work in the folder of a clone or below it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(clone.folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="kills as on Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_stopped_leaves_nothing_at_work_and_goes_on(
    stopped: tuple[Clone, subprocess.Popen], number: signal.Signals
) -> None:
    clone, process = stopped
    assert "2 running" in clone(*STATUS)
    os.kill(process.pid, number)
    printed = process.stdout.read()
    process.wait()
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number
        assert "error: stopped by SIGTERM: finished arms are kept" in printed
    else:
        deadline = time.monotonic() + 30
        while at_work(clone) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert at_work(clone) == []
    assert names(clone) == []
    assert "2 failed" in clone(*STATUS)
    printed = clone(*RUN)
    assert "2 arms are finished" in printed
    assert names(clone) == sorted(GOOD)
    logs = [clone.read(f".dvc/tmp/study/toy/{name}.log") for name in GOOD]
    assert all("going on from the checkpoint" in log for log in logs)
    assert "all are intact" in clone("python", "-m", "lab.verify", *GOOD)
