"""Run the arms of a study on SLURM: an array with one job for each arm, after a job that computes what they share.

The study's folder holds what was submitted, under the name of the jobs. SLURM's queue tells their state. Jobs need no
process of the user to stay alive.
"""

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.errors import BadInput
from lab.process.interruption import Interruption
from lab.study import experiments
from lab.study.arms import Arm
from lab.study.run import folders
from lab.study.run.cluster import Settings
from lab.study.run.states import ACTIVE, QUEUED, ArmState, Job, Snapshot, Status, survey

SECONDS_BETWEEN_POLLS = 10
# Array number, index in it, name, state, reason, nodes: %K is N/A for a job without an array.
FIELDS = "%F|%K|%j|%T|%r|%N"


def run(
    study: Path, arms: list[Arm], revision: str, settings: Settings, show: Callable[[Snapshot], None]
) -> dict[str, str]:
    """Submit the arms that are neither finished nor in the queue, then watch them until all have ended.

    Args:
        show: called again and again with the state of the study.

    Returns:
        The arms that failed or were lost: name → why.

    Raises:
        Interrupted: SIGINT or SIGTERM; the jobs continue.
        BadInput: SLURM refuses, or has jobs of this study at another revision.
    """
    interruption = Interruption().listen()
    folder = folders.of(study)
    if others := {item["revision"] for item, _ in _unfinished(folder)} - {revision}:
        raise BadInput(
            f"arms of {study} are in the queue at revision {others.pop()[:9]}, and this would run {revision[:9]}: "
            f"wait for them, or cancel them: python -m lab.study cancel {study}"
        )
    folders.keep_revision(folder, revision)
    found = survey(arms, experiments.finished(arms, revision), folder, jobs_of(folder, revision))
    missing = [arm for arm in arms if found[arm.name].status != Status.DONE and found[arm.name].job is None]
    if missing:
        submit(study, arms, missing, revision, settings)
    while True:
        interruption.check(f"the jobs continue; see python -m lab.study status {study}, or cancel {study}")
        try:
            jobs = jobs_of(folder, revision)
        except BadInput as error:
            print(f"warning: {error}; trying again in {SECONDS_BETWEEN_POLLS} s", file=sys.stderr, flush=True)
        else:
            finished = experiments.finished(arms, revision)
            state = _snapshot(arms, survey(arms, finished, folder, jobs))
            show(state)
            if len(state.done) + len(state.failed) == len(arms):
                return state.failed
        next_poll = time.monotonic() + SECONDS_BETWEEN_POLLS
        while time.monotonic() < next_poll and not interruption.is_requested:
            time.sleep(0.1)


def submit(study: Path, arms: list[Arm], missing: list[Arm], revision: str, settings: Settings) -> None:
    """Submit arms as one array, after a job for what they share, if that is not computed yet.

    Raises:
        BadInput: SLURM refuses.
    """
    folder = folders.of(study)
    needed = {arm.prefix for arm in missing if not folders.prefix_mark(folder, arm.prefix, revision).exists()}
    # Not a finished arm, which would compute nothing.
    first = {arm.prefix: arm.name for arm in reversed(missing) if arm.prefix in needed}
    dependency = None
    if first:
        # In one job, one by one: at the same moment they would collide in the cache.
        dependency = _submit(study, [list(first.values())], revision, settings, ["--prefix"], None)
        print(
            f"job {dependency}: prepares what arms share: data and first labelled sets, {len(first)} in all", flush=True
        )
    # Arms that replay others wait for all of those.
    for group in ([arm for arm in missing if not arm.chosen_by], [arm for arm in missing if arm.chosen_by]):
        if group:
            dependency = _submit(study, [[arm.name] for arm in group], revision, settings, [], dependency)
            print(f"job {dependency}: {len(group)} of {len(arms)} arms, {settings.arms_at_once} at once", flush=True)


def command(settings: Settings, name: str, folder: Path, elements: int, dependency: str | None) -> list[str]:
    """The ``sbatch`` command that submits an array. It reads the script from its standard input."""
    asked = {
        "partition": settings.partition,
        "account": settings.account,
        "gpus": settings.gpus,
        "gres": settings.gres,
        "cpus-per-task": settings.cpus,
        "mem": settings.memory,
        "time": settings.time_limit,
        "nodes": 1,
        "ntasks": 1,
        "array": f"0-{elements - 1}%{settings.arms_at_once}",
        "job-name": name,
        "chdir": Path.cwd(),
        "output": folder / "slurm-%A_%a.log",
        "open-mode": "append",
        # To the script alone, which the task replaces.
        "signal": f"B:USR2@{settings.warning_seconds}",
        # Also after a failure: each arm then reports what is wrong.
        "dependency": dependency and f"afterany:{dependency}",
    }
    options = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    return ["sbatch", "--parsable", "--requeue", *options, *settings.options]


