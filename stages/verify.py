"""Check that results are still what they were: python -m stages.verify [EXPERIMENT ...]

Reads every cached object of the current results and of the named experiments (branches, commits) again and
compares its hash with its name; DVC itself trusts what it has write-protected. Then checks the
labelled-index files: each begins with all of its predecessor, and all runs start from the same set.
"""

import hashlib
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dvc.repo import Repo

from stages import entry
from stages.data import labelled, prepared

WORKSPACE = "workspace"


class Cached(NamedTuple):
    """An object that a result needs in DVC's cache. hash: MD5, with the suffix .dir for a folder's list of files."""

    revision: str
    stage: str
    output: str
    hash: str
    file: Path


def main() -> None:
    parser = ArgumentParser(description="Check that results are still what they were.")
    parser.add_argument("experiments", nargs="*", help="experiments, branches or commits, beside the current results")
    revisions = [WORKSPACE, *parser.parse_args().experiments]
    faults, hashes, first_sets = [], set(), {}
    for revision in revisions:
        broken, files = False, {}
        for item in objects_of(revision):
            hashes.add(item.hash)
            files[item.output] = item
            fault = fault_of(item)
            if fault:
                broken = True
                faults.append(f"{revision}: {item.output} {fault} ({item.file})\n    repair: {repair_of(item)}")
        labels = files.get(str(prepared.FOLDER / "train_labels.npy"))
        if labels and not broken:
            faults += faults_of_the_chain(revision, files, len(np.load(labels.file)))
        first = files.get(str(labelled.path_of(0)))
        if first:
            first_sets[revision] = first.hash
    if len(set(first_sets.values())) > 1:
        named = ", ".join(f"{revision} {name[:8]}" for revision, name in first_sets.items())
        faults.append(f"the first labelled sets differ, so that these runs cannot be compared: {named}")
    print(f"{len(hashes)} cached objects of {', '.join(revisions)} read again")
    if faults:
        raise entry.BadInput("\n  ".join([f"{len(faults)} faults", *faults]))
    print("all are intact, and every labelled set extends its predecessor")


def objects_of(revision: str) -> Iterator[Cached]:
    """Every object that the outputs of a revision have in the cache.

    Raises:
        BadInput: there is no such revision.
    """
    try:
        repo = Repo(rev=None if revision == WORKSPACE else revision)
    except Exception as error:
        raise entry.BadInput(f"{revision}: no experiment, branch or commit of that name ({error})") from error
    with repo:
        cache = Path(repo.cache.local.path)
        for out in repo.index.outs:
            if not out.use_cache or not out.hash_info:
                continue
            root = repo.root_dir if revision == WORKSPACE else "/"
            name = str(Path(out.fs_path).relative_to(root))
            item = Cached(revision, out.stage.addressing, name, out.hash_info.value, _file(cache, out.hash_info.value))
            yield item
            if out.hash_info.isdir and not fault_of(item):
                for entry_ in json.loads(item.file.read_text()):
                    yield item._replace(
                        output=f"{name}/{entry_['relpath']}", hash=entry_["md5"], file=_file(cache, entry_["md5"])
                    )


def fault_of(item: Cached) -> str | None:
    """What is wrong with an object, or None."""
    if not item.file.exists():
        return "is missing from the cache"
    with open(item.file, "rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    return None if digest == item.hash.removesuffix(".dir") else "was changed in the cache"


def repair_of(item: Cached) -> str:
    """The command that brings an object back."""
    remove = f"rm -f {item.file} && "
    if item.revision != WORKSPACE:
        return remove + f"dvc fetch --all-commits; or, without a remote: git checkout {item.revision} && dvc repro"
    return remove + f"dvc repro --force --single-item {item.stage}"


def faults_of_the_chain(revision: str, files: dict[str, Cached], pool_size: int) -> Iterator[str]:
    """Faults of a revision's labelled-index files, read from the cache: form, range, duplicates, growth.

    Args:
        files: intact objects by their output.
        pool_size: images in the training set.
    """
    pools = []
    while (item := files.get(str(labelled.path_of(len(pools))))) is not None:
        try:
            pool = labelled.read(item.file)
            labelled.check_indices(pool, Path(item.output), pool_size)
        except entry.BadInput as error:
            yield f"{revision}: {error}"
            return
        pools.append(pool)
    try:
        labelled.check_chain(pools)
    except entry.BadInput as error:
        yield f"{revision}: {error}"


def _file(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]


if __name__ == "__main__":
    entry.run(main)
