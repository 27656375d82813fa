"""Run the arms of a study on this machine, several at once."""

import os
import subprocess
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import NamedTuple

from lab.process.interruption import Interruption
from lab.study import plan
from lab.study.run import folders, processes
from lab.study.run.states import Snapshot

SECONDS_BETWEEN_POLLS = 0.5


class TimeOver(Exception):
    """The time that a run was given is over; the running arms have saved checkpoints."""


class _Running(NamedTuple):
    arm: plan.Arm
    slot: int
    process: subprocess.Popen


def gpus() -> list[str]:
    """The GPUs that arms can use, as CUDA_VISIBLE_DEVICES names them."""
    if os.environ.get("AL_LAB_DEVICE", "cuda") != "cuda":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    import torch  # here: it takes long, and a cluster's login node needs no GPU

    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


def default_jobs() -> int:
    """Arms at once: one for each GPU, or one for each core, which together compute more than one arm on all cores."""
    return len(gpus()) or len(os.sched_getaffinity(0))


def environment_of(slot: int, jobs: int) -> dict[str, str]:
    """The environment of the arm in a slot: its share of the machine. slot: counted from 0."""
    environment = dict(os.environ)
    if found := gpus():
        environment["CUDA_VISIBLE_DEVICES"] = found[slot % len(found)]
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))
    return environment


def run(
    study: Path, arms: list[plan.Arm], revision: str, jobs: int, show: Callable[[Snapshot], None], ends: float = inf
) -> dict[str, str]:
    """Run arms, ``jobs`` at once. Where one fails the others go on.

    Args:
        arms: those that are not finished.
        show: called again and again with the state of the study.
        ends: when to stop, by ``time.monotonic``.

    Returns:
        The failed arms: name → why.

    Raises:
        Interrupted: SIGINT or SIGTERM; the running arms have saved checkpoints.
        TimeOver: so have they at the end of the time.
    """
    interruption = Interruption().listen()
    folders.keep_revision(folders.of(study), revision)
    # One by one, before the arms: what they download, prepare and draw at the same moment collides in the cache.
    first = list({arm.prefix: arm for arm in reversed(arms)}.values())
    if arms:
        print(f"preparing what arms share: data and first labelled sets, {len(first)} in all", flush=True)
    reasons = _run_all(study, first, revision, 1, lambda state: None, interruption, ends, {}, "--prefix").failed
    reasons = {arm.prefix: reasons[arm.name] for arm in first if arm.name in reasons}
    failed = {arm.name: reasons[arm.prefix] for arm in arms if arm.prefix in reasons}
    rest = [arm for arm in arms if arm.name not in failed]
    return _run_all(study, rest, revision, jobs, show, interruption, ends, failed).failed


def _run_all(
    study: Path,
    arms: list[plan.Arm],
    revision: str,
    jobs: int,
    show: Callable[[Snapshot], None],
    interruption: Interruption,
    ends: float,
    failed: dict[str, str],
    *options: str,
) -> Snapshot:
    folder = folders.of(study)
    waiting, state = list(arms), Snapshot([], [], failed)
    running: list[_Running] = []
    try:
        while waiting or running:
            interruption.check("finished arms are kept, running ones saved checkpoints; run the study again to resume")
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                if item.process.returncode == 0:
                    state.done.append(item.arm)
                else:
                    state.failed[item.arm.name] = folders.reason(folder, item.arm.name)
            for arm in [arm for arm in waiting if arm.chosen_by in state.failed]:
                waiting.remove(arm)
                state.failed[arm.name] = f"it replays {arm.chosen_by}, which failed"
            if time.monotonic() >= ends and (waiting or running):
                raise TimeOver
            unfinished = {arm.name for arm in [*waiting, *(item.arm for item in running)]}
            ready = [arm for arm in waiting if arm.chosen_by not in unfinished]
            while ready and len(running) < jobs:
                arm, slot = ready.pop(0), min(set(range(jobs)) - {item.slot for item in running})
                waiting.remove(arm)
                (folder / f"{arm.name}.log").write_text("")
                process = processes.start(study, arm.name, revision, folder, *options, env=environment_of(slot, jobs))
                running.append(_Running(arm, slot, process))
            show(state._replace(running=[item.arm for item in running]))
            time.sleep(SECONDS_BETWEEN_POLLS)
    finally:
        processes.stop([item.process for item in running])
    return state
