"""Run the arms of a study on this machine, some at once."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from stages.entry import BadInput
from stages.interruption import Interruption
from study import plan

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 90


class _Running(NamedTuple):
    arm: plan.Arm
    slot: int
    process: subprocess.Popen


class State(NamedTuple):
    """Of a study at a moment. failed: name → why."""

    done: list[plan.Arm]
    running: list[plan.Arm]
    failed: dict[str, str]


def folder_of(study: Path) -> Path:
    """Where the clones and logs of a study lie: in a folder that Git and DVC ignore."""
    return Path(".dvc/tmp/study").resolve() / study.resolve().parent.name


def gpus() -> list[str]:
    """The GPUs that arms can have, as CUDA_VISIBLE_DEVICES names them."""
    if os.environ.get("AL_LAB_DEVICE", "cuda") != "cuda":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def default_jobs() -> int:
    """Arms at once: one a GPU, else one a core, which computes more in all than several cores on one arm."""
    return len(gpus()) or len(os.sched_getaffinity(0))


def environment_of(slot: int, jobs: int) -> dict[str, str]:
    """The environment of the arm in a slot, from 0: its share of the machine, checkpoints beside the repository."""
    environment = {"AL_LAB_SCRATCH": str(Path("scratch").resolve()), **os.environ}
    if archive := os.environ.get("AL_LAB_CIFAR10"):
        environment["AL_LAB_CIFAR10"] = str(Path(archive).resolve())
    if found := gpus():
        environment["CUDA_VISIBLE_DEVICES"] = found[slot % len(found)]
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
    return environment


def command_of(study: Path, arm: plan.Arm, revision: str) -> list[str]:
    """The command that runs one arm: the same under every launcher."""
    options = ["--revision", revision, "--work", str(folder_of(study))]
    return [sys.executable, "-m", "study.arm", str(study), arm.name, *options]


def run(study: Path, arms: list[plan.Arm], revision: str, jobs: int, show: Callable[[State], None]) -> dict[str, str]:
    """Run arms, ``jobs`` at once, and go on where one fails.

    Args:
        arms: those that are not finished.
        show: called again and again with the state.

    Returns:
        The failed arms: name → why.

    Raises:
        Interrupted: SIGINT or SIGTERM; the running arms have kept their training.
        BadInput: the study is being run already.
    """
    folder_of(study).mkdir(parents=True, exist_ok=True)
    with open(folder_of(study) / "study.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{study} is being run already, by another process on this machine") from None
        return _run(study, arms, revision, jobs, show)


def _run(study: Path, arms: list[plan.Arm], revision: str, jobs: int, show: Callable[[State], None]) -> dict[str, str]:
    interruption = Interruption().listen()
    # Once, ahead of all: arms that download, prepare or draw a first set at the same moment collide in the cache.
    first = list({_prefix_of(arm): arm for arm in reversed(arms)}.values())
    if arms:
        print(f"first what the arms of a seed share: data and first labelled sets, {len(first)} in all", flush=True)
    reasons = _run_all(study, first, revision, 1, lambda state: None, interruption, "--prefix").failed
    reasons = {_prefix_of(arm): reasons[arm.name] for arm in first if arm.name in reasons}
    failed = {arm.name: reasons[prefix] for arm in arms if (prefix := _prefix_of(arm)) in reasons}
    rest = [arm for arm in arms if arm.name not in failed]
    return failed | _run_all(study, rest, revision, jobs, show, interruption).failed


def cycles_done(study: Path, arm: plan.Arm) -> int:
    """Cycles that an arm has finished in its clone."""
    return len(list((folder_of(study) / arm.name / "metrics/cycles").glob("*.json")))


def _prefix_of(arm: plan.Arm) -> str:
    """What the stages up to the cold start depend on."""
    protocol = arm.params["protocol"]
    cold_start = arm.params["protocols"][protocol]["cold_start"]
    return yaml.safe_dump([protocol, arm.params["datasets"], arm.params["cold_start_seed"], cold_start])


def _run_all(
    study: Path,
    arms: list[plan.Arm],
    revision: str,
    jobs: int,
    show: Callable[[State], None],
    interruption: Interruption,
    *options: str,
) -> State:
    work = folder_of(study)
    waiting, running, state = list(arms), [], State([], [], {})
    try:
        while waiting or running:
            interruption.check("finished arms are kept, running ones keep their training; the same command goes on")
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                if item.process.returncode == 0:
                    state.done.append(item.arm)
                else:
                    state.failed[item.arm.name] = _reason(work / f"{item.arm.name}.log")
            while waiting and len(running) < jobs:
                slot = min(set(range(jobs)) - {item.slot for item in running})
                running.append(_Running(waiting[0], slot, _start(study, waiting.pop(0), revision, slot, jobs, options)))
            show(state._replace(running=[item.arm for item in running]))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        _stop([item.process for item in running])
    return state


def _start(
    study: Path, arm: plan.Arm, revision: str, slot: int, jobs: int, options: tuple[str, ...]
) -> subprocess.Popen:
    with open(folder_of(study) / f"{arm.name}.log", "w") as log:
        return subprocess.Popen(
            [*command_of(study, arm, revision), *options],
            env=environment_of(slot, jobs),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _reason(log: Path) -> str:
    """The first error that an arm's log names, else its last line; and where the rest stands."""
    lines = log.read_text().splitlines()
    errors = [line for line in lines if line.startswith(("error:", "ERROR:"))]
    return f"{(errors or lines[-1:] or ['nothing was printed'])[0]} ({log})"


def _stop(processes: list[subprocess.Popen]) -> None:
    """End arms and all that they started, which keep their training."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + SECONDS_TO_STOP
    for process in processes:
        process.wait()
        while _is_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
