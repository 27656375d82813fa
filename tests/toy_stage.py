"""A folder with the code that runs stages, and a stage that a test writes."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
BEFORE_MAIN = """
import os, signal, sys, time
from lab.errors import *
# What the stage was forked from: its parent is a copy of that.
origin = "warm process" if "--keep-warm" in open(f"/proc/{os.getppid()}/cmdline").read() else "caller"
"""


class ToyStage:
    """The stage, its folder, and a warm process that no other test uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("AL_LAB_SCRATCH", "AL_LAB_WARM", "PYTHONUNBUFFERED", "PYTEST_CURRENT_TEST"):
            self.environment.pop(name, None)
        for source in [*ROOT.glob("lab/*.py"), *ROOT.glob("lab/process/*.py")]:
            target = folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        (folder / "stages").mkdir()
        self.write()
        self.check("pass")
        # Importing them takes seconds, and is nothing that most tests are about.
        self.set("LIBRARIES", ())

    def set(self, constant: str, value: object) -> None:
        """Give a constant of launch.py another value."""
        path = self.folder / "lab/process/launch.py"
        given = re.compile(rf"^{constant} = (\([^)]*\)|.*)$", re.MULTILINE)
        path.write_text(given.sub(f"{constant} = {value!r}", path.read_text(), count=1))

    def check(self, line: str) -> None:
        """Have the params checked by this line."""
        (self.folder / "lab/process/check.py").write_text(f"import sys\ndef check_files(*, optimizers):\n    {line}\n")

    def write(self, *lines: str) -> None:
        """Have the stage consist of these lines."""
        body = "".join(f"    {line}\n" for line in lines or ["pass"])
        part = self.folder / "stages/part"
        part.write_text(f"{BEFORE_MAIN}def main(host, *arguments):\n{body}")
        part.replace(self.folder / "stages/toy.py")  # never half written: an earlier stage may be about to read it

    def start(self, *lines: str, arguments: tuple[str, ...] = (), **options: object) -> subprocess.Popen:
        """Start the stage, with these lines if there are any. options: of Popen; env: more variables."""
        if lines:
            self.write(*lines)
        # Tests that run in the background of a shell, or under nohup, ignore these, and so would what they start.
        heeded = (signal.SIGINT, signal.SIGHUP)
        options.setdefault("preexec_fn", lambda: [signal.signal(number, signal.SIG_DFL) for number in heeded])
        return subprocess.Popen(
            [sys.executable, "-m", "lab.process.launch", "toy", *arguments],
            cwd=self.folder,
            env={**self.environment, **options.pop("env", {})},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )

    def run(self, *lines: str, **options: object) -> str:
        """Run the stage as ``start`` does. Returns what it printed."""
        return self.start(*lines, **options).communicate()[0]

    def sockets(self) -> list[Path]:
        """Where warm processes listen."""
        return [path for path in self.folder.glob("al-lab-*/*") if path.is_socket()]

    def warm_up(self, **options: object) -> None:
        """Start a warm process, and wait until it forks stages. options: as of ``start``."""
        before = set(self.sockets())
        self.run("pass", **options)
        wait_until(lambda: set(self.sockets()) - before)

    def warm_processes(self) -> list[int]:
        """The process numbers of all warm processes."""
        processes = {}
        for process in psutil.process_iter():
            try:
                if "--keep-warm" in (command := process.cmdline()) and str(self.folder) in command[-2]:
                    processes[process.pid] = process.ppid()
            except psutil.Error:
                continue
        return [pid for pid, parent in processes.items() if parent not in processes]


@contextmanager
def toy_stage() -> Iterator[ToyStage]:
    """The stage in a folder of its own, whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        stage = ToyStage(Path(folder))
        try:
            yield stage
        finally:
            for pid in stage.warm_processes():
                os.kill(pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what must come soon."""
    deadline = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)
