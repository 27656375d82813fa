"""Since when a study's analysis has stood in its file, as Git tells."""

from collections.abc import Iterable
from pathlib import Path

from lab.errors import BadInput
from lab.params import parse, read
from lab.study.experiments import git

# What decides what an answer is about. What an arm is, the arm's own commit holds.
STATED = ("analysis", "measure", "protocol", "dataset", "cycles")


def first_commit(path: Path) -> str | None:
    """The commit since which a study file has stated the analysis that it states now; None where none holds it."""
    stated, found = _stated(read(path)), None
    for commit in git("log", "--format=%H", "--", f"{path}").splitlines():
        if _stated(_at(commit, path)) != stated:
            break
        found = commit
    return found


def _at(commit: str, path: Path) -> dict:
    """The study file at a commit; empty where it was not there, or no YAML."""
    try:
        return parse(git("show", f"{commit}:./{path}"), path)
    except BadInput:
        return {}


def _stated(study: dict) -> list:
    return [study.get(key) for key in STATED]


def when(path: Path, revisions: Iterable[str]) -> str:
    """A sentence: which commit first held the analysis of a study file, and whether its arms began before.

    Args:
        revisions: the commits that its arms began from.
    """
    commit = first_commit(path)
    if commit is None:
        return "This analysis is not committed: nobody can tell whether it was stated before the results were seen."
    said = f"This analysis was first held by commit {commit[:9]} ({git('show', '-s', '--format=%cs', commit)})"
    then, now = (len(study.get("seeds", [])) for study in (_at(commit, path), read(path)))
    if then != now:
        said += f", when the study had {then} seeds instead of {now}"
    try:
        # An arm began after the analysis if its commit holds it.
        earlier = [revision[:9] for revision in sorted(set(revisions)) if git("merge-base", commit, revision) != commit]
    except BadInput:
        return f"{said}. This clone lacks a commit that its arms began from: whether they began before, it cannot tell."
    if earlier:
        return f"{said}, but arms began before it, at {', '.join(earlier)}: it was not stated beforehand."
    return f"{said}, before the first arm began."
