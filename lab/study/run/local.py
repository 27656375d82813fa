"""Run the arms of a study on this machine, some at once."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lab.process.interruption import Interruption
from lab.study import plan
from lab.study.run import folders, processes
from lab.study.run.states import Progress

SECONDS_BETWEEN_LOOKS = 0.5


class _Running(NamedTuple):
    arm: plan.Arm
    slot: int
    process: subprocess.Popen


def gpus() -> list[str]:
    """The GPUs that arms can have, as CUDA_VISIBLE_DEVICES names them."""
    if os.environ.get("AL_LAB_DEVICE", "cuda") != "cuda":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    import torch  # here: a cluster's login node, which asks for no GPU, should not wait for it

    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def default_jobs() -> int:
    """Arms at once: one a GPU, else one a core, which computes more in all than several cores on one arm."""
    return len(gpus()) or len(os.sched_getaffinity(0))


def environment_of(slot: int, jobs: int) -> dict[str, str]:
    """The environment of the arm in a slot, from 0: its share of the machine."""
    environment = dict(os.environ)
    if found := gpus():
        environment["CUDA_VISIBLE_DEVICES"] = found[slot % len(found)]
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
    return environment


def run(
    study: Path, arms: list[plan.Arm], revision: str, jobs: int, show: Callable[[Progress], None]
) -> dict[str, str]:
    """Run arms, ``jobs`` at once, and go on where one fails.

    Args:
        arms: those that are not finished.
        show: called again and again with the state.

    Returns:
        The failed arms: name → why.

    Raises:
        Interrupted: SIGINT or SIGTERM; the running arms have kept their training.
    """
    interruption = Interruption().listen()
    folders.keep_revision(folders.of(study), revision)
    # Once, ahead of all: arms that download, prepare or draw a first set at the same moment collide in the cache.
    first = list({arm.prefix: arm for arm in reversed(arms)}.values())
    if arms:
        print(f"first what the arms of a seed share: data and first labelled sets, {len(first)} in all", flush=True)
    reasons = _run_all(study, first, revision, 1, lambda state: None, interruption, "--prefix").failed
    reasons = {arm.prefix: reasons[arm.name] for arm in first if arm.name in reasons}
    failed = {arm.name: reasons[arm.prefix] for arm in arms if arm.prefix in reasons}
    rest = [arm for arm in arms if arm.name not in failed]
    return failed | _run_all(study, rest, revision, jobs, show, interruption).failed


def _run_all(
    study: Path,
    arms: list[plan.Arm],
    revision: str,
    jobs: int,
    show: Callable[[Progress], None],
    interruption: Interruption,
    *options: str,
) -> Progress:
    work = folders.of(study)
    waiting, running, state = list(arms), [], Progress([], [], {})
    try:
        while waiting or running:
            interruption.check("finished arms are kept, running ones keep their training; the same command goes on")
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                if item.process.returncode == 0:
                    state.done.append(item.arm)
                else:
                    state.failed[item.arm.name] = folders.reason(work, item.arm.name)
            while waiting and len(running) < jobs:
                slot = min(set(range(jobs)) - {item.slot for item in running})
                running.append(_Running(waiting[0], slot, _start(study, waiting.pop(0), revision, slot, jobs, options)))
            show(state._replace(running=[item.arm for item in running]))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        processes.stop([item.process for item in running])
    return state


def _start(
    study: Path, arm: plan.Arm, revision: str, slot: int, jobs: int, options: tuple[str, ...]
) -> subprocess.Popen:
    work = folders.of(study)
    with open(work / f"{arm.name}.log", "w") as log:
        return subprocess.Popen(
            [*processes.arm_command(study, arm.name, revision, work), *options],
            env=environment_of(slot, jobs),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
