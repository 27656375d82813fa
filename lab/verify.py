"""Check that results are still what they were: python -m lab.verify [EXPERIMENT ...]

Reads every cached object of the current results and of the named experiments (branches, commits) again and
compares its hash with its name; DVC itself trusts what it has write-protected. Then checks the
labelled-index files: each begins with all of its predecessor, and all named runs start from the same set.
"""

import csv
import hashlib
import json
import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import SCMError

from lab import params
from lab.data import answered, answers, labelled, prepared
from lab.data.dataset import Source
from lab.errors import BadInput
from lab.process import ending
from lab.query import oracle
from lab.study.experiments import git
from stages.answers import Known

WORKSPACE = "workspace"
MISSING, CHANGED = "is missing from the cache", "was changed in the cache"


class Cached(NamedTuple):
    """An object that a result needs in DVC's cache.

    revision, commit: whose result, as named and as Git knows it. hash: MD5, with the suffix .dir for a folder's
    list of files. file: the object.
    """

    revision: str
    commit: str
    stage: str
    output: str
    hash: str
    file: Path


def main() -> None:
    parser = ArgumentParser(description="Check that results are still what they were.")
    parser.add_argument("experiments", nargs="*", help="experiments, branches or commits, beside the current results")
    experiments = parser.parse_args().experiments
    faults, first_sets, hashes = [], {}, set()
    for revision in (WORKSPACE, *experiments):
        files = {item.output: item for item in objects_of(revision)}
        if not files and revision != WORKSPACE:
            faults.append(f"{revision}: has no finished stage")
        hashes |= {item.hash for item in files.values()}
        broken = {item.output: fault for item in files.values() if (fault := fault_of(item.file, item.hash))}
        for output, fault in broken.items():
            faults.append(f"{revision}: {output} {fault}\n    repair: {repair_of(files[output])}")
        intact = {output: item for output, item in files.items() if output not in broken}
        faults += [*faults_of_the_chain(revision, intact), *faults_of_the_answers(revision, intact)]
        if revision != WORKSPACE and str(labelled.path_of(0)) in files:
            first_sets[revision] = files[str(labelled.path_of(0))].hash
    if len(set(first_sets.values())) > 1:
        named = ", ".join(f"{revision} {name[:8]}" for revision, name in first_sets.items())
        faults.append(f"the first labelled sets differ, so that these runs cannot be compared: {named}")
    if not hashes:
        raise BadInput("there are no results to verify: no stage has been run here, and no experiment is named")
    print(f"{len(hashes)} cached objects of {', '.join((WORKSPACE, *experiments))} read again")
    if faults:
        raise BadInput("\n  ".join([f"{len(faults)} found", *faults, *advice(faults)]))
    print("all are intact, and every labelled set extends its predecessor")


def advice(faults: list[str]) -> list[str]:
    """What follows from faults beyond their repair."""
    lines = []
    if any(MISSING in fault for fault in faults):
        lines.append("A missing object is no wrong result: `dvc gc` removes it, `dvc pull` or its repair restores it")
    if any(CHANGED in fault for fault in faults):
        lines.append("What was computed from a changed object is wrong too: dvc repro --force --downstream STAGE")
    return lines


def objects_of(revision: str) -> Iterator[Cached]:
    """Every object that the outputs of a revision have in the cache.

    Raises:
        BadInput: there is no such revision, or DVC cannot read its files.
    """
    try:
        with Repo(rev=None if revision == WORKSPACE else revision) as repo:
            outs = [out for out in repo.index.outs if out.use_cache and out.hash_info]
            root = repo.root_dir if revision == WORKSPACE else "/"
            folder, commit = Path(repo.cache.local.path), repo.get_rev() if revision != WORKSPACE else ""
            for out in outs:
                name = str(Path(out.fs_path).relative_to(root))
                hash_ = out.hash_info.value
                item = Cached(revision, commit or "", out.stage.name, name, hash_, _file(folder, hash_))
                yield item
                if out.hash_info.isdir and not fault_of(item.file, item.hash):
                    for part in json.loads(item.file.read_text()):
                        md5 = part["md5"]
                        yield item._replace(output=f"{name}/{part['relpath']}", hash=md5, file=_file(folder, md5))
    except (DvcException, SCMError) as error:
        raise BadInput(f"{revision}: no experiment, branch or commit that DVC can read ({error})") from error


