"""Where the arms of a study stand."""

from collections.abc import Container
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from lab.study.plan import Arm
from lab.study.run import folders
from lab.study.run.folders import Word


class Progress(NamedTuple):
    """Of a study at a moment. failed: name → why."""

    done: list[Arm]
    running: list[Arm]
    failed: dict[str, str]


class Stand(StrEnum):
    """Where one arm stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


class ArmState(NamedTuple):
    """detail: what is known beyond that, in words. job: what SLURM calls it while it has it, else None."""

    stand: Stand
    detail: str = ""
    job: str | None = None


class Job(NamedTuple):
    """What SLURM says of an arm. number: as it names jobs. state: its word, as PENDING. why: its reason, or None."""

    number: str
    state: str
    why: str
    node: str


QUEUED = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
AT_WORK = {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"}
GOES_ON = "the same command goes on where it was"
NODE_LOST = {"NODE_FAIL", "BOOT_FAIL"}


def survey(arms: list[Arm], finished: Container[str], work: Path, jobs: dict[str, Job | None]) -> dict[str, ArmState]:
    """Where each arm stands: by its experiment, then by the engine's word, then by its own.

    Args:
        finished: arms whose experiment is in the repository.
        work: the study's folder.
        jobs: of the arms that were submitted to SLURM; None where it knows the job no more.
    """
    return {arm.name: ArmState(Stand.DONE) if arm.name in finished else _state(arm.name, work, jobs) for arm in arms}


def _state(name: str, work: Path, jobs: dict[str, Job | None]) -> ArmState:
    job, word = jobs.get(name), folders.word_of(work, name)
    if job and job.state in QUEUED:
        return ArmState(Stand.WAITING, f"job {job.number}, {job.why}", job.number)
    if job and job.state in AT_WORK:
        return ArmState(Stand.RUNNING, f"job {job.number} on {job.node}", job.number)
    if job and job.state == "COMPLETED":
        # It has seen its experiment arrive: another machine's files can be seen late.
        return ArmState(Stand.RUNNING, f"job {job.number} is completed, its experiment not to be seen here yet")
    if folders.is_held(work, name):
        return ArmState(Stand.RUNNING)
    if job and job.state == "CANCELLED":
        return ArmState(Stand.FAILED, f"job {job.number} is CANCELLED; {GOES_ON}")
    if job and word is None and job.state not in NODE_LOST:
        log = work / f"slurm-{job.number}.log"
        return ArmState(Stand.FAILED, f"job {job.number} is {job.state} before the arm began ({log})")
    if job and job.state not in NODE_LOST:
        return ArmState(Stand.FAILED, f"job {job.number} is {job.state}: {folders.reason(work, name)}")
    if word == Word.STOPPED:
        return ArmState(Stand.FAILED, f"stopped by a signal; {GOES_ON}")
    if word == Word.FAILED:
        return ArmState(Stand.FAILED, folders.reason(work, name))
    if job or word == Word.BEGUN:
        return ArmState(Stand.LOST, f"killed, by somebody or with its node ({work / name}.log)")
    if name in jobs:
        return ArmState(Stand.LOST, "was submitted, and SLURM does not know it any more")
    return ArmState(Stand.WAITING, "not started")
