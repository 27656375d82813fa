"""One arm of a study, from clone to pushed experiment: python -m lab.study.run.arm STUDY NAME --revision COMMIT --work FOLDER

The contract of every launcher. The arm runs in a clone of its own at a pinned commit, with the cache of the
repository that it is started from. Once every output is known to be in the cache, all of it is pushed to DVC's
remote where the repository has one, then the experiment to the repository, and its arrival is checked. Started
again after a crash it goes on in the clone that it finds.
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

from lab.params import parse
from lab.process import ending as entry
from lab.process.ending import BadInput
from lab.process.launch import die_with_parent
from lab.study import plan
from lab.study.experiments import git, has_settings, identity, reference
from lab.study.run import folders


def main() -> None:
    parser = ArgumentParser(description="Run one arm of a study.")
    parser.add_argument("study", type=Path, help="the study file")
    parser.add_argument("name", help="the arm's name, as the study's --dry-run lists it")
    parser.add_argument("--revision", required=True, help="the commit to run")
    parser.add_argument("--work", type=Path, required=True, help="the folder that holds the arm's clone")
    parser.add_argument("--prefix", action="store_true", help="only what it shares with others, up to its cold start")
    arguments = parser.parse_args()
    arms = {arm.name: arm for arm in plan.read(arguments.study, git("show", f"{arguments.revision}:params.yaml"))}
    if arguments.name not in arms:
        raise BadInput(f"{arguments.study} has no arm {arguments.name}; it has {', '.join(arms)}")
    if os.getpgrp() != os.getpid():
        # A group of its own: what stops this arm stops nothing beside it.
        os.setpgid(0, 0)
    die_with_parent()
    signal.signal(signal.SIGTERM, _stop_all)
    arm = arms[arguments.name]
    first = next(name for name, other in arms.items() if other.prefix == arm.prefix)
    run(arm, first, arguments.revision, arguments.work, arguments.prefix)


def run(arm: plan.Arm, first: str, revision: str, work: Path, is_prefix: bool = False) -> None:
    """Run an arm and push its experiment to the current repository.

    Args:
        first: the first arm that shares data and first set with it.
        is_prefix: end after the cold start; the arm goes on in the same clone.

    Raises:
        BadInput: a step failed, and its own output says why; or what it shares was not computed.
    """
    repository = Path(git("rev-parse", "--show-toplevel"))
    work.mkdir(parents=True, exist_ok=True)
    with open(work / f"{arm.name}.lock", "w") as lock:
        # Held by DVC too: where this process alone was killed, the next one waits for what is left of it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = folders.prefix_mark(work, arm.prefix, revision)
        with folders.saying(work, arm.name):
            if not is_prefix and not mark.exists():
                # Arms that all compute it at the same moment collide in the cache.
                raise BadInput(f"what it shares with other arms was not computed: {work / first}.log says why")
            _run(arm, repository, revision, work, is_prefix, lock.fileno())
            if is_prefix:
                mark.touch()


def _run(arm: plan.Arm, repository: Path, revision: str, work: Path, is_prefix: bool, lock: int) -> None:
    ref, folder = reference(arm.name, revision), work / arm.name
    if git("for-each-ref", ref):
        return
    has_remote = clone(repository, revision, folder)
    steps = Steps(folder, lock)
    # Settings of an earlier attempt, whose study may have been another.
    git("checkout", "--quiet", "--", "params.yaml", folder=folder)
    if is_prefix:
        steps("dvc", "exp", "run", "--quiet", *arm.options, "cold_start")
        return
    if git("for-each-ref", ref, folder=folder) and has_settings(
        parse(git("show", f"{ref}:params.yaml", folder=folder)), arm
    ):
        steps("dvc", "exp", "apply", "--quiet", arm.name)
    else:
        git("update-ref", "-d", ref, folder=folder)
        steps("dvc", "exp", "run", "--quiet", "--name", arm.name, *arm.options)
    steps("lab.verify", arm.name)
    if has_remote:
        # Ahead of the experiment: one that has arrived is finished.
        _push(steps)
    steps("dvc", "exp", "push", "--quiet", "--force", "--no-cache", "origin", arm.name)
    # DVC reports success also where it pushed nothing.
    commit = git("rev-parse", ref, folder=folder)
    if commit not in git("ls-remote", "origin", ref, folder=folder):
        raise BadInput(f"{arm.name} did not arrive in {repository}")
    _remove(folder)


def _push(steps: "Steps") -> None:
    """Push the arm's results and the run-cache to DVC's remote."""
    push = ("failed to transfer", "dvc", "push", "--run-cache")
    try:
        steps.fails_where_it_says(*push)
    except BadInput:
        # Other arms come and go in the run-cache, of which DVC pushes all.
        steps.fails_where_it_says(*push)


def clone(repository: Path, revision: str, folder: Path) -> bool:
    """A clone at a revision with the repository's cache and DVC remotes; one that is there already is kept.

    Returns:
        Whether there is a DVC remote to push to.
    """
    if not (_whole(folder).exists() and git("rev-parse", "HEAD", folder=folder) == revision):
        _remove(folder)
        git("clone", "--quiet", "--no-checkout", str(repository), str(folder))
        git("checkout", "--quiet", "--detach", revision, folder=folder)
    # Each time: a remote may have been added or mended since.
    found = Config(repository / ".dvc").load_config_to_level()
    cache = {"dir": found["cache"].get("dir", str(repository / ".dvc/cache"))}
    with Config(folder / ".dvc").edit("local") as settings:
        # Links, as each arm would copy the data set.
        settings["cache"] = cache | {"type": ["reflink", "symlink", "copy"]}
        settings["core"], settings["remote"] = found["core"], found["remote"]
    _whole(folder).parent.mkdir(exist_ok=True)
    _whole(folder).touch()
    return "remote" in found["core"]


def _whole(folder: Path) -> Path:
    """A file that lies in a clone once it is complete."""
    return folder / ".dvc/tmp/whole"


def _remove(folder: Path) -> None:
    """Remove a clone; what is left of it where that is interrupted is no whole one."""
    _whole(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


class Steps:
    """Runs Python modules in a clone, and fails where one fails.

    Args:
        lock: a file descriptor that they keep open.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder, self.lock = folder, lock
        # The stages' `python` is this one, and the author of the experiments that of the repository.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, **identity(), "PATH": path}
        if archive := os.environ.get("AL_LAB_CIFAR10"):
            self.environment["AL_LAB_CIFAR10"] = str(Path(archive).resolve())

    def __call__(self, module: str, *arguments: str) -> None:
        self._run(module, *arguments)

    def fails_where_it_says(self, words: str, module: str, *arguments: str) -> None:
        """Run a module that reports a failure by these words, with whatever status. DVC does, of its run-cache."""
        done = self._run(module, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if words in done.stdout:
            raise BadInput(f"`{module} {' '.join(arguments)}` {words} something; see above")

    def _run(self, module: str, *arguments: str, **streams: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, pass_fds=[self.lock], **streams)
        if done.stdout:
            print(done.stdout, flush=True)
        if done.returncode:
            raise BadInput(f"`{module} {' '.join(arguments)}` ended with status {done.returncode}; see above")
        return done


def _stop_all(number: int, _frame: object) -> None:
    """End DVC too: the stage that it runs then keeps its training and ends."""
    signal.signal(number, signal.SIG_IGN)
    os.killpg(0, number)
    sys.exit(128 + number)


if __name__ == "__main__":
    entry.run(main)