def script(settings: Settings, submission: Path) -> str:
    """The job script, in a syntax that all shells share. The task replaces the shell.

    A set-up command that fails ends the job.
    """
    task = shlex.join([sys.executable, "-m", "lab.study.run.task", str(submission)])
    return f"#!{settings.shell}\n" + " && \\\n".join([*settings.setup, f"exec {task}"]) + "\n"


def jobs_of(folder: Path, revision: str) -> dict[str, Job | None]:
    """The newest job of each arm that was submitted at a revision; None if SLURM no longer lists it.

    Raises:
        BadInput: arms were submitted, and SLURM does not answer.
    """
    arms = [item for item in _submissions(folder) if not item["options"] and item["revision"] == revision]
    jobs: dict[str, Job | None] = {name: None for submission in arms for (name,) in submission["elements"]}
    # Oldest first, so that the newest stays.
    for submission, job in _listed(folder):
        if submission in arms:
            (name,) = submission["elements"][int(job.number.rpartition("_")[2])]
            jobs[name] = job
    return jobs


def cancel(folder: Path) -> int:
    """Cancel all jobs of a study, and forget what was submitted. Returns the number of jobs.

    Raises:
        BadInput: SLURM does not answer.
    """
    numbers = [job.number for _, job in _unfinished(folder)]
    if numbers:
        _slurm("scancel", *{number.partition("_")[0] for number in numbers})
    for file in (folder / "submissions").glob("*.json"):
        file.rename(file.with_suffix(".cancelled"))
    return len(numbers)


def _snapshot(arms: list[Arm], found: dict[str, ArmState]) -> Snapshot:
    bad = {name: item for name, item in found.items() if item.status in (Status.FAILED, Status.LOST)}
    return Snapshot(
        [arm for arm in arms if found[arm.name].status == Status.DONE],
        [arm for arm in arms if found[arm.name].status == Status.RUNNING],
        {name: f"{item.status}, {item.detail}" for name, item in bad.items()},
    )


def _submit(
    study: Path,
    elements: list[list[str]],
    revision: str,
    settings: Settings,
    options: list[str],
    dependency: str | None,
) -> str:
    folder = folders.of(study)
    submissions = folder / "submissions"
    submissions.mkdir(exist_ok=True)
    # The count sorts them by time. The random part keeps them apart from those of another clone.
    number = f"{len(list(submissions.glob('*.yaml'))):04}-{secrets.token_hex(2)}"
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', folder.name)}-{number}-{'prefix' if options else 'arms'}"
    environment = {key: value for key, value in os.environ.items() if key.startswith("AL_LAB_")}
    submission = {
        "name": name,
        "revision": revision,
        "elements": elements,
        "options": options,
        "environment": {**environment, **experiments.identity(), "OMP_NUM_THREADS": str(settings.cpus)},
    }
    file = submissions / f"{name}.json"
    # Before the job, which may start at once. A copy of the study, whose file may change later.
    file.with_suffix(".yaml").write_text(study.read_text())
    file.write_text(json.dumps(submission, indent=1))
    try:
        answer = _slurm(*command(settings, name, folder, len(elements), dependency), script=script(settings, file))
    except BadInput:
        file.unlink()
        raise
    return answer.strip().partition(";")[0]


def _submissions(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted((folder / "submissions").glob("*.json"))]


def _unfinished(folder: Path) -> list[tuple[dict, Job]]:
    return [(submission, job) for submission, job in _listed(folder) if job.state in QUEUED | ACTIVE]


def _listed(folder: Path) -> Iterator[tuple[dict, Job]]:
    """The jobs of a study that SLURM lists, also those that ended lately, oldest submission first."""
    submissions = {item["name"]: item for item in _submissions(folder)}
    if not submissions:
        return
    answer = _slurm("squeue", "--me", "--array", "--states=all", "--noheader", f"--format={FIELDS}")
    rows = [line.split("|") for line in answer.splitlines()]
    for array, index, name, state, why, node in sorted(rows, key=lambda row: row[2]):
        if name in submissions:
            yield submissions[name], Job(f"{array}_{index}", state, why, node)


def _slurm(*command: str, script: str | None = None) -> str:
    """What a command of SLURM prints.

    Raises:
        BadInput: it is not installed, or fails.
    """
    try:
        done = subprocess.run(command, input=script, text=True, capture_output=True)
    except FileNotFoundError:
        raise BadInput(f"{command[0]} is not installed: run this on a machine that has SLURM's commands") from None
    if done.returncode:
        raise BadInput(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
