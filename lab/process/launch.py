"""Run a stage: python -m lab.process.launch STAGE [ARGUMENT ...]

Importing PyTorch takes as long as a small cycle. So the first stage of a run starts a warm process in the background
and runs right here. The warm process imports the libraries once, then listens on a socket, and forks the later stages.
That changes no result, and where it cannot be had every stage runs right here: AL_LAB_WARM=off asks for that.

The warm process imports no code of this project: a forked stage runs the code on disk. The stage has the arguments,
folder, environment and streams of its caller. Resource limits, umask and groups are those of the stage that started the
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
LIBRARIES = ("torch", "torch._dynamo", "scipy.stats", "pandas", "seaborn", "pydantic", "tqdm", "dvc.config")
SECONDS_IDLE = 30
SECONDS_TO_STOP = 60
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Environment variables that differ between stages and between experiments, and that no library reads.
PASSING = {"DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "PWD", "OLDPWD", "SHLVL", "_"}
KILLED = (
    "error: the stage was killed (SIGKILL), by somebody or by the system for want of memory: then choose a smaller "
    "training.batch_size or width of the protocol; finished cycles are kept"
)


def main() -> None:
    argv = sys.argv[1:]
    is_forked = argv[0] == KEEP_WARM
    if is_forked:
        argv = _keep_warm(Path(argv[1]))
    else:
        workspace.die_with_parent()
        workspace.enter()
        if sys.platform == "linux" and os.environ.get("AL_LAB_WARM") != "off":
            _have_it_forked(argv)
    status = importlib.import_module("lab.process.stage").run(*argv)
    if not is_forked:
        workspace.restore()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)  # the libraries would take seconds to say goodbye


def _have_it_forked(argv: list[str]) -> None:
    """Have a stage forked by the warm process and end as it ends; return where it is to run right here."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"), f"al-lab-{os.getuid()}")
    path = folder / _name_of_all_that_is_inherited()
    request = {"argv": argv, "folder": os.getcwd(), "environment": dict(os.environ)}
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid():
            return
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        is_forked = connection.recv(1)
    except (FileNotFoundError, ConnectionRefusedError):
        with suppress(OSError):
            _start_warm_process(path)
        return
    except OSError:
        return
    if is_forked:
        _end_as_it_ends(connection)


def _name_of_all_that_is_inherited() -> str:
    inherited = [
        sorted((key, value) for key, value in os.environ.items() if key not in PASSING),
        [sys.executable, os.stat(sysconfig.get_path("purelib")).st_mtime_ns],
        [Path(name).read_text() for name in (__file__, workspace.__file__)],
        [sorted(os.sched_getaffinity(0)), os.nice(0)],
        [number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN],
    ]
    return hashlib.sha256(json.dumps(inherited).encode()).hexdigest()[:16]


def _start_warm_process(path: Path) -> None:
    """Start it unless there is one that is still importing. Its standard input is the lock that it holds."""
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    command = [sys.executable, "-m", "lab.process.launch", KEEP_WARM, str(path)]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(command, stdin=lock, start_new_session=True, **silent)
    os.close(lock)


def _end_as_it_ends(connection: socket.socket) -> None:
    """Pass signals on to the forked stage, and exit with its status or die of its signal."""

    def forward(number: int, _frame: object) -> None:
        with suppress(OSError):
            connection.sendall(bytes([number]))
        if number == signal.SIGTERM:
            signal.alarm(SECONDS_TO_STOP)  # a stage that does not obey dies with this process

    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of SIGHUP under nohup
            signal.signal(number, forward)
    answer = connection.recv(4)
    workspace.restore()
    if not answer:
        sys.exit("error: the process that waited for the stage is gone, and the stage with it; run again")
    status = int.from_bytes(answer, "big")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) == signal.SIGKILL:
            print(KILLED, file=sys.stderr, flush=True)
        if os.WTERMSIG(status) in FORWARDED:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _keep_warm(path: Path) -> list[str]:
    """Be the warm process. Returns in the forked stages alone, with their arguments."""
    # A cluster that ends a job tells every process of it, but stages take their time to keep their training.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in FORWARDED}
    starter = os.getppid()
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
            try:
                os.waitpid(-1, os.WNOHANG)  # a stage is at work
            except ChildProcessError:
                if os.getppid() != starter:
                    path.unlink(missing_ok=True)
                    os._exit(0)
            continue
        if os.fork() == 0:
            listener.close()
            return _fork_a_stage(connection, handlers)
        connection.close()


def _fork_a_stage(connection: socket.socket, handlers: dict) -> list[str]:
    """Between the warm process and one stage: fork it, report its end, and end it where its caller is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(1, 0)  # the lock is the warm process's alone
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile("rb").readline())
    pid = os.fork()
    if pid:
        try:
            ended = os.pidfd_open(pid)
            connection.sendall(b"\n")
            while ended not in select.select([connection, ended], [], [])[0]:
                os.kill(pid, connection.recv(1)[0])
            _, status = os.waitpid(pid, 0)
            connection.sendall(status.to_bytes(4, "big"))
        finally:
            os._exit(0)  # which kills a stage whose caller is gone
    workspace.die_with_parent(signal.SIGKILL)
    connection.close()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # DVC's import wraps them by colorama, which strips colours: what they were opened on is no terminal.
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lab", "stages")]:
        del sys.modules[name]
    return request["argv"]


if __name__ == "__main__":
    main()
