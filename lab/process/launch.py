"""Run a stage: python -m lab.process.launch STAGE [ARGUMENT ...]

A stage is forked, and its caller ends as it ends. Importing PyTorch takes as long as a small cycle: so the first stage,
which is forked from its caller, starts a warm process in the background. That imports the libraries once, then listens
on a socket, and forks the later stages. It changes no result; AL_LAB_WARM=off does without.

The warm process imports no other code of this project: a forked stage runs the code on disk. It has the arguments,
folder, environment and streams of its caller, but the resource limits, umask and groups of the stage that started the
warm process. Whatever else could differ is part of the socket's name.
"""

import fcntl
import hashlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

from lab.process import workspace

KEEP_WARM = "--keep-warm"
LIBRARIES = (
    "torch",
    "torch._dynamo",
    "scipy.stats",
    "sklearn.metrics",
    "pandas",
    "seaborn",
    "pydantic",
    "tqdm",
    "dvc.config",
)
SECONDS_IDLE = 30
SECONDS_TO_STOP = 60
# Signals for the stage, and what they did when this process started.
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
HANDLERS = {number: signal.getsignal(number) for number in PASSED_ON}
# Environment variables that differ between stages and between experiments, and that no library reads.
PASSING = {"DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", workspace.KEPT}
PASSING |= {"PWD", "OLDPWD", "SHLVL", "_"}


def main() -> None:
    argv = sys.argv[1:]
    if argv[0] == KEEP_WARM:
        argv = _keep_warm(Path(argv[1]), int(argv[2]))
    else:
        workspace.die_with_parent()
        workspace.enter()
        if sys.platform == "linux":
            argv = _have_it_forked(argv)
    # At once, since the libraries would take seconds to say goodbye.
    os._exit(importlib.import_module("lab.process.stage").run(*argv))


def _have_it_forked(argv: list[str]) -> list[str]:
    """Have a stage forked and end as it ends. Returns in the stage; and here, if nothing can be forked."""
    connection = _connect() if os.environ.get("AL_LAB_WARM") != "off" else None
    if connection is None:
        connection, other = socket.socketpair()
        if os.fork() == 0:
            connection.close()
            return _fork_a_stage(other)
        other.close()
    request = {"argv": argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    with suppress(OSError):
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        if connection.recv(1):
            _end_as_it_ends(connection)
    return argv


def _connect() -> socket.socket | None:
    """A connection to the warm process; None, and one is started, where there is none."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"), f"al-lab-{os.getuid()}")
    path = folder / _name_of_all_that_is_inherited()
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid == os.getuid():
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(path))
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                _start_warm_process(path)
    return None


def _name_of_all_that_is_inherited() -> str:
    inherited = [
        sorted((key, value) for key, value in os.environ.items() if key not in PASSING),
        [sys.executable, os.stat(sysconfig.get_path("purelib")).st_mtime_ns],
        [Path(name).read_text() for name in (__file__, workspace.__file__)],
        [sorted(os.sched_getaffinity(0)), os.nice(0)],
        [number for number, handler in HANDLERS.items() if handler is signal.SIG_IGN],
    ]
    return hashlib.sha256(json.dumps(inherited).encode()).hexdigest()[:16]


def _start_warm_process(path: Path) -> None:
    """Start it unless there is one that is still importing. Its standard input is the lock that it holds."""
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    command = [sys.executable, "-m", "lab.process.launch", KEEP_WARM, str(path), str(os.getpid())]
    subprocess.Popen(command, stdin=lock, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(lock)


def _end_as_it_ends(connection: socket.socket) -> None:
    """Pass signals on to the forked stage, and exit with its status or die of its signal."""

    def forward(number: int, _frame: object) -> None:
        with suppress(OSError):
            connection.sendall(bytes([number]))
        if number == signal.SIGTERM:
            signal.alarm(SECONDS_TO_STOP)  # a stage that does not obey dies with this process

    for number, handler in HANDLERS.items():
        if handler is not signal.SIG_IGN:  # as that of SIGHUP under nohup
            signal.signal(number, forward)
    answer = connection.recv(4)
    workspace.restore()
    if not answer:
        sys.exit("error: the process that waited for the stage is gone, and the stage with it; run again")
    status = os.waitstatus_to_exitcode(int.from_bytes(answer, "big"))
    if status == -signal.SIGKILL:
        print(f"error: {importlib.import_module('lab.process.ending').KILLED}", file=sys.stderr, flush=True)
    elif status < 0:
        signal.signal(-status, signal.SIG_DFL)
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def _keep_warm(path: Path, starter: int) -> list[str]:
    """Be the warm process, until nobody needs it. Returns in the forked stages, with their arguments."""
    # A cluster that ends a job tells every process of it, but stages take their time to keep their training.
    for number in HANDLERS:
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")  # the folder that it was started in may be gone before it
    for name in LIBRARIES:
        with suppress(Exception):  # the stage that needs it says what is wrong with it
            importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(SECONDS_IDLE)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            with suppress(ChildProcessError):
                if os.getppid() == starter or os.waitpid(-1, os.WNOHANG):
                    continue  # a stage is at work
            path.unlink(missing_ok=True)
            os._exit(0)
        if os.fork() == 0:
            listener.close()
            os.dup2(1, 0)  # the lock is the warm process's alone
            return _fork_a_stage(connection)
        connection.close()


def _fork_a_stage(connection: socket.socket) -> list[str]:
    """Fork the stage that the connection asks for, and report its end. Returns in the stage, with its arguments."""
    os.setsid()
    for number in HANDLERS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile("rb").readline())
    if pid := os.fork():
        try:
            ended = os.pidfd_open(pid)
            connection.sendall(b"\n")
            while ended not in select.select([connection.fileno(), ended], [], [])[0]:
                os.kill(pid, connection.recv(1)[0])  # fails where the caller is gone
            _, status = os.waitpid(pid, 0)
            connection.sendall(status.to_bytes(4, "big"))
        finally:
            os._exit(0)  # and the stage dies with this process
    workspace.die_with_parent(signal.SIGKILL)
    connection.close()
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # without what DVC puts around them, which strips colours
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lab", "stages")]:
        del sys.modules[name]
    return request["argv"]


if __name__ == "__main__":
    main()
