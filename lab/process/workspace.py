"""One run at a time in a workspace, and no stage that outlives its run."""

import ctypes
import fcntl
import os
import signal
import sys
from contextlib import suppress

LOCK = ".dvc/tmp/stage.lock"


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux for a signal when the parent dies: an orphan would write beside the next run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if os.getppid() != parent:
            sys.exit("error: the process that started this one is gone")


def lock() -> None:
    """Hold the lock of this workspace until this process ends, beside no other run."""
    if not os.path.isdir(".dvc"):
        return
    os.makedirs(".dvc/tmp", exist_ok=True)
    file = os.open(LOCK, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _refuse_beside(*os.pread(file, 100, 0).split())
        print("an earlier stage of this workspace is stopping: waiting for its end", flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
    # Of one length always: it takes the place of what an earlier stage wrote.
    os.pwrite(file, f"{os.getpid():20} {os.getppid():20}\n".encode(), 0)


def _refuse_beside(stage: bytes = b"0", dvc: bytes = b"0") -> None:
    """Exit if the stage at work belongs to another DVC that is still there, and not to one that was killed."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        # A process whose parent died has another one.
        if psutil.Process(int(stage)).ppid() == int(dvc) != os.getppid():
            sys.exit(
                f"error: another run is at work in this workspace (process {int(dvc)}), and two break each other: "
                "wait for its end, or run this one in a folder of its own, with `dvc exp run --temp` or `--queue`"
            )
