"""One run at a time in a workspace, with the params that it began with, and no stage that outlives its run.

DVC writes params.yaml before any stage of a run can refuse, and reads it again when a stage has ended. So a second
``dvc exp run`` in the same workspace, or an edit while a stage is at work, would be recorded as what that stage used.
Each run therefore keeps the params.yaml that it began with, and puts it back around each of its stages.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PARAMS = Path("params.yaml")
LOCK, RUNS = Path(".dvc/tmp/stage.lock"), Path(".dvc/tmp/runs")
KEPT = "AL_LAB_KEPT_PARAMS"  # as in lab.params, which takes too long to import here
BASELINE = "refs/exps/exec/EXEC_BASELINE"
PARENT = os.getppid()


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux for a signal when the parent dies: an orphan would write beside the next run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
        if os.getppid() != parent:
            sys.exit("error: the process that started this one is gone")


def enter() -> None:
    """Begin a stage: refuse it beside another run, wait for what is left of a killed one, keep this run's params."""
    if not LOCK.parent.parent.is_dir():
        return
    RUNS.mkdir(parents=True, exist_ok=True)
    if "DVC_STAGE" in os.environ:
        _refuse_beside_another()
    file = os.open(LOCK, os.O_CREAT | os.O_RDWR)  # held until this process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            print("an earlier stage of this workspace is stopping: waiting for its end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except KeyboardInterrupt:
            sys.exit("error: stopped by SIGINT: finished stages are kept")
    restore()


def restore() -> None:
    """Put back the params.yaml that this run of DVC began with, and what DVC needs to save its experiment."""
    # A stage that outlives DVC has another parent, of which no later run would see the end.
    if "DVC_STAGE" not in os.environ or not RUNS.is_dir() or os.getppid() != PARENT:
        return
    # DVC's own lock: under it `dvc exp run --queue` and `--temp` change these files for a moment.
    with open(RUNS.parent / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Of the experiment too: a program can start several by DVC's API.
        _restore(RUNS / f"{_name_of(PARENT)}-{os.environ.get('DVC_EXP_NAME', '')}")


def _restore(kept: Path) -> None:
    os.environ[KEPT] = str(kept)
    if not kept.exists():
        shutil.copyfile(PARAMS, kept)
    elif PARAMS.read_bytes() != kept.read_bytes():
        changed = kept.with_name(f"{kept.name}-{time.time():.0f}.yaml")
        shutil.copyfile(PARAMS, changed)
        shutil.copyfile(kept, PARAMS)
        print(
            f"warning: {PARAMS} was changed while this run is at work, and is put back; what it said is in {changed}. "
            "Start another run with `dvc exp run --temp` or `--queue`",
            file=sys.stderr,
            flush=True,
        )
    # A second `dvc exp run` that was refused removes the reference that the first one needs at its end.
    baseline = os.environ.get("DVC_EXP_BASELINE_REV")
    is_detached = Path(".git/HEAD").is_file() and Path(".git/HEAD").read_text().strip() == baseline
    if os.environ.get("DVC_EXP_NAME") and is_detached:
        subprocess.run(["git", "update-ref", BASELINE, str(baseline)], check=False)


def _refuse_beside_another() -> None:
    """Exit if another run of DVC is at work here, with the params that it began with."""
    ours = _name_of(PARENT)
    for kept in RUNS.iterdir():
        pid, started, _ = kept.name.split("-", 2)
        if kept.name.endswith(".yaml"):  # put aside, for whoever wrote it
            continue
        if _name_of(int(pid)) != f"{pid}-{started}":
            kept.unlink(missing_ok=True)
        elif f"{pid}-{started}" != ours:
            with suppress(FileNotFoundError):
                shutil.copyfile(kept, PARAMS)
            sys.exit(
                f"error: another run is at work in this workspace (process {pid}), and two break each other: "
                "wait for its end, or run this one in a folder of its own, with `dvc exp run --temp` or `--queue`"
            )


def _name_of(pid: int) -> str:
    """A name that only this process has: numbers of processes are used again."""
    try:
        if sys.platform == "linux":
            # In ticks since the start of the machine: psutil's time moves when the clock is set.
            status, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return "" if status == "Z" else f"{pid}-{rest[18]}"
        import psutil

        return f"{pid}-{psutil.Process(pid).create_time():.0f}" if psutil.pid_exists(pid) else ""
    except OSError:
        return ""
