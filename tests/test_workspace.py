"""Two runs in one workspace: the second is refused, unless the first is only stopping."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.toy_stage import ToyStage, toy_stage

WORKING = "print('working', flush=True)", "input()", "print('to the end')"


@pytest.fixture
def stage() -> Iterator[ToyStage]:
    """A stage in a workspace of DVC."""
    with toy_stage() as toy:
        (toy.folder / ".dvc").mkdir()
        (toy.folder / "params.yaml").write_text("seed: 1\n")
        toy.environment |= {"AL_LAB_WARM": "off", "DVC_STAGE": "toy"}
        yield toy


def start_dvc(stage: ToyStage) -> subprocess.Popen:
    """A process that runs the stage, as DVC does, and that is killed without it."""
    command = [sys.executable, "-m", "lab.process.launch", "toy"]
    code = f"import subprocess, sys; sys.exit(subprocess.run({command}).returncode)"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=stage.folder,
        env=stage.environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_second_run_is_refused_and_the_first_goes_on(stage: ToyStage) -> None:
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    for _ in range(2):
        second = start_dvc(stage)
        printed, _ = second.communicate()
        assert f"another run is at work in this workspace (process {first.pid})" in printed
        assert "`dvc exp run --temp` or `--queue`" in printed
        assert "working" not in printed
        assert second.returncode == 1
    assert first.communicate("\n")[0] == "to the end\n"
    assert first.returncode == 0
    assert start_dvc(stage).communicate("\n")[0] == "working\nto the end\n", "it is over"


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
    assert following.communicate()[0] == "the next\n"
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


def test_a_stage_waits_for_another_one_of_the_same_run(stage: ToyStage) -> None:
    first = stage.start(*WORKING)
    assert first.stdout.readline() == "working\n"
    second = stage.start("print('the next')")
    assert second.stdout.readline().endswith("waiting for its end\n")
    assert first.communicate("\n")[0] == "to the end\n"
    assert second.communicate()[0] == "the next\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stage_that_was_killed_holds_no_lock(stage: ToyStage, number: signal.Signals) -> None:
    stage.write(*WORKING)
    first = start_dvc(stage)
    assert first.stdout.readline() == "working\n"
    psutil.Process(first.pid).children()[0].send_signal(number)
    first.wait()
    assert start_dvc(stage).communicate("\n")[0] == "working\nto the end\n"


def test_a_folder_without_dvc_is_no_workspace(stage: ToyStage) -> None:
    (stage.folder / ".dvc").rmdir()
    assert stage.run("print('ran')") == "ran\n"
    assert not (stage.folder / ".dvc").exists()
