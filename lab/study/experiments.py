"""A study's experiments as Git knows them: DVC keeps each as a commit under refs/exps/."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab.errors import BadInput
from lab.params import parse
from lab.study.plan import Arm, get

# What an arm's result can depend on; a study goes on at its first revision while none of it has changed since.
SOURCES = ("dvc.yaml", "params.yaml", "stages", "requirements.txt")


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


def finished(arms: list[Arm]) -> dict[str, dict[str, str]]:
    """The experiments of these arms: revision that they began from → name → commit.

    Raises:
        BadInput: an experiment has an arm's name and other params.
    """
    by_name = {arm.name: arm for arm in arms}
    found = {}
    for line in git("for-each-ref", "refs/exps", "--format=%(refname) %(objectname)").splitlines():
        ref, commit = line.split()
        *_, head, rest, name = ref.split("/")
        if name not in by_name or len(head) != 2:
            continue
        if not has_settings(parse(git("show", f"{commit}:params.yaml")), by_name[name]):
            raise BadInput(
                f"the experiment {name} (from {head}{rest[:7]}) has other params than this study's arm of that name: "
                f"rename it (dvc exp rename {name} NEW) or remove it (dvc exp remove {name})"
            )
        found.setdefault(head + rest, {})[name] = commit
    return found


def has_settings(params: dict, arm: Arm) -> bool:
    """Whether a params.yaml has the settings of an arm; what the arm leaves as it was, its revision decides."""
    return all(get(params, key) == value for key, value in arm.settings.items())


def newest(revisions: Iterable[str]) -> str:
    """The revision with the latest commit."""
    return git("rev-list", "--no-walk=sorted", *revisions).splitlines()[0]


def revision_to_run(arms: list[Arm], begun: str | None) -> str:
    """The revision that a study runs at: that of its finished arms, else where it was begun, else the current commit.

    Args:
        begun: the revision of its last run, where it was run.

    Raises:
        BadInput: sources have changes that are not committed, which no clone would see; or arms that are
            finished began from other sources.
    """
    if changed := git("status", "--porcelain", "--", *SOURCES):
        files = ", ".join(line.split(maxsplit=1)[1] for line in changed.splitlines())
        raise BadInput(f"every arm runs a clone of a commit, and would not see what is not committed: {files}")
    head = git("rev-parse", "HEAD")
    found = finished(arms)
    if head in found:
        return head
    revision = newest(found) if found else begun
    if revision is None:
        return head
    if git("diff", "--name-only", revision, head, "--", *SOURCES):
        if not found:
            return head
        some = ", ".join(list(found[revision])[:3])
        raise BadInput(
            f"{len(found[revision])} arms ({some} …) were run at {revision[:9]}, and {', '.join(SOURCES)} have changed "
            f"since. Go on there: git checkout {revision[:9]}. Or begin anew, without them: "
            f"dvc exp remove --rev {revision[:9]} --num 1"
        )
    return revision


def identity() -> dict[str, str]:
    """Git's author and committer as in this repository, for clones that do not have its settings."""
    found = {}
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
