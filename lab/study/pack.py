"""A study as one file, to go on in a clone elsewhere. A tar.xz that holds

    pack.json                    which study, at which revision, which arms; the SHA-256 of every other member
    experiments.bundle           the commits of finished arms, as a Git bundle
    cache/                       their outputs, and those of the stages that other arms have finished; their run-cache
    arms/NAME/                   of an arm that is not finished: dvc.lock and metrics/costs.csv

Data are not in it, since every clone can prepare its own; nor checkpoints, which hold on their machine alone.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from dvc.utils import dict_sha256

from lab.data.files import replaced
from lab.errors import BadInput
from lab.params import parse
from lab.process.costs import LOG
from lab.study import experiments
from lab.study.arms import Arm
from lab.study.experiments import git, reference
from lab.study.run import folders
from lab.study.run.arm import cache_of
from lab.study.run.folders import LOCK

LIMIT = 16_000_000  # bytes
ABOUT, BUNDLE = "pack.json", "experiments.bundle"
# Outputs that are large, and the same wherever they are made; or that no later stage needs.
LEFT_OUT = ("data/raw", "data/prepared", "data/networks")
# Of a finished arm, the weights between its cycles are not needed if they are larger.
SMALL = 1_000_000  # bytes


class Member(NamedTuple):
    """A file of the pack. what: whose it is, for messages."""

    name: str
    content: bytes
    what: str


def write(study: Path, arms: list[Arm], revision: str, out: Path) -> str:
    """Write what is finished of a study. Returns what that is, in a line.

    Raises:
        BadInput: there is nothing, or it is too large; the message names what is large; or the study's file is not in
            the repository.
    """
    name, cache = name_of(study), cache_of(Path.cwd())
    begun = {item.commit: item.revision for item in experiments.experiments_of(arms)}
    commits = experiments.finished(arms, revision)
    members: list[Member] = []
    about: dict[str, dict] = {}
    cycles = 0
    for arm in arms:
        clone = folders.of(study) / arm.name
        if arm.name in commits:
            commit = commits[arm.name]
            lock = parse(git("show", f"{commit}:{LOCK}"), LOCK)
            members += _of_stages(arm.name, lock, cache, is_finished=True)
            about[arm.name] = {"options": arm.options, "ref": reference(arm.name, begun[commit]), "commit": commit}
        elif (found := folders.lock_of(clone))[0].get("stages"):
            lock, text = found
            cycles += cycles_in(lock)
            members += _of_stages(arm.name, lock, cache, is_finished=False)
            texts = {LOCK: text} | ({str(LOG): (clone / LOG).read_bytes()} if (clone / LOG).exists() else {})
            members += [Member(f"arms/{arm.name}/{name}", text, f"{arm.name}: {name}") for name, text in texts.items()]
            about[arm.name] = {"options": arm.options, "ref": None, "commit": None}
    if not about:
        raise BadInput(f"{study}: no arm has finished a stage; run it first: python -m lab.study run {study}")
    if commits:
        refs = [found["ref"] for found in about.values() if found["ref"]]
        members.append(Member(BUNDLE, _bundle(refs, [begun[commit] for commit in commits.values()]), "commits"))
    size = _write(out, members, {"study": name, "revision": revision, "arms": about})
    rest = len(about) - len(commits)
    return (
        f"{out}: {len(commits)} finished arms and {cycles} cycles of {rest} others, {size / 1e6:.2g} MB; elsewhere: "
        f"python -m lab.study unpack {study} {out.name}"
    )


def name_of(study: Path) -> str:
    """A study as every clone of the repository names it.

    Raises:
        BadInput: its file is not in the repository.
    """
    path = folders.in_repository(study)
    if path is None:
        raise BadInput(f"{study}: is not in {Path.cwd()}: other clones would not find it; move it there, and commit it")
    return path.as_posix()


def cycles_in(lock: dict) -> int:
    """The cycles that a dvc.lock has as finished."""
    return sum(stage.startswith("cycle@") for stage in lock["stages"])


def _of_stages(arm: str, lock: dict, cache: Path, *, is_finished: bool) -> Iterator[Member]:
    """The objects of the stages of a dvc.lock and, of an arm that is not finished, their entries of the run-cache."""
    for stage in lock.get("stages", {}).values():
        outs = [out for out in stage.get("outs", []) if not out["path"].startswith(LEFT_OUT)]
        for out in outs:
            for file in _objects(cache, out["md5"]):
                is_needed = not (is_finished and out["path"].startswith("data/carried"))
                if file.exists() and (is_needed or file.stat().st_size <= SMALL):
                    name = f"cache/{file.relative_to(cache).as_posix()}"
                    yield Member(name, file.read_bytes(), f"{arm}: {out['path']}")
        entry = cache / _entry_of(stage)
        if not is_finished and outs and entry.exists():
            yield Member(f"cache/{_entry_of(stage)}", entry.read_bytes(), f"{arm}: run-cache")


def _objects(cache: Path, md5: str) -> list[Path]:
    """The objects of an output: its own and, of a folder, those of its files."""
    file = _object(cache, md5)
    listed = json.loads(file.read_text()) if md5.endswith(".dir") and file.exists() else []
    return [file, *(_object(cache, part["md5"]) for part in listed)]


def _object(cache: Path, md5: str) -> Path:
    return cache / "files/md5" / md5[:2] / md5[2:]


def _entry_of(stage: dict) -> str:
    """Where DVC's run-cache keeps a stage of dvc.lock: by what goes in, and then by what comes out."""
    without = {"exclude": ["size", "nfiles"]}
    key = dict_sha256({**stage, "outs": [out["path"] for out in stage.get("outs", [])]}, **without)
    return f"runs/{key[:2]}/{key}/{dict_sha256(stage, **without)}"


def _bundle(refs: list[str], revisions: list[str]) -> bytes:
    """A Git bundle of experiments on top of the revisions that they began from."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / BUNDLE
        git("bundle", "create", "--quiet", str(file), *refs, "--not", *sorted(set(revisions)))
        return file.read_bytes()


def _write(out: Path, members: list[Member], about: dict) -> int:
    """Write the file. Returns its size in bytes."""
    files = {member.name: member for member in members}
    about["files"] = {name: hashlib.sha256(member.content).hexdigest() for name, member in files.items()}
    first = Member(ABOUT, json.dumps(about, indent=1).encode(), ABOUT)
    with replaced(out) as file:
        # One stream: a labelled set repeats its predecessor, and costs next to nothing behind it.
        with tarfile.open(fileobj=file, mode="w:xz") as archive:
            for member in (first, *files.values()):
                info = tarfile.TarInfo(member.name)
                info.size = len(member.content)
                archive.addfile(info, BytesIO(member.content))
        size = file.tell()
        if size >= LIMIT:
            largest = sorted(files.values(), key=lambda member: -len(member.content))[:3]
            named = ", ".join(f"{member.what} ({len(member.content) / 1e6:.1f} MB)" for member in largest)
            raise BadInput(
                f"{out}: would be {size / 1e6:.1f} MB, and {LIMIT / 1e6:.0f} are the limit; the largest before they "
                f"are compressed: {named}. Take a remote of DVC for it"
            )
    return size
