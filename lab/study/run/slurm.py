"""Run the arms of a study on SLURM: an array of jobs, one an arm, behind a job that computes what they share.

What was submitted lies in the study's folder, each under the name of its jobs; where they stand, SLURM's queue
says. No process of the user's has to live for them.
"""

import getpass
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
from typing import Annotated

import yaml
from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from lab.params import Yaml12Loader
from lab.process.check import Block, Count
from lab.process.ending import BadInput
from lab.process.interruption import Interruption
from lab.study import experiments
from lab.study.plan import Arm
from lab.study.run import folders
from lab.study.run.states import AT_WORK, QUEUED, ArmState, Job, Progress, Stand, survey

SECONDS_BETWEEN_LOOKS = 10
# Number of the array, index in it, name, state, reason, nodes: %K is N/A for a job that is no array.
FIELDS = "%F|%K|%j|%T|%r|%N"


class Settings(Block):
    """A cluster, as studies/clusters/generic.yaml explains it."""

    model_config = ConfigDict(strict=True)

    partition: str | None = None
    account: str | None = None
    gpus: Count | None = None
    gres: str | None = None
    cpus: Count
    memory: str
    time_limit: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d+){0,2}$")]
    warning_seconds: Annotated[int, Field(ge=1, le=65_535)] = 300
    arms_at_once: Count
    shell: str = "/bin/bash"
    setup: Annotated[list[str], Field(default_factory=list)]
    options: Annotated[list[str], Field(default_factory=list)]
    scratch: str | None = None

    @field_validator("scratch")
    @classmethod
    def _names_a_folder(cls, value: str | None) -> str | None:
        # Not every shell exports USER.
        named = re.sub(r"\$USER\b|\$\{USER\}", getpass.getuser(), value or "/")
        expanded = os.path.expandvars(os.path.expanduser(named))
        if not os.path.isabs(expanded) or "$" in expanded:
            raise ValueError(f"{expanded}: must be an absolute path, of variables that are set")
        return value and expanded

    @model_validator(mode="after")
    def _asks_once(self) -> "Settings":
        if self.gpus and self.gres:
            raise ValueError("gpus and gres both ask for GPUs: leave one out")
        return self


