"""A study's experiments as Git knows them: DVC keeps each as a commit under refs/exps/."""

import os
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from lab.data import answers
from lab.errors import BadInput
from lab.params import PARAMS_FILE, parse
from lab.query.oracle import HIDDEN
from lab.study.arms import Arm, with_settings
from lab.study.plan import read_by

# Stages that compute no result: they refuse, keep a network, draw.
WITHOUT_RESULT = ("check", "network", "plot")
# Sources of data sets, and what those that read image files share.
SOURCES, IMAGES, OF_IMAGES = "lab/data/sets", "lab/data/images", ("folder", "csv", "unlabelled")
# What dvc.yaml says of a stage that changes no result: how it is described and shown. A `foreach` has it under `do`.
SHOWN = {"do", "desc", "metrics", "plots"}


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
        BadInput: an experiment has an arm's name, and other params or other code than the arm has where it began.
    """
    by_name = {arm.name: arm for arm in arms}
    found = []
    for line in git("for-each-ref", "refs/exps", "--format=%(refname) %(objectname)").splitlines():
        ref, commit = line.split()
        *_, head, rest, name = ref.split("/")
        if name not in by_name or len(head) != 2:
            continue
        if not is_run_of(by_name[name], commit, head + rest):
            raise BadInput(
                f"the experiment {name} (from {head}{rest[:7]}) has other params or other code than this study's arm "
                f"of that name: rename it (dvc exp rename {name} NEW) or remove it (dvc exp remove {name})"
            )
        found.append(Experiment(by_name[name], head + rest, commit))
    return found


def finished(arms: list[Arm], revision: str) -> dict[str, str]:
    """The arms that are finished as they would be computed at a revision: name → commit of the experiment.

    An experiment counts if nothing that its arm depends on differs in its own commit, whichever revision it began from.
    """
    found = sorted(experiments_of(arms), key=lambda item: item.revision == revision)
    valid = {item.arm.name: item.commit for item in found if is_same(item.arm, item.commit, revision)}
    # What replays an arm counts while it acquired what that one has.
    sources = {arm.name: arm.chosen_by for arm in arms if arm.chosen_by}
    return {
        name: commit
        for name, commit in valid.items()
        if name not in sources
        or (sources[name] in valid and _params_of(commit, None)["replay"] == replay_of(valid[sources[name]]))
    }


def replay_of(commit: str) -> dict[str, Any]:
    """The block ``replay`` of params.yaml that acquires what the run of a commit acquired.

    Raises:
        BadInput: the commit has no finished run.
    """
    params = _params_of(commit, None)
    stages = parse(git("show", f"{commit}:dvc.lock") or "{}", f"dvc.lock of {commit}").get("stages", {})
    hashes = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    from lab.data import labelled  # here: pandas takes long on a cluster's login node

    paths = [labelled.path_of(cycle).as_posix() for cycle in range(len(params["cycles"]) + 1)]
    if missing := [path for path in paths if path not in hashes]:
        raise BadInput(f"{commit}: its dvc.lock has no {missing[0]}; name a run that is finished")
    # Who replays a run that is itself a replay trains the module as the first one did.
    strategy = params["replay"]["strategy"] if params["strategy"].startswith("replay") else params["strategy"]
    return {"dataset": params["dataset"], "strategy": strategy, "sets": [hashes[path] for path in paths]}


def is_run_of(arm: Arm, commit: str, revision: str, folder: Path | None = None) -> bool:
    """Whether an experiment is a run of an arm at a revision: it has the arm's settings, and all else as it is there.

    Args:
        commit: the experiment's own.
        folder: the repository or clone that has both, where it is not the current folder.
    """
    return _is_same(arm, _basis({}, commit, folder), _basis(arm.settings, revision, folder))


def is_same(arm: Arm, revision: str, other: str) -> bool:
    """Whether an arm computes the same at two revisions: by its stages, their code, and the params that it reads."""
    return revision == other or _is_same(arm, _basis(arm.settings, revision), _basis(arm.settings, other))


def _is_same(arm: Arm, basis: dict[str, dict], other: dict[str, dict]) -> bool:
    if arm.chosen_by:  # what it replays is known once that arm is finished
        del basis["params"]["replay"], other["params"]["replay"]
    return basis == other


def _basis(settings: dict[str, object], revision: str, folder: Path | None = None) -> dict[str, dict]:
    """What a result depends on: stages, params, and files of code with their hashes. Data follows from these."""
    params, stages = with_settings(_params_of(revision, folder), settings), _stages_of(revision, folder)
    hashes = _hashes_of(revision, folder)
    deps = {dep for stage in stages.values() for dep in stage.get("deps", [])}
    # Of the sources of data sets, which DVC knows as whole folders, the one that is chosen.
    source = params.get("datasets", {}).get(params.get("dataset"), {}).get("source")
    if SOURCES in deps:
        deps = deps - {SOURCES} | {f"{SOURCES}/{source}.py"}
        deps -= set() if source in OF_IMAGES else {IMAGES}
    # Labels that people gave, where they are asked.
    deps -= {str(answers.FOLDER)} if params.get("oracle") == HIDDEN else set()
    files = {"requirements.txt", *(Template(dep).safe_substitute(params) for dep in deps)}
    return {"stages": stages, "params": read_by(params), "files": {file: hashes.get(file) for file in files}}


@cache
def _params_of(commit: str, folder: Path | None) -> dict:
    return parse(git("show", f"{commit}:{PARAMS_FILE}", folder=folder))


@cache
def _hashes_of(commit: str, folder: Path | None) -> dict[str, str]:
    """The hashes of a commit's files and folders."""
    lines = git("ls-tree", "-r", "-t", "--full-tree", commit, folder=folder).splitlines()
    return {path: entry.split()[2] for entry, path in (line.split("\t") for line in lines)}


@cache
def _stages_of(commit: str, folder: Path | None) -> dict:
    """The stages of dvc.yaml that compute a result, without what shows it."""
    stages = parse(git("show", f"{commit}:dvc.yaml", folder=folder), "dvc.yaml")["stages"]
    flat = {name: stage | stage.get("do", {}) for name, stage in stages.items() if name not in WITHOUT_RESULT}
    return {name: {key: stage[key] for key in stage.keys() - SHOWN} for name, stage in flat.items()}


def newest(revisions: Iterable[str]) -> str:
    """The revision with the latest commit."""
    return git("rev-list", "--no-walk=sorted", *revisions).splitlines()[0]


def uncommitted(arms: list[Arm]) -> str:
    """The files that arms depend on and whose changes are not committed: no clone would see them."""
    sources = {"dvc.yaml", "params.yaml"}.union(*(_basis(arm.settings, "HEAD")["files"] for arm in arms))
    changed = git("status", "--porcelain", "--", *sources)
    return ", ".join(line.split(maxsplit=1)[1] for line in changed.splitlines())


def revision_to_run(arms: list[Arm], begun: str | None) -> str:
    """The revision that a study runs at: where it was begun while nothing that an arm depends on has changed since.

    Args:
        begun: the revision of its last run, where it was run.

    Raises:
        BadInput: sources have changes that are not committed, which no clone would see; or finished arms began from
            other sources.
    """
    head = git("rev-parse", "HEAD")
    if files := uncommitted(arms):
        raise BadInput(f"arms run in clones, which lack what is not committed: {files}; commit first")
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
