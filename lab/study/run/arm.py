"""Run one arm of a study: python -m lab.study.run.arm STUDY NAME --revision COMMIT --folder FOLDER

Every launcher starts arms by this command. An arm runs in its own clone, at a fixed commit, with the cache of the
repository that it was started from. When all its outputs are verified, they are pushed to DVC's remote, if the
repository has one, and then its experiment to the repository. After a crash the same command goes on in the same clone.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

from dvc.config import Config

from lab.errors import BadInput
from lab.params import PARAMS_FILE
from lab.process import ending
from lab.process.workspace import die_with_parent
from lab.study import experiments, plan
from lab.study.experiments import finished, git, identity, is_run_of, reference
from lab.study.run import folders


def main() -> None:
    parser = ArgumentParser(description="Run one arm of a study.")
    parser.add_argument("study", type=Path, help="the study file")
    parser.add_argument("name", help="the arm's name, as `python -m lab.study run --dry-run` lists it")
    parser.add_argument("--revision", required=True, help="the commit to run")
    parser.add_argument("--folder", type=Path, required=True, help="the study's folder, which holds the arm's clone")
    parser.add_argument("--prefix", action="store_true", help="run only what arms share: the stages up to cold_start")
    arguments = parser.parse_args()
    text = git("show", f"{arguments.revision}:{PARAMS_FILE}")
    # Whoever started the arm has checked the optimizers, and so will its first stage: PyTorch is not needed here.
    arms = {arm.name: arm for arm in plan.read(arguments.study, text, optimizers=False)}
    if arguments.name not in arms:
        raise BadInput(f"{arguments.study} has no arm {arguments.name}; it has {', '.join(arms)}")
    if os.getpgrp() != os.getpid():
        # A group of its own, so that stopping this arm stops nothing else.
        os.setpgid(0, 0)
    die_with_parent()
    signal.signal(signal.SIGTERM, _stop_group)
    arm = arms[arguments.name]
    peers = [other for other in arms.values() if other.prefix == arm.prefix]
    done = experiments.finished(peers, arguments.revision)
    first = next((other.name for other in peers if other.name not in done), arm.name)
    if arm.chosen_by:
        if arm.chosen_by not in done:
            raise BadInput(f"{arm.name} replays {arm.chosen_by}, which is not finished; run the study again")
        arm = arm.replaying(experiments.replay_of(done[arm.chosen_by]))
    run(arm, first, arguments.revision, arguments.folder, arguments.prefix)


def run(arm: plan.Arm, first: str, revision: str, folder: Path, is_prefix: bool = False) -> None:
    """Run an arm and push its experiment to the current repository.

    Args:
        first: the first unfinished arm with the same data and first labelled set, whose clone computed them.
        folder: the study's folder.
        is_prefix: end after the cold start; the arm later goes on in the same clone.

    Raises:
        BadInput: a step failed, and its own output says why; or the shared stages were not run.
    """
    repository = Path(git("rev-parse", "--show-toplevel"))
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{arm.name}.lock", "w") as lock:
        # DVC inherits the lock: if this process alone was killed, the next one waits until DVC has ended.
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = folders.prefix_mark(folder, arm.prefix, revision)
        with folders.recording_state(folder, arm.name):
            if not is_prefix and not mark.exists():
                # Arms that compute it at the same moment collide in the cache.
                raise BadInput(f"its data or first labelled set could not be prepared: see {folder / first}.log")
            run_steps(arm, repository, revision, folder / arm.name, is_prefix, lock.fileno())
            if is_prefix:
                mark.touch()


def run_steps(arm: plan.Arm, repository: Path, revision: str, tree: Path, is_prefix: bool, lock: int) -> None:
    if arm.name in finished([arm], revision):
        return
    has_remote = clone(repository, revision, tree)
    steps = Steps(tree, lock)
    # Whoever wrote it is gone, since this process holds the arm's lock; a kill can leave it half written.
    (tree / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    folders.keep_lock(tree)
    # An earlier attempt may have had other settings, or was killed while DVC wrote dvc.lock: finished stages come from
    # the run-cache. metrics/costs.csv stays: it is the log of all attempts.
    git("checkout", "--quiet", "--", str(PARAMS_FILE), folders.LOCK, folder=tree)
    if is_prefix:
        steps("dvc", "exp", "run", "--quiet", *arm.options, "cold_start")
        return
    ref = reference(arm.name, revision)
    earlier = git("for-each-ref", ref, "--format=%(objectname)", folder=tree)
    if earlier and is_run_of(arm, earlier, revision, tree):
        steps("dvc", "exp", "apply", "--quiet", arm.name)
    else:
        git("update-ref", "-d", ref, folder=tree)
        steps("dvc", "exp", "run", "--quiet", "--name", arm.name, *arm.options)
    steps("lab.verify", arm.name)
    if has_remote:
        # Before the experiment: once that has arrived, the arm counts as finished.
        _push(steps)
    steps("dvc", "exp", "push", "--quiet", "--force", "--no-cache", "origin", arm.name)
    # DVC reports success even if it pushed nothing.
    commit = git("rev-parse", ref, folder=tree)
    if commit not in git("ls-remote", "origin", ref, folder=tree):
        raise BadInput(f"{arm.name} did not arrive in {repository}")
    _remove(tree)


def _push(steps: "Steps") -> None:
    """Push the arm's results and the run-cache to DVC's remote."""
    try:
        steps("dvc", "push", "--run-cache", failure="failed to transfer")
    except BadInput:
        # DVC pushes the whole run-cache, in which other arms add and remove entries.
        steps("dvc", "push", "--run-cache", failure="failed to transfer")


def clone(repository: Path, revision: str, folder: Path) -> bool:
    """Make a clone at a revision that uses the repository's cache and DVC remotes, unless there is one already.

    Returns:
        Whether there is a DVC remote to push to.
    """
    if not (_mark_of(folder).exists() and git("rev-parse", "HEAD", folder=folder) == revision):
        _remove(folder)
        git("clone", "--quiet", "--no-checkout", str(repository), str(folder))
        git("checkout", "--quiet", "--detach", revision, folder=folder)
    # Each time, as a remote may have been added or repaired.
    found = Config(repository / ".dvc").load_config_to_level()
    cache = {"dir": str(cache_of(repository))}
    with Config(folder / ".dvc").edit("local") as settings:
        # Links: otherwise each arm would copy the data set.
        settings["cache"] = cache | {"type": ["reflink", "symlink", "copy"]}
        settings["core"], settings["remote"] = found["core"], found["remote"]
    _mark_of(folder).parent.mkdir(exist_ok=True)
    _mark_of(folder).touch()
    return "remote" in found["core"]


def cache_of(repository: Path) -> Path:
    """The folder of a repository's cache."""
    found = Config(repository / ".dvc").load_config_to_level()
    return Path(found["cache"].get("dir", repository / ".dvc/cache"))