def read(path: Path) -> Settings:
    """Read the settings of a cluster.

    Raises:
        BadInput: the file is refused; every fault is named.
    """
    try:
        return Settings(**yaml.load(path.read_text(), Loader=Yaml12Loader))
    except ValidationError as error:
        faults = [
            f"  {'.'.join(map(str, fault['loc'])) or path.name}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise BadInput("\n".join([f"{path} is refused, nothing was run:", *faults])) from error
    except OSError as error:
        raise BadInput(f"{path}: the settings of the cluster cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, TypeError) as error:
        raise BadInput(f"{path}: must be a mapping of settings ({error})") from error


def run(
    study: Path, arms: list[Arm], revision: str, settings: Settings, show: Callable[[Progress], None]
) -> dict[str, str]:
    """Submit the arms that are neither finished nor in the queue, then watch until all have ended.

    Args:
        show: called again and again with the state.

    Returns:
        The arms that failed or were lost: name → why.

    Raises:
        Interrupted: SIGINT or SIGTERM; the jobs go on.
        BadInput: SLURM refuses, or has jobs of this study at another revision.
    """
    interruption = Interruption().listen()
    work = folders.of(study)
    if others := {item["revision"] for item, _ in _active(work)} - {revision}:
        raise BadInput(
            f"arms of {study} are in the queue at {others.pop()[:9]}, and this would run {revision[:9]}: wait for "
            f"them, or python -m lab.study cancel {study}"
        )
    folders.keep_revision(work, revision)
    found = survey(arms, experiments.finished(arms).get(revision, {}), work, jobs_of(work, revision))
    missing = [arm for arm in arms if found[arm.name].stand != Stand.DONE and found[arm.name].job is None]
    if missing:
        submit(study, arms, missing, revision, settings)
    while True:
        interruption.check(f"the jobs go on: python -m lab.study status {study}, python -m lab.study cancel {study}")
        try:
            jobs = jobs_of(work, revision)
        except BadInput as error:
            print(f"warning: {error}; asked again in {SECONDS_BETWEEN_LOOKS} s", file=sys.stderr, flush=True)
        else:
            finished = experiments.finished(arms).get(revision, {})
            progress = _progress(arms, survey(arms, finished, work, jobs))
            show(progress)
            if len(progress.done) + len(progress.failed) == len(arms):
                return progress.failed
        for _ in range(SECONDS_BETWEEN_LOOKS * 10):
            if not interruption.is_requested:
                time.sleep(0.1)


def submit(study: Path, arms: list[Arm], missing: list[Arm], revision: str, settings: Settings) -> None:
    """Submit arms as one array, and ahead of it a job for what they share, where that is not computed yet.

    Raises:
        BadInput: SLURM refuses.
    """
    work = folders.of(study)
    needed = {arm.prefix for arm in missing if not folders.prefix_mark(work, arm.prefix, revision).exists()}
    first = {arm.prefix: arm.name for arm in reversed(arms) if arm.prefix in needed}
    dependency = None
    if first:
        # In one job, one after the other: at the same moment they would collide in the cache.
        dependency = _submit(study, [list(first.values())], revision, settings, ["--prefix"], None)
        print(f"job {dependency}: what the arms of a seed share, {len(first)} in all, ahead of them", flush=True)
    number = _submit(study, [[arm.name] for arm in missing], revision, settings, [], dependency)
    print(f"job {number}: {len(missing)} arms, {settings.arms_at_once} at once", flush=True)


def command(settings: Settings, name: str, work: Path, elements: int, dependency: str | None) -> list[str]:
    """The ``sbatch`` that submits an array; it reads the script from its standard input."""
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
        "output": work / "slurm-%A_%a.log",
        "open-mode": "append",
        # To the script alone, which becomes the task.
        "signal": f"B:USR2@{settings.warning_seconds}",
        # Also after a failure: the arms then say themselves what is wrong.
        "dependency": dependency and f"afterany:{dependency}",
    }
    options = [f"--{key}={value}" for key, value in asked.items() if value is not None]
    return ["sbatch", "--parsable", "--requeue", *options, *settings.options]


def script(settings: Settings, submission: Path) -> str:
    """The job script, in words that every shell understands: the task takes the place of the shell.

    A line of the set-up that fails ends the job.
    """
    task = shlex.join([sys.executable, "-m", "lab.study.run.task", str(submission)])
    return f"#!{settings.shell}\n" + " && \\\n".join([*settings.setup, f"exec {task}"]) + "\n"


def jobs_of(work: Path, revision: str) -> dict[str, Job | None]:
    """The newest job of each arm that was submitted at a revision; None where SLURM knows it no more.

    Raises:
        BadInput: SLURM was given arms and does not answer.
    """
    arms = [item for item in _submissions(work) if not item["options"] and item["revision"] == revision]
    jobs = {name: None for submission in arms for (name,) in submission["elements"]}
    # The oldest first: the last word is that of the newest.
    for submission, job in _listed(work):
        if submission in arms:
            (name,) = submission["elements"][int(job.number.rpartition("_")[2])]
            jobs[name] = job
    return jobs


def cancel(work: Path) -> int:
    """Cancel all jobs of a study, and forget what was submitted. Returns how many there were.

    Raises:
        BadInput: SLURM does not answer.
    """
    numbers = [job.number for _, job in _active(work)]
    if numbers:
        _slurm("scancel", *{number.partition("_")[0] for number in numbers})
    for file in (work / "submissions").glob("*.json"):
        file.rename(file.with_suffix(".cancelled"))
    return len(numbers)


def _progress(arms: list[Arm], found: dict[str, ArmState]) -> Progress:
    bad = {name: item for name, item in found.items() if item.stand in (Stand.FAILED, Stand.LOST)}
    return Progress(
        [arm for arm in arms if found[arm.name].stand == Stand.DONE],
        [arm for arm in arms if found[arm.name].stand == Stand.RUNNING],
        {name: f"{item.stand}, {item.detail}" for name, item in bad.items()},
    )


def _submit(
    study: Path,
    elements: list[list[str]],
    revision: str,
    settings: Settings,
    options: list[str],
    dependency: str | None,
) -> str:
    work = folders.of(study)
    folder = work / "submissions"
    folder.mkdir(exist_ok=True)
    # Counted, so that they sort by time; drawn, so that no other clone's jobs have the same name.
    number = f"{len(list(folder.glob('*.yaml'))):04}-{secrets.token_hex(2)}"
    name = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', work.name)}-{number}-{'prefix' if options else 'arms'}"
    environment = {key: value for key, value in os.environ.items() if key.startswith("AL_LAB_")}
    submission = {
        "name": name,
        "revision": revision,
        "elements": elements,
        "options": options,
        "environment": {**environment, **experiments.identity(), "OMP_NUM_THREADS": str(settings.cpus)},
    }
    file = folder / f"{name}.json"
    # Ahead of the job, which may start at once. The study as it is now, whatever is written to its file later.
    file.with_suffix(".yaml").write_text(study.read_text())
    file.write_text(json.dumps(submission, indent=1))
    try:
        answer = _slurm(*command(settings, name, work, len(elements), dependency), script=script(settings, file))
    except BadInput:
        file.unlink()
        raise
    return answer.strip().partition(";")[0]


def _submissions(work: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted((work / "submissions").glob("*.json"))]


def _active(work: Path) -> list[tuple[dict, Job]]:
    return [(submission, job) for submission, job in _listed(work) if job.state in QUEUED | AT_WORK]


def _listed(work: Path) -> Iterator[tuple[dict, Job]]:
    """The jobs of a study that SLURM knows, those that have ended lately too, oldest submission first."""
    submissions = {item["name"]: item for item in _submissions(work)}
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
        BadInput: it is not there, or fails.
    """
    try:
        done = subprocess.run(command, input=script, text=True, capture_output=True)
    except FileNotFoundError:
        raise BadInput(f"{command[0]} is not to be found: SLURM's commands are needed on this machine") from None
    if done.returncode:
        raise BadInput(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
