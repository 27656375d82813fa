"""A study's experiments as Git knows them: DVC keeps each as a commit under refs/exps/."""

import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lab.errors import BadInput
from lab.params import PARAMS_FILE, parse
from lab.process.check import BLOCKS, FILES
from lab.study.plan import Arm, get, with_settings

# What an arm's result can depend on, beside the params and the files that it chooses.
SOURCES = (
    "dvc.yaml",
    "requirements.txt",
    "stages",
    "lab",
    # How a run is started, planned and reported changes nothing that it computes.
    *(f":(exclude)lab/{name}" for name in ("process", "study", "report", "verify.py", "cycles.py", "replay.py")),
)
# What a clone of a commit would lack.
COMMITTED = (*SOURCES, "params.yaml")


def git(*arguments: str, folder: Path | None = None) -> str:
    """What a Git command prints.

    Raises:
        BadInput: Git refuses.
    """
    done = subprocess.run(["git", *arguments], cwd=folder, text=True, capture_output=True)
    if done.returncode:
        raise BadInput(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def reference(name: str, revision: str) -> str:
    """Where DVC keeps an experiment of a revision. revision: the full hash of the commit it began from."""
    return f"refs/exps/{revision[:2]}/{revision[2:]}/{name}"


class Experiment(NamedTuple):
    """An arm's experiment. revision: the commit that it began from. commit: its own."""

    arm: Arm
    revision: str
    commit: str


def experiments_of(arms: list[Arm]) -> list[Experiment]:
    """The experiments of these arms, whichever revision they began from.

    Raises:
        BadInput: an experiment has an arm's name and other params.
    """
    by_name = {arm.name: arm for arm in arms}
    found = []
    for line in git("for-each-ref", "refs/exps", "--format=%(refname) %(objectname)").splitlines():
        ref, commit = line.split()
        *_, head, rest, name = ref.split("/")
        if name not in by_name or len(head) != 2:
            continue
        if not has_settings(commit, by_name[name]):
            raise BadInput(
                f"the experiment {name} (from {head}{rest[:7]}) has other params than this study's arm of that name: "
                f"rename it (dvc exp rename {name} NEW) or remove it (dvc exp remove {name})"
            )
        found.append(Experiment(by_name[name], head + rest, commit))
    return found


def finished(arms: list[Arm], revision: str) -> dict[str, str]:
    """The arms that are finished as they would be computed at a revision: name → commit of the experiment.

    An experiment counts if nothing that its arm depends on differs in its own commit, whichever revision it began from.
    """
    found = sorted(experiments_of(arms), key=lambda item: item.revision == revision)
    return {item.arm.name: item.commit for item in found if is_same(item.arm, item.commit, revision)}


def has_settings(commit: str, arm: Arm, folder: Path | None = None) -> bool:
    """Whether a commit has the settings of an arm; what the arm leaves as it was, its revision decides."""
    params = _params_of(commit, folder)
    return all(get(params, key) == value for key, value in arm.settings.items())


def is_same(arm: Arm, revision: str, other: str) -> bool:
    """Whether an arm computes the same at two revisions: the params that it reads and the code that it runs."""
    if revision == other:
        return True
    chosen = {f"lab/{folder}/{arm.params[key]}.py" for key, folder in FILES.items()}
    folders = tuple(f"lab/{folder}/" for folder in FILES.values())
    changed = [file for file in _changed(revision, other) if not file.startswith(folders) or file in chosen]
    return not changed and _read_by(arm, revision) == _read_by(arm, other)


@cache
def _changed(revision: str, other: str) -> list[str]:
    return git("diff", "--name-only", revision, other, "--", *SOURCES).splitlines()


@cache
def _params_of(commit: str, folder: Path | None = None) -> dict:
    return parse(git("show", f"{commit}:{PARAMS_FILE}", folder=folder))


def _read_by(arm: Arm, revision: str) -> dict:
    """The params that an arm reads, as they are at a revision where the arm does not set them."""
    values = with_settings(_params_of(revision), arm.settings)
    blocks = {block: values[block].get(values[key]) for key, block in BLOCKS.items()}
    return {key: value for key, value in values.items() if key not in blocks} | blocks


def newest(revisions: Iterable[str]) -> str:
    """The revision with the latest commit."""
    return git("rev-list", "--no-walk=sorted", *revisions).splitlines()[0]


def revision_to_run(arms: list[Arm], begun: str | None) -> str:
    """The revision that a study runs at: where it was begun while nothing that an arm depends on has changed since.

    Args:
        begun: the revision of its last run, where it was run.

    Raises:
        BadInput: sources have changes that are not committed, which no clone would see; or finished arms began from
            other sources.
    """
    if changed := git("status", "--porcelain", "--", *COMMITTED):
        files = ", ".join(line.split(maxsplit=1)[1] for line in changed.splitlines())
        raise BadInput(f"arms run in clones, which lack what is not committed: {files}; commit first")
    head = git("rev-parse", "HEAD")
    found = experiments_of(arms)
    valid = {item.arm.name for item in found if is_same(item.arm, item.commit, head)}
    if stale := [item for item in found if item.arm.name not in valid]:
        first = stale[0]
        raise BadInput(
            f"{first.arm.name} was run at {first.revision[:9]}, and what it depends on has changed since. To go on "
            f"there: git checkout {first.revision[:9]}. To begin anew without its arms: "
            f"dvc exp remove --rev {first.revision[:9]} --num 1 (this removes all experiments of that commit)"
        )
    revisions = [begun] if begun else [newest(item.revision for item in found)] if found else []
    return next((old for old in revisions if all(is_same(arm, old, head) for arm in arms)), head)


def identity() -> dict[str, str]:
    """Git's author and committer as in this repository, for clones that do not have its settings."""
    found: dict[str, str] = {}
    for key in ("name", "email"):
        try:
            value = os.environ.get(f"GIT_AUTHOR_{key.upper()}") or git("config", f"user.{key}")
        except BadInput:
            raise BadInput(
                "experiments are Git commits, and Git does not know you: git config user.name NAME; "
                "git config user.email ADDRESS"
            ) from None
        found |= {f"GIT_{role}_{key.upper()}": value for role in ("AUTHOR", "COMMITTER")}
    return found
