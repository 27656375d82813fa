"""Check params.yaml, then run a stage: python -m lab.process.launch STAGE [ARGUMENT ...]

The stage runs in a process that has its libraries loaded already: importing PyTorch takes as long as a
small cycle. The first stage of a run starts a process that imports the libraries once, and this and every
later stage is forked from it (``lab.process.warm``). No result depends on it: where that process cannot be had,
the stage runs right here.

This file and the check are no dependencies of any stage: they can stop a run but never alter one, so a new
rule retrains nothing.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SECONDS_TO_START = 5
LONGEST_SOCKET_PATH = 107
SECONDS_TO_STOP = 60
KILLED = (
    "error: the stage was killed (SIGKILL), by somebody or by the system for want of memory: then choose a smaller "
    "training.batch_size or width of the protocol; finished cycles are kept"
)
# Environment variables that differ between stages and between experiments, and that no library reads.
PASSING = (
    "DVC_ROOT",
    "DVC_STAGE",
    "DVC_EXP_NAME",
    "DVC_EXP_BASELINE_REV",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "PYTEST_CURRENT_TEST",
)


def main() -> None:
    die_with_parent()
    _wait_for_an_earlier_stage()
    stage, *arguments = sys.argv[1:]
    connection = _connect() if sys.platform == "linux" else None
    pid = connection and _hand_over(connection, [stage, *arguments])
    if pid:
        _wait(connection, pid)
    else:
        run(stage, arguments)


def die_with_parent() -> None:
    """Ask Linux to stop this process when its parent (DVC) dies: an orphan would write beside the next run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        # Passed on to the stage, which keeps its training before it ends.
        parent = os.getppid()
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit("error: the process that started this one is gone")


def _wait_for_an_earlier_stage() -> None:
    """Hold a lock of this workspace until this process ends.

    A stage that was told to stop is still saving its training while the next run starts.
    """
    if not os.path.isdir(".dvc"):
        return
    os.makedirs(".dvc/tmp", exist_ok=True)
    lock = os.open(".dvc/tmp/stage.lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another stage of this workspace is at work or is stopping: waiting for its end", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def run(stage: str, arguments: list[str]) -> None:
    """Check the whole of params.yaml, then run a stage in this process."""
    for name, argv in (("check", []), (stage, arguments)):
        sys.argv = [name, *argv]
        runpy.run_module(f"stages.{name}", run_name="__main__", alter_sys=True)


def socket_path() -> Path:
    """Where the warm process of everything that a fork inherits listens.

    Another environment, installation, CPU affinity, limit or priority is another process: a forked
    stage is in all of them like one that was started here.
    """
    ignored = [number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN]
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    umask = os.umask(0o077)
    os.umask(umask)
    inherited = [
        sorted((key, value) for key, value in os.environ.items() if key not in PASSING),
        sys.executable,
        os.stat(sysconfig.get_path("purelib")).st_mtime_ns,
        sorted(os.sched_getaffinity(0)),
        [os.nice(0), umask, limits, ignored, os.getgid(), os.getgroups()],
        [Path(__file__).with_name(name).read_text() for name in ("launch.py", "warm.py")],
    ]
    key = hashlib.sha256(json.dumps(inherited).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"al-lab-{os.getuid()}" / key


def _connect() -> socket.socket | None:
    """A connection to the warm process, which is started where there is none."""
    path = socket_path()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    if path.parent.stat().st_uid != os.getuid():
        return None
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        return None
    give_up = time.monotonic() + SECONDS_TO_START
    server = None
    while time.monotonic() < give_up:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
        if server is not None and server.poll():
            return None
        # Status 0: another one was there, which can have ended since.
        if server is None or server.returncode == 0:
            command = [sys.executable, "-m", "lab.process.warm", str(path)]
            silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            server = subprocess.Popen(command, start_new_session=True, **silent)
        time.sleep(0.01)
    return None


def _hand_over(connection: socket.socket, argv: list[str]) -> int | None:
    """Have the stage forked, with this process's standard streams. Returns its process number."""
    request = json.dumps({"argv": argv, "cwd": os.getcwd(), "environment": dict(os.environ)}).encode()
    try:
        socket.send_fds(connection, [len(request).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(request)
        return int.from_bytes(connection.recv(4), "big") or None
    except OSError:
        return None


def _wait(connection: socket.socket, pid: int) -> None:
    """Pass signals on to the stage, and end as it ends."""

    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGTERM:
            # A stage that does not obey dies with this process.
            signal.alarm(SECONDS_TO_STOP)

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of SIGHUP under nohup
            signal.signal(number, forward)
    answer = connection.recv(4)
    if not answer:
        sys.exit(f"error: the process that forked stage {pid} is gone, and the stage with it; run again")
    status = int.from_bytes(answer, "big")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGKILL:
            print(KILLED, file=sys.stderr, flush=True)
        if os.WTERMSIG(status) in FORWARDED:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
