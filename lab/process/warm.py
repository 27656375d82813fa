"""The process that stages are forked from: python -m lab.process.warm SOCKET (``lab.process.launch`` starts it)

It imports libraries and nothing of this project, so that a stage always runs the code that lies on disk.
It ends by itself a while after the last stage.
"""

import ctypes
import fcntl
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

SECONDS_IDLE = 30
# In the order in which the stages need them; a stage that comes early imports the rest by itself.
LIBRARIES = [
    "pydantic.main",
    "yaml",
    "tqdm",
    "pandas",
    "torch",
    "torch._dynamo",
    "dvc.repo",
    "sklearn.datasets",
    "seaborn",
]


# What a stage inherits.
ON_SIGTERM = signal.getsignal(signal.SIGTERM)


def main() -> None:
    # A cluster that ends a job tells every process of it. The stages have to keep their training then, and to do so
    # in peace: with this process they would end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    path = Path(sys.argv[1])
    # Held until this process ends: of two that start at once, one goes on.
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    # The folder that it was started in may be gone before it.
    os.chdir("/")
    os.environ.setdefault("MPLBACKEND", "Agg")
    # Importing a library leaves helper threads of its own; those that matter take care of forks.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        _serve(listener)
    finally:
        path.unlink(missing_ok=True)
        os._exit(0)  # without the interpreter's long farewell, in which the lock would still be held


def _serve(listener: socket.socket) -> None:
    """Fork a stage for each connection; its end is reported there, and the end of the connection ends it."""
    libraries = list(LIBRARIES)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            events = selector.select(0 if libraries else SECONDS_IDLE)
            for key, _ in events:
                # Of a stage and whoever waits for it, both can end at once: the first of the two ends both.
                if key.data and selector.get_map().get(key.fd) is key:
                    _end(*key.data, selector)
            # Last, since it gives away the numbers of files that were closed above.
            if any(key.fileobj is listener for key, _ in events):
                _accept(listener, selector)
            if libraries:
                with suppress(Exception):  # the stage that needs it says what is wrong with it
                    importlib.import_module(libraries.pop(0))
            elif not events and len(selector.get_map()) == 1:
                return


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    connection, _ = listener.accept()
    connection.settimeout(1)
    streams, content = [], b""
    try:
        size, streams, _, _ = socket.recv_fds(connection, 4, 3)
        while len(content) < int.from_bytes(size, "big"):
            part = connection.recv(2**16)
            if not part:
                raise EOFError
            content += part
        request = json.loads(content)
    except (OSError, EOFError, ValueError):
        for stream in streams:
            os.close(stream)
        connection.close()
        return
    pid = os.fork()
    if pid == 0:
        _become_stage(request, streams, connection)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(pid)
    selector.register(ended, selectors.EVENT_READ, (connection, ended, pid))
    selector.register(connection, selectors.EVENT_READ, (connection, ended, pid))
    with suppress(OSError):
        connection.sendall(pid.to_bytes(4, "big"))


def _end(connection: socket.socket, ended: int, pid: int, selector: selectors.BaseSelector) -> None:
    """Either the stage has ended, or whoever waits for it has: then it must not live on."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(ended, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):
        connection.sendall(status.to_bytes(4, "big"))
    selector.unregister(ended)
    selector.unregister(connection)
    os.close(ended)
    connection.close()


def _become_stage(request: dict, streams: list[int], connection: socket.socket) -> None:
    """In the forked process: take over streams, folder, environment and arguments, run the stage and exit."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, ON_SIGTERM)
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        # The kernel kills this process when the other end closes, even while its parent is busy importing.
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # DVC's import wraps them by colorama, which strips colours: what they were opened on is no terminal.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        # They were opened on nothing, hence as if on a file.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[0] = request["cwd"]
        for name in [name for name in sys.modules if name.partition(".")[0] == "stages"]:
            del sys.modules[name]
        stage, *arguments = request["argv"]
        importlib.import_module("lab.process.launch").run(stage, arguments)
        status = 0
    except SystemExit as error:
        status = _status_of(error)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _status_of(error: SystemExit) -> int:
    """As the interpreter does: a number is the status, a text is printed."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()
