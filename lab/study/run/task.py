"""What SLURM starts for an element of an array: python -m lab.study.run.task SUBMISSION

Runs the arms of that element one after the other. The signal that SLURM sends ahead of the time limit stops the arm,
which keeps its training, and puts the job into the queue again; SIGTERM, of a cancellation or of a job with
more right to the node, only stops it.
"""

import json
import os
import signal
import subprocess
import time
from argparse import ArgumentParser
from pathlib import Path

from lab.process import ending as entry
from lab.process.ending import BadInput
from lab.study.experiments import git
from lab.study.run import folders, processes

WARNING = signal.SIGUSR2


def main() -> None:
    parser = ArgumentParser(description="Run one element of an array of jobs.")
    parser.add_argument("submission", type=Path, help="what was submitted, written by lab.study.run.slurm")
    file = parser.parse_args().submission
    submission = json.loads(file.read_text())
    os.environ.update(submission["environment"])
    # Checkpoints lie in the arm's clone: on the disk that every node sees.
    os.environ.pop("AL_LAB_SCRATCH", None)
    names = submission["elements"][int(os.environ["SLURM_ARRAY_TASK_ID"])]
    attempt = _Attempt(file.with_suffix(".yaml"), submission["revision"], submission["options"], file.parents[1])
    failed = [name for name in names if not attempt.has_run(name)]
    try:
        if failed and attempt.number == WARNING:
            _requeue(attempt, names)
        elif failed:
            raise BadInput(f"not done: {', '.join(failed)}")
    except BadInput as error:
        for name in failed:
            attempt.log(name, f"error: {error}")
        raise


class _Attempt:
    """Runs arms until a signal comes. number: of that signal, or None."""

    def __init__(self, study: Path, revision: str, options: list[str], work: Path) -> None:
        self.study, self.revision, self.options, self.work = study, revision, options, work
        self.begun = time.time()
        self.number = self.process = None
        for number in (WARNING, signal.SIGTERM):
            signal.signal(number, self._note)

    def has_run(self, name: str) -> bool:
        """Run an arm, with a log that earlier attempts began. Returns whether it is done."""
        if self.number is not None:
            return False
        job, node = os.environ["SLURM_JOB_ID"], os.environ.get("SLURMD_NODENAME", "?")
        self.log(name, f"{folders.ATTEMPT}{time.strftime('%F %T')}, job {job} on {node}")
        with open(self.work / f"{name}.log", "a") as log:
            self.process = subprocess.Popen(
                [*processes.arm_command(self.study, name, self.revision, self.work), *self.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self.number is not None:  # it came in between
            processes.terminate(self.process)
        self.process.wait()
        # What is left of its group is a stage that keeps its training: the end of this process would end it.
        processes.stop([self.process])
        return self.process.returncode == 0

    def log(self, name: str, line: str) -> None:
        """Add a line to an arm's log."""
        with open(self.work / f"{name}.log", "a") as log:
            print(line, file=log)

    def has_advanced(self, name: str) -> bool:
        """Whether data, a cycle or a checkpoint came of this attempt, or the arm only has to be pushed."""
        clone = self.work / name
        if not clone.exists():
            return False
        files = [*clone.glob("data/*/*"), *clone.glob("metrics/cycles/*.json"), *clone.glob("scratch/*.pt")]
        is_new = any(file.stat().st_mtime >= self.begun for file in files)
        return is_new or bool(git("for-each-ref", f"refs/exps/*/*/{name}", folder=clone))

    def _note(self, number: int, _frame: object) -> None:
        self.number = number
        if self.process is not None:
            processes.terminate(self.process)


def _requeue(attempt: _Attempt, names: list[str]) -> None:
    """Put this job into the queue again.

    Raises:
        BadInput: it would come to the same point, or SLURM refuses.
    """
    if not any(attempt.has_advanced(name) for name in names):
        raise BadInput("the time limit came before anything was computed: raise time_limit, or lower warning_seconds")
    # By its place in the array: the number of the last element is also that of the whole array.
    job = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    done = subprocess.run(["scontrol", "requeue", job], text=True, capture_output=True)
    # SLURM can end this job, and the command with it, before it has answered.
    if done.returncode > 0:
        raise BadInput(f"job {job} cannot be put into the queue again ({done.stderr.strip()}): run the study again")


if __name__ == "__main__":
    entry.run(main)