def _mark_of(folder: Path) -> Path:
    """The file that is in a clone once the clone is complete."""
    return folder / ".dvc/tmp/complete"


def _remove(folder: Path) -> None:
    """Remove a clone. If that is interrupted, what is left no longer counts as a clone."""
    _mark_of(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


class Steps:
    """Runs Python modules in a clone.

    Args:
        lock: a file descriptor that the modules inherit.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder, self.lock = folder, lock
        # Stages run with this Python, and the repository's author signs the experiments.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, **identity(), "PATH": path}
        if archive := os.environ.get("AL_LAB_CIFAR10"):
            self.environment["AL_LAB_CIFAR10"] = str(Path(archive).resolve())

    def __call__(self, module: str, *arguments: str, failure: str | None = None) -> None:
        """Run a module.

        Args:
            failure: what it prints if it fails with status 0, as DVC does for its run-cache.

        Raises:
            BadInput: it failed.
        """
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            pass_fds=[self.lock],
            stdout=subprocess.PIPE if failure else None,
            stderr=subprocess.STDOUT if failure else None,
            text=True,
        )
        if failure:
            print(done.stdout, flush=True)
        if done.returncode or (failure and failure in done.stdout):
            raise BadInput(f"`{module} {' '.join(arguments)}` failed with status {done.returncode}: see above")


def _stop_group(number: int, _frame: object) -> None:
    """Stop DVC and its stage too. The stage saves a checkpoint first."""
    signal.signal(number, signal.SIG_IGN)
    os.killpg(0, number)
    sys.exit(128 + number)


if __name__ == "__main__":
    ending.run(main)
