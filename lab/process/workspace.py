"""One run at a time in a workspace, and no stage that outlives its run."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".dvc/tmp/stage.lock"
INPUTS = (Path("params.yaml"), Path("cycles.yaml"))


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux for a signal when the parent dies: an orphan would write beside the next run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if os.getppid() != parent:
            sys.exit("error: the process that started this one is gone")


def lock() -> None:
    """Hold the lock of this workspace until this process ends.

    A stage whose run is over, and which is still saving its training, is waited for. Beside another run this exits.
    """
    if not os.path.isdir(".dvc"):
        return
    os.makedirs(".dvc/tmp", exist_ok=True)
    file = os.open(LOCK, os.O_CREAT | os.O_RDWR)
    other = os.pread(file, 100, 0).strip().decode()
    if other.isdecimal() and int(other) != os.getppid() and _is_at_work_here(int(other)):
        sys.exit(
            f"error: another run is at work in this workspace (process {other}), and two break each other: wait for "
            "its end, or run this one in a folder of its own, with `dvc exp run --temp` or `--queue`"
        )
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("an earlier stage of this workspace is stopping: waiting for its end", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    # Of one length always: it takes the place of what an earlier stage wrote.
    os.pwrite(file, f"{os.getppid():20}\n".encode(), 0)


def _is_at_work_here(pid: int) -> bool:
    """Whether a process is a DVC that has not ended, in this folder: between two stages nothing else tells."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        is_dvc = any("dvc" in word for word in process.cmdline())  # empty for a zombie
        return is_dvc and Path(process.cwd()).is_relative_to(Path.cwd())
    return False


@contextmanager
def unchanged() -> Iterator[None]:
    """Undo what a second `dvc exp run` does to the run at work, before its first stage can be refused.

    DVC records the params as they are when a stage has ended. They must be those that the stage has read.
    """
    before = {path: path.read_text() for path in INPUTS if path.exists()}
    yield
    if not os.path.isdir(".dvc"):
        return
    for path, text in before.items():
        changed = path.read_text()
        if changed != text:
            kept = Path(".dvc/tmp", path.name)
            kept.write_text(changed)
            path.write_text(text)
            print(f"warning: {path} was changed while a stage ran, and is put back; see {kept}", file=sys.stderr)
    # The second DVC removes it, and without it the first cannot save its experiment.
    if baseline := os.environ.get("DVC_EXP_BASELINE_REV"):
        command = ["git", "update-ref", "refs/exps/exec/EXEC_BASELINE", baseline, "0" * len(baseline)]
        subprocess.run(command, stderr=subprocess.DEVNULL)  # fails where it is still there
