"""What SLURM starts for one element of an array of jobs: python -m lab.study.run.task SUBMISSION

It runs the arms of that element one after the other. Ahead of the time limit SLURM sends a signal: the arm stops, saves
a checkpoint, and the job goes back into the queue. SIGTERM, from a cancellation or from a job of higher priority, only
stops the arm.
"""

import json
import os
import signal
import subprocess
import time
from argparse import ArgumentParser
from pathlib import Path

from lab.errors import BadInput
from lab.process import ending
from lab.study.experiments import git
from lab.study.run import folders, processes

WARNING = signal.SIGUSR2


def main() -> None:
    parser = ArgumentParser(description="Run one element of an array of jobs.")
    parser.add_argument(
        "submission", type=Path, help="the file that lab.study.run.slurm wrote when it submitted the job"
    )
    file = parser.parse_args().submission
    submission = json.loads(file.read_text())
    os.environ.update(submission["environment"])
    # Checkpoints go into the arm's clone, on the disk that every node sees.
    os.environ.pop("AL_LAB_SCRATCH", None)
    names = submission["elements"][int(os.environ["SLURM_ARRAY_TASK_ID"])]
    attempt = Attempt(file.with_suffix(".yaml"), submission["revision"], submission["options"], file.parents[1])
    failed = [name for name in names if not attempt.run(name)]
    try:
        if failed and attempt.number == WARNING:
            _requeue(attempt, names)
        elif failed:
            raise BadInput(f"not done: {', '.join(failed)}")
    except BadInput as error:
        for name in failed:
            attempt.log(name, f"error: {error}")
        raise


class Attempt:
    """Runs arms until a signal comes. number: of that signal, or None."""

    def __init__(self, study: Path, revision: str, options: list[str], folder: Path) -> None:
        self.study, self.revision, self.options, self.folder = study, revision, options, folder
        self.begun = time.time()
        self.number: int | None = None
        self.process: subprocess.Popen | None = None
        for number in (WARNING, signal.SIGTERM):
            signal.signal(number, self._note)

    def run(self, name: str) -> bool:
        """Run an arm and add to its log. Returns whether it is done."""
        if self.number is not None:
            return False
        job, node = os.environ["SLURM_JOB_ID"], os.environ.get("SLURMD_NODENAME", "?")
        self.log(name, f"{folders.ATTEMPT}{time.strftime('%F %T')}, job {job} on {node}")
        process = self.process = processes.start(self.study, name, self.revision, self.folder, *self.options)
        if self.number is not None:  # it came before there was a process to end
            processes.terminate(process)
        process.wait()
        # A stage of its group may still be saving a checkpoint, and would be killed when this process ends.
        processes.stop([process])
        return process.returncode == 0

    def log(self, name: str, line: str) -> None:
        """Add a line to an arm's log."""
        with open(self.folder / f"{name}.log", "a") as log:
            print(line, file=log)

    def has_advanced(self, name: str) -> bool:
        """Whether this attempt wrote data, a cycle or a checkpoint, or the arm only has to be pushed."""
        clone = self.folder / name
        if not clone.exists():
            return False
        files = [*clone.glob("data/*/*"), *folders.cycles_of(self.folder, name), *clone.glob("scratch/*.pt")]
        is_new = any(file.stat().st_mtime >= self.begun for file in files)
        return is_new or bool(git("for-each-ref", f"refs/exps/*/*/{name}", folder=clone))

    def _note(self, number: int, _frame: object) -> None:
        self.number = number
        if self.process is not None:
            processes.terminate(self.process)


def _requeue(attempt: Attempt, names: list[str]) -> None:
    """Put this job back into the queue.

    Raises:
        BadInput: it would get no further than this time, or SLURM refuses.
    """
    if not any(attempt.has_advanced(name) for name in names):
        raise BadInput("nothing was computed within the time limit: raise time_limit, or lower warning_seconds")
    # By its index in the array: the last element has the same job number as the whole array.
    job = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    done = subprocess.run(["scontrol", "requeue", job], text=True, capture_output=True)
    # SLURM can end this job, and scontrol with it, before scontrol has an answer.
    if done.returncode > 0:
        raise BadInput(f"job {job} cannot go back into the queue ({done.stderr.strip()}): run the study again")


if __name__ == "__main__":
    ending.run(main)
