"""The status of each arm of a study."""

from collections.abc import Container
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from lab.study.arms import Arm
from lab.study.run import folders
from lab.study.run.folders import LastState


class Snapshot(NamedTuple):
    """A study at one moment. failed: name → why."""

    done: list[Arm]
    running: list[Arm]
    failed: dict[str, str]


class Status(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


class ArmState(NamedTuple):
    """detail: what else is known, for people. job: its job number while SLURM has it in the queue or runs it."""

    status: Status
    detail: str = ""
    job: str | None = None


class Job(NamedTuple):
    """An arm's job as SLURM lists it. state: as PENDING. why: SLURM's reason for it, or None."""

    number: str
    state: str
    why: str
    node: str


QUEUED = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ACTIVE = {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
NODE_LOST = {"NODE_FAIL", "BOOT_FAIL"}
RESUME = "run the study again to resume it"


def survey(arms: list[Arm], finished: Container[str], folder: Path, jobs: dict[str, Job | None]) -> dict[str, ArmState]:
    """The state of each arm: from its experiment, then from SLURM, then from what the arm itself recorded.

    Args:
        finished: arms whose experiment is in the repository.
        folder: the study's folder.
        jobs: of the arms that were submitted to SLURM; None for a job that it no longer lists.
    """
    return {arm.name: ArmState(Status.DONE) if arm.name in finished else _state(arm.name, folder, jobs) for arm in arms}


def _state(name: str, folder: Path, jobs: dict[str, Job | None]) -> ArmState:
    job, last = jobs.get(name), folders.last_state_of(folder, name)
    if job and job.state in QUEUED:
        return ArmState(Status.WAITING, f"job {job.number}, {job.why}", job.number)
    if job and job.state in ACTIVE:
        return ArmState(Status.RUNNING, f"job {job.number} on {job.node}", job.number)
    if job and job.state == "COMPLETED":
        # Its experiment has arrived: files of another machine can take a while to appear here.
        return ArmState(Status.RUNNING, f"job {job.number} is completed; its experiment has not appeared here yet")
    if folders.is_locked(folder, name):
        return ArmState(Status.RUNNING)
    if job and job.state == "CANCELLED":
        return ArmState(Status.FAILED, f"job {job.number} is CANCELLED; {RESUME}")
    if job and last is None and job.state not in NODE_LOST:
        log = folder / f"slurm-{job.number}.log"
        return ArmState(Status.FAILED, f"job {job.number} is {job.state}, and the arm had not started ({log})")
    if job and job.state not in NODE_LOST:
        return ArmState(Status.FAILED, f"job {job.number} is {job.state}: {folders.reason(folder, name)}")
    if last == LastState.STOPPED:
        # Whoever watches an array would wait for what is waiting.
        return ArmState(Status.FAILED if name in jobs else Status.WAITING, f"stopped by a signal; {RESUME}")
    if last == LastState.FAILED:
        return ArmState(Status.FAILED, folders.reason(folder, name))
    if job or last == LastState.STARTED:
        return ArmState(Status.LOST, f"killed, or its node died; {RESUME} ({folder / name}.log)")
    if name in jobs:
        return ArmState(Status.LOST, f"submitted, but SLURM no longer lists its job; {RESUME}")
    return ArmState(Status.WAITING, "not started")
