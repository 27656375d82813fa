"""What goes wrong is one line and a status; a traceback is for errors of the code."""

import errno
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lab.errors import BadInput, Diverged, Interrupted
from lab.process import ending

PARAMS = """
optim: nadam
protocol: tiny
optimizers: {nadam: {class: NAdam, lr: 0.5}, sgd: {class: SGD, lr: 0.1}}
protocols: {tiny: {training: {batch_size: 16}}, other: {training: {batch_size: 8}}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    return tmp_path


def failing_with(error: BaseException):
    def main() -> None:
        raise error

    return main


def line_of(error: BaseException, capsys: pytest.CaptureFixture, status: int = 1, cycle: str | None = None) -> str:
    """The one line that is printed, without the word ``error``."""
    assert ending.status_of(failing_with(error), cycle) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_success_is_silent(capsys: pytest.CaptureFixture) -> None:
    assert ending.status_of(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_a_command_exits_with_its_status() -> None:
    for main, status in ((lambda: None, 0), (failing_with(BadInput("no")), 1)):
        with pytest.raises(SystemExit) as caught:
            ending.run(main)
        assert caught.value.code == status


def test_bad_input_is_its_message(capsys: pytest.CaptureFixture) -> None:
    assert line_of(BadInput("optim = 'x': choose from sgd"), capsys) == "optim = 'x': choose from sgd"


def test_signals_are_named_with_what_is_kept(capsys: pytest.CaptureFixture) -> None:
    kept = Interrupted(signal.SIGTERM, "training is kept in a.pt")
    assert line_of(kept, capsys, status=143) == "stopped by SIGTERM: training is kept in a.pt"
    assert line_of(KeyboardInterrupt(), capsys, status=130) == "stopped by SIGINT: finished stages are kept"


def test_divergence_names_optimizer_and_learning_rate(capsys: pytest.CaptureFixture) -> None:
    error = Diverged("the loss is nan in epoch 3")
    assert line_of(error, capsys, cycle="4") == (
        "training diverged: the loss is nan in epoch 3 of cycle 4, with optim = 'nadam' and optimizers.nadam.lr = 0.5; "
        "choose a smaller learning rate (finished cycles are kept)"
    )
    assert line_of(error, capsys) == "training diverged: the loss is nan in epoch 3"


def errors_of_memory() -> list[Exception]:
    """What the libraries raise, really raised where that is possible."""
    found: list[Exception] = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")]
    for allocate in (lambda: np.empty(2**55), lambda: torch.empty(2**55)):
        try:
            allocate()
        except (MemoryError, RuntimeError) as error:
            found.append(error)
    return [*found, RuntimeError("could not create a memory object"), RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")]


@pytest.mark.parametrize("error", errors_of_memory(), ids=lambda error: type(error).__name__)
def test_lack_of_memory_names_the_batch_size(error: Exception, capsys: pytest.CaptureFixture) -> None:
    line = line_of(error, capsys, cycle="4")
    assert line.startswith(
        "out of memory in cycle 4, with protocols.tiny.training.batch_size = 16: choose a smaller batch"
    )
    assert "finished cycles are kept" in line
    assert str(error).partition("\n")[0] in line
    assert line_of(error, capsys).startswith("out of memory")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_folder(number: int, capsys: pytest.CaptureFixture, folder: Path) -> None:
    line = line_of(OSError(number, "full", "a.csv"), capsys)
    assert line.startswith(f"no space left on the disk of {folder}, ")
    assert "free some and run again" in line


def test_a_file_that_cannot_be_used_is_named_with_the_reason(capsys: pytest.CaptureFixture, folder: Path) -> None:
    for use, reason in (
        ((folder / "absent").read_text, "no such file or directory"),
        (folder.read_text, "is a directory"),
        ((folder / "params.yaml/below").mkdir, "not a directory"),
    ):
        with pytest.raises(OSError) as caught:
            use()
        assert line_of(caught.value, capsys) == f"{caught.value.filename}: {reason}"
    assert line_of(PermissionError(13, "Permission denied", "a.csv"), capsys) == "a.csv: permission denied"


@pytest.mark.parametrize(
    "error", [ValueError("a fault"), RuntimeError("a fault"), OSError("a fault"), KeyError("a fault")]
)
def test_other_errors_keep_their_traceback(error: Exception, capsys: pytest.CaptureFixture) -> None:
    assert ending.status_of(failing_with(error), "4") == 1
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback")
    assert "a fault" in printed


class TestFullCache:
    """A stage is refused whose outputs have no room in DVC's cache."""

    @pytest.fixture(autouse=True)
    def repository(self, folder: Path) -> None:
        subprocess.run(["git", "init", "--quiet"], check=True)
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[cache]\n    dir = ../elsewhere/not/there/yet\n")
        (folder / "elsewhere").mkdir()
        for path, size in (("data/new", 3_000_000), ("other/new", 50_000_000)):
            Path(path).parent.mkdir()
            Path(path).write_bytes(b"0" * size)

    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> SimpleNamespace:
        """The disk of the cache alone, which can be filled."""
        usage = SimpleNamespace(free=0)

        def disk_usage(path: Path) -> SimpleNamespace:
            assert path == folder / "elsewhere", "the deepest folder that there is"
            return usage

        monkeypatch.setattr(shutil, "disk_usage", disk_usage)
        return usage

    def test_room_for_all_that_was_written_is_enough(self, disk: SimpleNamespace) -> None:
        disk.free = 3_000_000 + ending.MARGIN
        ending.refuse_a_full_cache(started=0)

    def test_less_is_refused(self, disk: SimpleNamespace) -> None:
        disk.free = 3_000_000 + ending.MARGIN - 1
        with pytest.raises(BadInput, match=r"elsewhere.* is full: 4.0 MB are free, and this stage wrote 3.0 MB"):
            ending.refuse_a_full_cache(started=0)

    def test_what_was_there_before_does_not_count(self, disk: SimpleNamespace) -> None:
        ending.refuse_a_full_cache(started=Path("data/new").stat().st_mtime + 10)

    def test_no_repository_has_no_cache(self, disk: SimpleNamespace) -> None:
        shutil.rmtree(".dvc")
        ending.refuse_a_full_cache(started=0)
