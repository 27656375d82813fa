"""Start and stop arms as processes. Each leads a process group of its own."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS_TO_STOP = 90


def start(
    study: Path, name: str, revision: str, folder: Path, *options: str, env: dict[str, str] | None = None
) -> subprocess.Popen:
    """Start one arm, the same way on this machine and on a cluster; what it prints is added to its log."""
    arm = ["lab.study.run.arm", str(study), name, "--revision", revision, "--folder", str(folder), *options]
    with open(folder / f"{name}.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *arm],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(processes: list[subprocess.Popen]) -> None:
    """End processes and all that they started. Their stages save a checkpoint first."""
    for process in processes:
        terminate(process)
    deadline = time.monotonic() + SECONDS_TO_STOP
    for process in processes:
        process.wait()
        while _is_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def terminate(process: subprocess.Popen) -> None:
    """Send SIGTERM to a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
