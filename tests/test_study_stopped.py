"""A study of arms that run at once on this machine, stopped or killed: nothing stays at work, and it can be resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Clone
from tests.test_study_run import GOOD, RUN, STATUS, names, write_study

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(sys.platform != "linux", reason="kills as on Linux"),
]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """A study of two arms at the moment when both have a checkpoint."""
    clone = Clone(tmp_path)
    write_study(clone, [0.1, 0.05], epochs=150, count=2)
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
    """Commands that run in the folder of a clone or below it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(clone.folder):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(("number", "cycles"), [(signal.SIGTERM, 2), (signal.SIGKILL, 3)])
def test_a_study_that_is_stopped_leaves_nothing_at_work_and_can_be_resumed(
    stopped: tuple[Clone, subprocess.Popen], number: signal.Signals, cycles: int
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
    assert clone(*STATUS).count("stopped by a signal; run the study again to resume it") == 2
    assert "2 waiting, 0 running, 0 done, 0 failed, 0 lost" in clone(*STATUS)
    for name in GOOD:
        # As a kill leaves them while DVC writes.
        (clone.folder / f".dvc/tmp/study/toy/{name}/.dvc/tmp/rwlock").write_text('{"data/labe')
        (clone.folder / f".dvc/tmp/study/toy/{name}/dvc.lock").write_text("schema: '2.0'\nstages:\n  check:\n")
    # Perhaps with more cycles: the clones still have the settings of the first attempt.
    write_study(clone, [0.1, 0.05], epochs=150, count=cycles)
    printed = clone(*RUN)
    assert "2 of 2 arms are finished" in printed
    assert names(clone) == sorted(GOOD)
    assert clone(*STATUS).count(f"{cycles} of {cycles}") == 2
    logs = [clone.read(f".dvc/tmp/study/toy/{name}.log") for name in GOOD]
    assert all("going on from the checkpoint" in log for log in logs)
    assert "all are intact" in clone("python", "-m", "lab.verify", *GOOD)
