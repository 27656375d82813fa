"""A SLURM of two nodes on this machine, with made-up GPUs: started for tests and stopped after them."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def why_not() -> str | None:
    """Why no cluster can be started here, or None."""
    if missing := [name for name in DAEMONS if not _which(name)]:
        return f"{', '.join(missing)}: not installed (Debian: slurmctld slurmd slurm-client munge)"
    return None if os.getuid() == 0 else "SLURM's daemons start as root only"


def wait_until(is_true: Callable[[], object], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class Cluster:
    """Two nodes of two cores and a GPU each.

    environment: what SLURM's commands need to find it.
    """

    def __init__(self) -> None:
        # Not in a folder of pytest's: munged runs as a user who may not enter those.
        folder = self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        folder.chmod(0o755)
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._pids = {}
        self._lay_out()
        self._start_munge()
        self._start("slurmctld", "-i")
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: self("sinfo", "-h", "-o", "%T").split() == ["idle"], "two idle nodes", 60)

    def __call__(self, *command: str) -> str:
        return subprocess.check_output(command, env={**os.environ, **self.environment}, text=True)

    def start_node(self, node: str) -> None:
        self._start(f"slurmd-{node}", "-N", node)

    @contextmanager
    def without_node(self, node: str) -> Iterator[None]:
        """A node is dead, from now on until the block ends."""
        self.kill_node(node)
        try:
            yield
        finally:
            self.start_node(node)

    def kill_node(self, node: str) -> None:
        """Kill the daemon of a node and all that runs on it, as a power cut does."""
        self._kill(f"slurmd-{node}")
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURMD_NODENAME") == node:
                    for one in (*_step_daemons(process), process):
                        one.kill()
            except psutil.Error:
                continue

    def stop(self) -> None:
        for node in NODES:
            self.kill_node(node)
        for name in list(self._pids):
            self._kill(name)
        shutil.rmtree(self.folder)

    def _lay_out(self) -> None:
        host, folder = socket.gethostname(), self.folder
        for name in ("state", "munge", *(f"spool.{node}" for node in NODES)):
            (folder / name).mkdir(parents=True)
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=2 "
            "RealMemory=2000 Gres=gpu:1 State=UNKNOWN"
            for node in NODES
        ]
        # Any device file passes for a GPU.
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        settings = {
            "ClusterName": "test",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": free_port(),
            "SlurmUser": "root",
            "SlurmdUser": "root",
            "AuthType": "auth/munge",
            "CryptoType": "crypto/munge",
            "AuthInfo": f"socket={folder}/munge/socket",
            "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": f"{folder}/spool.%n",
            "SlurmctldPidFile": folder / "slurmctld.pid",
            "SlurmdPidFile": f"{folder}/slurmd-%n.pid",
            "SlurmctldLogFile": folder / "slurmctld.log",
            "SlurmdLogFile": f"{folder}/slurmd-%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "GresTypes": "gpu",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "ReturnToService": 2,
            # A dead node is noticed soon.
            "SlurmdTimeout": 15,
            "KillWait": 20,
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=1,bf_interval=1",
            "PartitionName": "gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
        }
        text = "\n".join([f"{key}={value}" for key, value in settings.items()] + lines)
        (folder / "slurm.conf").write_text(text + "\n")

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        (folder / "key").write_bytes(os.urandom(128))
        (folder / "key").chmod(0o600)
        for path in (folder, folder / "key"):
            shutil.chown(path, "munge", "munge")
        options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        command = ["munged", "--force", *(f"--{option}={folder / name}" for option, name in options.items())]
        subprocess.run(["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", *command], check=True)
        self._pids["munged"] = folder / "pid"

    def _start(self, name: str, *options: str) -> None:
        program = _which(name.partition("-")[0])
        subprocess.run([program, *options], env={**os.environ, **self.environment}, check=True)
        self._pids[name] = self.folder / f"{name}.pid"

    def _kill(self, name: str) -> None:
        file = self._pids.pop(name, None)
        if file is None:
            return
        wait_until(lambda: file.exists() and file.read_text().strip(), f"the process number of {name}", 10)
        pid = int(file.read_text())
        try:
            process = psutil.Process(pid)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        except psutil.NoSuchProcess:
            pass
        file.unlink(missing_ok=True)


def _step_daemons(process: psutil.Process) -> list[psutil.Process]:
    """The slurmstepd above a process."""
    return [parent for parent in process.parents() if parent.name() == "slurmstepd"]


def _which(name: str) -> str | None:
    # Daemons lie in sbin, which is not in everybody's path.
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