@cache
def fault_of(file: Path, expected: str) -> str | None:
    """What is wrong with an object, or None. expected: its MD5, with or without .dir."""
    try:
        with open(file, "rb") as opened:
            digest = hashlib.file_digest(opened, "md5").hexdigest()
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"cannot be read from the cache ({error.strerror})"
    return None if digest == expected.removesuffix(".dir") else CHANGED


def repair_of(item: Cached) -> str:
    """The command that brings an object back: by a copy that is still right, else by computing it again."""
    remove = f"rm -f {shlex.quote(str(item.file))} && "
    if Path(item.output).is_file() and not fault_of(Path(item.output), item.hash):
        return remove + f"install -D -m 444 {shlex.quote(item.output)} {shlex.quote(str(item.file))}"
    again = f"dvc repro --force --single-item {item.stage}"
    if item.revision == WORKSPACE:
        return remove + again
    tree = f".dvc/tmp/repair-{item.commit[:8]}"
    cache_folder = shlex.quote(str(item.file.parents[3]))
    return remove + (
        f"git worktree add --quiet --force --detach {tree} {item.commit} && (cd {tree} && "
        f"dvc cache dir --local {cache_folder} && dvc checkout --quiet --allow-missing && {again}) && "
        f"git worktree remove --force {tree}"
    )


def faults_of_the_chain(revision: str, files: dict[str, Cached]) -> Iterator[str]:
    """Faults of a revision's labelled-index files, read from the cache: form, range, duplicates, growth.

    Args:
        files: intact objects by their output.
    """
    labels = files.get(str(prepared.FOLDER / "train_labels.npy"))
    pool_size = len(np.load(labels.file)) if labels else np.inf
    pools: list = []
    while (item := files.get(str(labelled.path_of(len(pools))))) is not None:
        try:
            pool = labelled.read(item.file)
            labelled.check_indices(pool, Path(item.output), pool_size)
        except BadInput as error:
            yield f"{revision}: {error}"
            return
        pools.append(pool)
    try:
        labelled.check_chain(pools)
    except BadInput as error:
        # Of an earlier run, where a changed label let a cycle choose anew.
        yield f"{revision}: {error}" + ("; `dvc repro` makes it anew" if revision == WORKSPACE else "")


def faults_of_the_answers(revision: str, files: dict[str, Cached]) -> Iterator[str]:
    """Cycles and audit sets with other labels than the answers of people, as the revision has them, decide.

    Args:
        files: intact objects by their output.
    """

    statistics = files.get(str(prepared.FOLDER / "statistics.json"))
    test, train = (files.get(str(prepared.FOLDER / f"{split}_sources.csv")) for split in ("test", "train"))
    if statistics is None or test is None or train is None:
        return
    commit = statistics.commit

    @cache
    def text_of(path: Path) -> str:
        if revision == WORKSPACE:
            return path.read_text() if path.exists() else ""
        try:
            return git("show", f"{commit}:{path}") + "\n"
        except BadInput:
            return ""

    values = params.parse(text_of(params.PARAMS_FILE))
    if values.get("oracle") != oracle.PEOPLE:
        return
    classes, known = json.loads(statistics.file.read_text())["classes"], {}
    for split, item in (("test", test), ("train", train)):
        with open(item.file, newline="", encoding="utf-8") as file:
            known[split] = Known([Source(*row) for row in csv.reader(file)], classes, split)
    cure = "run `dvc repro`"
    if revision != WORKSPACE:
        cure = f"commit {answers.FOLDER}, or bring it back; if it is committed, {cure} and commit what it changes"
    batches = [str(cycle) for cycle, _ in values["cycles"]]
    asked = [("test", [answered.AUDIT]), *(("train", batches[: number + 1]) for number in range(len(batches)))]
    for split, names in asked:
        used = files.get(str(answered.path_of(names[-1])))
        if used is None:
            continue
        paths = [answers.path_of(values["dataset"], name) for name in names]
        try:
            given = {path: answers.parse(text_of(path).splitlines(), path) for path in paths if text_of(path)}
            is_right = answered.text_of(known[split].rows(given)) == used.file.read_text()
        except BadInput as error:
            yield f"{revision}: {error}"
            if split == "train":
                return  # later cycles would say the same
            continue
        if not is_right:
            who = "the audit set has" if split == "test" else f"cycle {names[-1]} used"
            yield f"{revision}: {who} other labels than those in {answers.FOLDER}; {cure}"


def _file(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


if __name__ == "__main__":
    ending.run(main)
