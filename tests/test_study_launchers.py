"""The status and the folder of a study's arms, and what SLURM is told: without a cluster."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.errors import BadInput
from lab.study import __main__
from lab.study.run import arm, folders, slurm, states, task
from lab.study.run.cluster import Settings
from lab.study.run.folders import LastState
from lab.study.run.states import Job, Status
from tests.conftest import ROOT


def test_every_setting_reaches_sbatch() -> None:
    settings = Settings(
        partition="p",
        account="a",
        gres="gpu:a100:1",
        cpus=4,
        memory="16G",
        time_limit="12:00:00",
        arms_at_once=8,
        warning_seconds=60,
        shell="/bin/tcsh",
        setup=["module load python"],
        options=["--qos=long"],
    )
    command = slurm.command(settings, "toy", Path("/w"), 60, "17")
    expected = (
        "--partition=p --account=a --gres=gpu:a100:1 --cpus-per-task=4 --mem=16G --time=12:00:00 --array=0-59%8 "
        "--signal=B:USR2@60 --dependency=afterany:17 --requeue --qos=long --output=/w/slurm-%A_%a.log"
    )
    assert set(expected.split()) <= set(command)
    assert not any(option.startswith("--gpus") for option in command)
    script = slurm.script(settings, Path("/w/of toy.json")).splitlines()
    assert script[:2] == ["#!/bin/tcsh", "module load python && \\"]
    assert script[2].startswith("exec ")
    assert script[2].endswith("-m lab.study.run.task '/w/of toy.json'")


@pytest.mark.parametrize(
    ("state", "last", "is_locked", "status"),
    [
        ("PENDING", None, False, Status.WAITING),
        ("PENDING", LastState.STOPPED, False, Status.WAITING),
        ("RUNNING", LastState.STARTED, False, Status.RUNNING),
        ("COMPLETING", LastState.STOPPED, False, Status.RUNNING),
        ("COMPLETED", LastState.ENDED, False, Status.RUNNING),
        ("COMPLETED", LastState.STARTED, False, Status.RUNNING),
        ("FAILED", LastState.FAILED, False, Status.FAILED),
        ("CANCELLED", LastState.STOPPED, False, Status.FAILED),
        ("CANCELLED", None, False, Status.FAILED),
        ("TIMEOUT", LastState.STARTED, False, Status.FAILED),
        ("OUT_OF_MEMORY", LastState.STARTED, False, Status.FAILED),
        ("NODE_FAIL", LastState.STARTED, False, Status.LOST),
        ("FAILED", LastState.STARTED, True, Status.RUNNING),
        # SLURM has forgotten the job
        ("forgotten", LastState.FAILED, False, Status.FAILED),
        ("forgotten", LastState.STOPPED, False, Status.FAILED),
        ("forgotten", LastState.STARTED, False, Status.LOST),
        ("forgotten", None, False, Status.LOST),
        # never submitted
        (None, None, False, Status.WAITING),
        (None, LastState.ENDED, False, Status.WAITING),
        (None, LastState.STOPPED, False, Status.WAITING),
        (None, LastState.STARTED, True, Status.RUNNING),
        (None, LastState.STARTED, False, Status.LOST),
        (None, LastState.FAILED, False, Status.FAILED),
    ],
)
def test_the_status_of_an_arm(
    tmp_path: Path, state: str | None, last: LastState | None, is_locked: bool, status: Status
) -> None:
    jobs = {} if state is None else {"arm": None if state == "forgotten" else Job("7_0", state, "None", "n1")}
    if last:
        (tmp_path / "arm.state").write_text(last)
    arms = [SimpleNamespace(name="arm")]
    with open(tmp_path / "arm.lock", "w") as lock:
        if is_locked:
            fcntl.flock(lock, fcntl.LOCK_EX)
        assert states.survey(arms, set(), tmp_path, jobs)["arm"].status == status
        assert states.survey(arms, {"arm"}, tmp_path, jobs)["arm"].status == Status.DONE


def test_the_reason_is_the_first_error_of_the_last_attempt(tmp_path: Path) -> None:
    (tmp_path / "arm.log").write_text("--- one\nerror: old\n--- two\nERROR: of DVC\nerror: new\nerror: not done\n")
    assert folders.reason(tmp_path, "arm").startswith("error: new (")
    assert folders.reason(tmp_path, "other").startswith("nothing was printed (")


def test_an_arm_records_its_state(tmp_path: Path) -> None:
    with folders.recording_state(tmp_path, "arm"):
        assert folders.last_state_of(tmp_path, "arm") == LastState.STARTED
    assert folders.last_state_of(tmp_path, "arm") == LastState.ENDED
    for error, state in (
        (SystemExit(143), LastState.STOPPED),
        (OSError(), LastState.FAILED),
        (KeyboardInterrupt(), LastState.FAILED),
    ):
        with pytest.raises(type(error)), folders.recording_state(tmp_path, "arm"):
            raise error
        assert folders.last_state_of(tmp_path, "arm") == state


def test_a_study_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study, disk = Path("studies/toy/study.yaml"), tmp_path / "disk"
    for _ in range(2):
        folders.link_to_disk(study, disk)
        assert folders.of(study).is_relative_to(disk)
    folders.of(study).rmdir()  # the disk was wiped
    folders.link_to_disk(study, disk)
    assert folders.of(study).is_dir()


@pytest.mark.parametrize("is_link", [True, False])
def test_a_study_moves_to_another_disk_by_the_command_of_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    study, other = Path("studies/toy/study.yaml"), tmp_path / "other disk"
    if is_link:
        folders.link_to_disk(study, tmp_path / "disk")
    else:
        folders.of(study).mkdir(parents=True)
    (folders.of(study) / "arm.log").touch()
    with pytest.raises(BadInput) as refusal:
        folders.link_to_disk(study, other)
    command = str(refusal.value).partition("Move it: ")[2].partition(". Or start over")[0]
    subprocess.run(command, shell=True, check=True)
    folders.link_to_disk(study, other)
    assert folders.of(study).is_relative_to(other)
    assert (folders.of(study) / "arm.log").exists()


def test_cycles_are_counted_without_the_empty_history(tmp_path: Path) -> None:
    assert folders.cycles_of(tmp_path, "arm") == []
    history = tmp_path / "arm/metrics/history"
    history.mkdir(parents=True)
    for number, count in enumerate([0, 1, 2]):
        (history / f"{number}.json").touch()
        assert len(folders.cycles_of(tmp_path, "arm")) == count


@pytest.mark.parametrize(
    ("file", "has_advanced"),
    [
        ("data/labelled/0.csv", True),
        ("metrics/history/1.json", True),
        ("metrics/history/0.json", False),
        ("scratch/cycle-0.pt", True),
        ("params.yaml", False),
    ],
)
def test_an_attempt_that_computed_something_is_worth_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, has_advanced: bool
) -> None:
    monkeypatch.setattr(task.signal, "signal", lambda number, handler: None)
    subprocess.run(["git", "init", "--quiet", tmp_path / "arm"], check=True)
    (tmp_path / "arm" / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "arm" / file).touch()
    os.utime(tmp_path / "arm" / file, (0, 0))
    attempt = task.Attempt(Path("study.yaml"), "0" * 40, [], tmp_path)
    assert not attempt.has_advanced("arm"), "an earlier attempt wrote it"
    os.utime(tmp_path / "arm" / file, (attempt.begun, attempt.begun))
    assert attempt.has_advanced("arm") == has_advanced


def test_a_retry_restores_the_settings_and_keeps_the_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, tree = tmp_path / "repository", tmp_path / "study/arm"
    files = ["params.yaml", "dvc.lock", "metrics/costs.csv"]

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        return subprocess.check_output(["git", *identity, *arguments], cwd=repository, text=True).strip()

    for file in (repository / name for name in files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("committed")
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "-m", "start")
    monkeypatch.chdir(repository)
    arm.clone(repository, git("rev-parse", "HEAD"), tree)
    for name in files:
        (tree / name).write_text("of an earlier attempt")
    commands = []
    monkeypatch.setattr(arm, "Steps", lambda folder, lock: lambda *command, **_: commands.append(command))
    what = SimpleNamespace(name="arm", options=["-S", "seed=3"], chosen_by=None)
    arm.run_steps(what, repository, git("rev-parse", "HEAD"), tree, True, 0)
    assert commands == [("dvc", "exp", "run", "--quiet", "-S", "seed=3", "cold_start")]
    texts = [(tree / name).read_text() for name in files]
    assert texts == ["committed", "committed", "of an earlier attempt"]


@pytest.mark.parametrize(("code", "words"), [(None, "squeue is not installed"), ("exit 1", "squeue failed")])
def test_slurm_that_does_not_answer_loses_no_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, words: str
) -> None:
    (tmp_path / "submissions").mkdir()
    submission = {"name": "toy-1", "elements": [["arm"]], "options": [], "revision": "0" * 40}
    (tmp_path / "submissions/toy-1.json").write_text(json.dumps(submission))
    if code:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=words):
        slurm.jobs_of(tmp_path, "0" * 40)


def test_what_arms_share_is_prepared_by_one_that_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    submitted = []
    monkeypatch.setattr(slurm, "_submit", lambda *arguments: submitted.append(arguments[1]) or "1")
    arms = [SimpleNamespace(name=name, prefix="the same", chosen_by=None) for name in ("finished", "second", "third")]
    slurm.submit(Path("studies/toy/study.yaml"), arms, arms[1:], "0" * 40, SimpleNamespace(arms_at_once=2))
    assert submitted == [[["second"]], [["second"], ["third"]]]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "studies/paper/study.yaml", "--slurm", "studies/clusters/generic.yaml", "--dry-run"],
        ["status", "studies/paper/study.yaml"],
        ["cancel", "studies/paper/study.yaml"],
    ],
)
def test_a_login_node_does_not_wait_for_pytorch(command: list[str]) -> None:
    code = "import sys; from lab.study.__main__ import main; main(); print(*sys.modules)"
    printed = subprocess.check_output([sys.executable, "-c", code, *command], text=True, cwd=ROOT)
    loaded = printed.splitlines()[-1].split()
    assert "lab.study.plan" in loaded
    assert not {"torch", "pandas", "seaborn"} & set(loaded)


def test_a_study_is_found_by_its_whole_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(__main__, "_status", lambda arguments: found.append(arguments.study))
    # Git knows the files of a commit by their paths within the repository.
    for name in ("studies/toy/study.yaml", f"{tmp_path}/studies/toy/study.yaml", "/elsewhere/study.yaml"):
        monkeypatch.setattr(sys, "argv", ["study", "status", name])
        __main__.main()
    assert found == [*[Path("studies/toy/study.yaml")] * 2, Path("/elsewhere/study.yaml")]


def test_a_study_outside_the_repository_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "status", "studies/toy/study.yaml"])
    with pytest.raises(BadInput, match=r"^params\.yaml: .*; run studies in the repository's folder$"):
        __main__.main()
