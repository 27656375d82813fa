"""Two runs in one workspace: the second is refused, and the first is saved as if there had been none."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab import params
from lab.process import workspace
from tests.toy_stage import ToyStage, toy_stage

WORKING = "print('working', flush=True)", "input()", "print('to the end')"
BASELINE = "refs/exps/exec/EXEC_BASELINE"


@pytest.fixture
def stage() -> Iterator[ToyStage]:
    """A stage in a workspace of DVC."""
    with toy_stage() as toy:
        (toy.folder / ".dvc").mkdir()
        (toy.folder / "params.yaml").write_text("seed: 1\n")
        toy.environment |= {"AL_LAB_WARM": "off", "DVC_STAGE": "toy"}
        yield toy


def start_dvc(stage: ToyStage, name: str = "dvc", folder: str = ".") -> subprocess.Popen:
    """A process of that name that runs the stage, as DVC does, and then saves until it can read a line."""
    command = [sys.executable, "-m", "lab.process.launch", "toy"]
    run = f"import subprocess, sys; status = subprocess.run({command}, cwd={str(stage.folder)!r}).returncode"
    return subprocess.Popen(
        [sys.executable, "-c", f"{run}; print('saving', flush=True); sys.stdin.readline(); sys.exit(status)", name],
        cwd=stage.folder / folder,
        env=stage.environment | {"PYTHONPATH": str(stage.folder)},
        text=True,
        bufsize=1,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def is_refused(second: subprocess.Popen, first: subprocess.Popen) -> bool:
    """Whether a run is refused beside another; it ends either way."""
    printed, _ = second.communicate("\n\n")
    if f"another run is at work in this workspace (process {first.pid})" not in printed:
        return False
    assert "`dvc exp run --temp` or `--queue`" in printed
    assert "working" not in printed
    assert second.returncode == 1
    return True


def test_a_stage_that_outlives_its_run_does_not_have_the_next_one_refused(stage: ToyStage) -> None:
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    first.kill()
    first.communicate()  # until the stage has ended too
    stage.write("print('working', flush=True)")
    printed, _ = start_dvc(stage).communicate("\n")
    assert printed.splitlines() == ["working", "saving"]


def test_a_second_run_is_refused_until_the_first_has_ended(stage: ToyStage) -> None:
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    assert is_refused(start_dvc(stage), first)
    assert is_refused(start_dvc(stage), first), "the first one's lock is still its own"
    first.stdin.write("\n")
    assert first.stdout.readline() == "to the end\n"
    assert first.stdout.readline() == "saving\n"
    assert is_refused(start_dvc(stage), first), "between two stages there is none to be seen"
    first.communicate("\n")
    assert first.returncode == 0
    assert not is_refused(start_dvc(stage), first)


def test_a_stage_that_no_dvc_runs_is_no_run(stage: ToyStage) -> None:
    del stage.environment["DVC_STAGE"]
    other = start_dvc(stage)
    assert other.stdout.readline() == "saving\n"
    (stage.folder / "params.yaml").write_text("seed: 2\n")
    stage.environment["DVC_STAGE"] = "toy"
    assert not is_refused(start_dvc(stage), other)
    assert (stage.folder / "params.yaml").read_text() == "seed: 2\n"
    other.communicate("\n")


@pytest.mark.skipif(sys.platform != "linux", reason="a stage ends with its parent on Linux alone")
def test_a_run_waits_for_a_stage_whose_run_was_killed(stage: ToyStage) -> None:
    stage.write("signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'stopping\\n'))", *WORKING)
    killed = start_dvc(stage)
    assert killed.stdout.readline() == "working\n"
    killed.kill()
    assert killed.stdout.readline() == "stopping\n"
    stage.write("print('the next')")
    following = start_dvc(stage)
    assert following.stdout.readline() == "an earlier stage of this workspace is stopping: waiting for its end\n"
    assert killed.communicate("\n")[0] == "to the end\n"
    assert following.communicate("\n")[0] == "the next\nsaving\n"
    assert following.returncode == 0


def test_a_second_run_leaves_the_params_of_the_first(stage: ToyStage) -> None:
    params = stage.folder / "params.yaml"
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    params.write_text("seed: 2\n")  # as `dvc exp run -S seed=2` does before any stage
    start_dvc(stage).communicate()
    assert params.read_text() == "seed: 1\n"
    first.communicate("\n")


@pytest.mark.parametrize("warm", ["on", "off"])
def test_params_that_are_edited_during_a_stage_are_put_back_before_dvc_reads_them(stage: ToyStage, warm: str) -> None:
    params = stage.folder / "params.yaml"
    stage.environment["AL_LAB_WARM"] = warm
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    params.write_text("seed: 2\n")
    printed, _ = first.communicate("\n")
    assert "warning: params.yaml was changed while this run is at work, and is put back" in printed
    assert params.read_text() == "seed: 1\n"
    (kept,) = (stage.folder / ".dvc/tmp/runs").glob("*.yaml")
    assert kept.read_text() == "seed: 2\n", "what was typed is not lost"
    params.write_text("seed: 3\n")
    assert "put back" not in start_dvc(stage).communicate("\n")[0], "another run begins with what it finds"
    assert params.read_text() == "seed: 3\n"


def test_a_stage_reads_the_params_that_its_run_began_with(folder: Path) -> None:
    workspace.enter()
    Path("params.yaml").write_text("seed: 2\n")  # while the stage imports PyTorch, say
    assert params.load(seed="seed").seed == 1
    assert workspace.KEPT == params.KEPT


def test_params_that_dvc_changes_for_a_moment_are_left_to_it(folder: Path) -> None:
    workspace.enter()
    with open(".dvc/tmp/lock", "w") as lock:  # as `dvc exp run --queue -S seed=2` does
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path("params.yaml").write_text("seed: 2\n")
        restoring = threading.Thread(target=workspace.restore)
        restoring.start()
        restoring.join(0.2)
        assert Path("params.yaml").read_text() == "seed: 2\n"
        Path("params.yaml").write_text("seed: 1\n")
    restoring.join()
    assert not list(Path(".dvc/tmp/runs").glob("*.yaml"))


def test_a_stage_waits_for_another_one_of_the_same_run(stage: ToyStage) -> None:
    first = stage.start(*WORKING)
    assert first.stdout.readline() == "working\n"
    second = stage.start("print('the next')")
    assert second.stdout.readline().endswith("waiting for its end\n")
    assert first.communicate("\n")[0] == "to the end\n"
    assert second.communicate()[0] == "the next\n"


def test_waiting_can_be_interrupted(stage: ToyStage) -> None:
    first = stage.start(*WORKING)
    assert first.stdout.readline() == "working\n"
    second = stage.start("print('the next')")
    assert second.stdout.readline().endswith("waiting for its end\n")
    second.send_signal(signal.SIGINT)
    assert second.communicate()[0] == "error: stopped by SIGINT: finished stages are kept\n"
    assert first.communicate("\n")[0] == "to the end\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_that_was_killed_holds_no_lock(stage: ToyStage, number: signal.Signals) -> None:
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    psutil.Process(first.pid).children()[0].send_signal(number)
    first.communicate("\n")
    assert stage.run("print('the next')").endswith("the next\n")


@pytest.mark.parametrize("content", ["", "nonsense", "0", "9" * 30])
def test_a_lock_file_of_nonsense_is_passed(stage: ToyStage, content: str) -> None:
    (stage.folder / ".dvc/tmp").mkdir()
    (stage.folder / workspace.LOCK).write_text(content)
    assert stage.run("print('ran')") == "ran\n"


def test_a_folder_without_dvc_is_no_workspace(stage: ToyStage) -> None:
    (stage.folder / ".dvc").rmdir()
    assert stage.run("print('ran')") == "ran\n"
    assert not (stage.folder / ".dvc").exists()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a Git repository and workspace of DVC, at a commit that DVC has checked out."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path("params.yaml").write_text("seed: 1\n")
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    git("init", "--quiet")
    git(*author, "commit", "--quiet", "--allow-empty", "--message", "start")
    git("checkout", "--quiet", "--detach")
    monkeypatch.setenv(workspace.KEPT, "")
    for key, value in (("STAGE", "toy"), ("EXP_NAME", "first"), ("EXP_BASELINE_REV", git("rev-parse", "HEAD"))):
        monkeypatch.setenv(f"DVC_{key}", value)
    return tmp_path


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], text=True, stdout=subprocess.PIPE).stdout.strip()


def test_a_program_that_runs_two_experiments_gives_each_its_own_params(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.enter()
    monkeypatch.setenv("DVC_EXP_NAME", "second")
    Path("params.yaml").write_text("seed: 2\n")
    for _ in range(2):
        workspace.restore()
        assert Path("params.yaml").read_text() == "seed: 2\n"


def test_no_version_of_the_params_that_somebody_wrote_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.enter()
    for number, text in enumerate(("seed: 2\n", "seed: 3\n")):
        monkeypatch.setattr(workspace.time, "time", lambda number=number: 1e9 + number)
        Path("params.yaml").write_text(text)
        workspace.restore()
    assert {file.read_text() for file in Path(".dvc/tmp/runs").glob("*.yaml")} == {"seed: 2\n", "seed: 3\n"}


def test_the_commit_that_an_experiment_starts_from_is_known_to_its_end(folder: Path) -> None:
    workspace.enter()
    git("update-ref", "-d", BASELINE)  # as a second `dvc exp run` does when it is refused
    workspace.restore()
    assert git("rev-parse", BASELINE) == git("rev-parse", "HEAD")


def test_an_experiment_is_never_saved_to_a_branch(folder: Path) -> None:
    git("checkout", "--quiet", "-b", "main")
    workspace.enter()
    assert git("for-each-ref", BASELINE) == ""


def test_params_that_stay_are_not_touched(folder: Path, capsys: pytest.CaptureFixture) -> None:
    os.utime("params.yaml", (0, 0))
    workspace.enter()
    workspace.restore()
    assert Path("params.yaml").stat().st_mtime == 0
    assert capsys.readouterr().err == ""
