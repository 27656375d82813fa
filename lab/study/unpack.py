"""Take over what ``lab.study.pack`` wrote elsewhere. Nothing is written before all of it has been verified."""

import hashlib
import re
import tarfile
from lzma import LZMAError
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

from pydantic import Field, ValidationError

from lab.data.files import write_bytes
from lab.errors import BadInput
from lab.params import parse
from lab.process.costs import LOG
from lab.process.schema import Block
from lab.study import experiments
from lab.study.arms import Arm
from lab.study.experiments import git
from lab.study.pack import ABOUT, BUNDLE, cycles_in, name_of
from lab.study.run import arm as run_arm
from lab.study.run import folders
from lab.study.run.folders import LOCK

MOST = 2_000_000_000  # bytes, unpacked: a small file can hold endless zeros
# No other name can leave the folders that it is for.
OBJECT = re.compile(r"cache/files/md5/([0-9a-f]{2})/([0-9a-f]{30})(\.dir)?")
ENTRY = re.compile(r"cache/runs/([0-9a-f]{2})/\1[0-9a-f]{62}/[0-9a-f]{64}")
OF_ARM = re.compile(rf"arms/([^/]+)/({re.escape(LOCK)}|{re.escape(str(LOG))})")


# Git would take other texts for options.
_Commit = Annotated[str, Field(pattern="^[0-9a-f]{40,64}$")]
_Reference = Annotated[str, Field(pattern="^refs/exps/[0-9a-f]{2}/[0-9a-f]{38,62}/[^/:]+$")]


class _Arm(Block):
    options: list[str]
    ref: _Reference | None
    commit: _Commit | None


class _About(Block):
    study: str
    revision: _Commit
    arms: dict[str, _Arm]
    files: dict[str, str]


class Pack(NamedTuple):
    """A pack that was verified. members: name → content."""

    about: _About
    members: dict[str, bytes]


def read(file: Path, study: Path, arms: list[Arm]) -> Pack:
    """Read and verify a pack; write nothing.

    Raises:
        BadInput: it is damaged, or of another study or commit, or holds what no pack does.
    """
    pack = _read(file)
    about, by_name = pack.about, {arm.name: arm for arm in arms}
    if about.study != (name := name_of(study)):
        raise BadInput(f"{file}: is a pack of {about.study}, and not of {name}")
    for name, found in about.arms.items():
        if name not in by_name or found.options != by_name[name].options:
            raise BadInput(f"{file}: has an arm {name} that {study} does not have here, or has with other settings")
    for name, content in pack.members.items():
        _check_member(file, name, content, by_name)
    try:
        git("cat-file", "-e", f"{about.revision}^{{commit}}")
    except BadInput:
        raise BadInput(f"{file}: was run at {about.revision}, a commit that this clone lacks: fetch it first") from None
    head = git("rev-parse", "HEAD")
    if others := [arm.name for arm in arms if not experiments.is_same(arm, about.revision, head)]:
        raise BadInput(
            f"{file}: was run at {about.revision[:9]}, and what {others[0]} depends on is another here. To go on: "
            f"git checkout {about.revision[:9]}"
        )
    with TemporaryDirectory() as folder:
        _fetch(file, pack, by_name, Path(folder))
    return pack


def take_over(pack: Pack, study: Path, arms: list[Arm]) -> str:
    """Write a verified pack into this clone, beside what is finished here. Returns what there is now, in a line."""
    about, repository, folder = pack.about, Path.cwd(), folders.of(study)
    finished = experiments.finished(arms, about.revision)
    cache = run_arm.cache_of(repository)
    for name, content in pack.members.items():
        path = cache / name.removeprefix("cache/")
        if name.startswith("cache/") and not path.exists():
            write_bytes(path, content)
            if OBJECT.fullmatch(name):
                path.chmod(0o444)  # as DVC protects what it caches
    begun = [name for name, found in about.arms.items() if not found.ref and name not in finished]
    for name in begun:
        _begin(folder / name, repository, about.revision, pack.members, f"arms/{name}/")
    new = {found.ref for name, found in about.arms.items() if found.ref and name not in finished}
    if new:
        with TemporaryDirectory() as quarantine:
            # Last: what has an experiment counts as finished.
            git("fetch", "--quiet", _bundle_in(pack, Path(quarantine)), *(f"{ref}:{ref}" for ref in sorted(new)))
    folders.keep_revision(folder, about.revision)
    cycles = sum(cycles_in(parse(pack.members[f"arms/{name}/{LOCK}"].decode(), LOCK)) for name in begun)
    return (
        f"{len(new)} finished arms came, {len(finished)} were here; {cycles} cycles of {len(begun)} others came; "
        f"go on: python -m lab.study run {study}"
    )


def _read(file: Path) -> Pack:
    try:
        with tarfile.open(file, "r:xz") as archive:
            members, size = {}, 0
            for member in archive:
                size += member.size
                if size > MOST or not member.isfile() or not (content := archive.extractfile(member)):
                    raise BadInput(f"{file}: holds {member.name!r}, which no pack does")
                members[member.name] = content.read()
        about = _About.model_validate_json(members.pop(ABOUT))
    except (tarfile.TarError, EOFError, LZMAError) as error:
        raise BadInput(f"{file}: is truncated, or no pack ({error})") from error
    except (KeyError, ValidationError) as error:
        raise BadInput(f"{file}: is no pack, its {ABOUT} is missing or another's") from error
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    if wrong := sorted(name for name, _ in hashes.items() ^ about.files.items()):
        raise BadInput(f"{file}: {wrong[0]!r} is missing, or its SHA-256 differs from that of {ABOUT}")
    return Pack(about, members)


def _check_member(file: Path, name: str, content: bytes, arms: dict[str, Arm]) -> None:
    if found := OBJECT.fullmatch(name):
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != found[1] + found[2]:
            raise BadInput(f"{file}: {name} is damaged, its MD5 is not its name")
    elif not (name == BUNDLE or ENTRY.fullmatch(name) or ((found := OF_ARM.fullmatch(name)) and found[1] in arms)):
        raise BadInput(f"{file}: holds {name!r}, which no pack does")


def _fetch(file: Path, pack: Pack, arms: dict[str, Arm], folder: Path) -> None:
    """Fetch the experiments into a repository of their own, and look at them there."""
    expected = {name: found for name, found in pack.about.arms.items() if found.ref or found.commit}
    if not expected:
        return
    try:
        bundle = _bundle_in(pack, folder)
        quarantine = folder / "quarantine"
        git("clone", "--quiet", "--bare", "--shared", str(Path.cwd()), str(quarantine))
        refs = [f"{found.ref}:{found.ref}" for found in expected.values()]
        git("-c", "fetch.fsckObjects=true", "fetch", "--quiet", bundle, *refs, folder=quarantine)
    except (BadInput, KeyError) as error:
        raise BadInput(f"{file}: its experiments cannot be fetched: {error}") from error
    for name, found in expected.items():
        *_, head, rest, last = f"{found.ref}".split("/")
        if (last, git("rev-parse", f"{found.ref}", folder=quarantine)) != (name, found.commit) or not (
            experiments.is_run_of(arms[name], f"{found.commit}", head + rest, quarantine)
        ):
            raise BadInput(f"{file}: the experiment {name} is no run of that arm")


def _bundle_in(pack: Pack, folder: Path) -> str:
    """The bundle as a file of a folder."""
    write_bytes(folder / BUNDLE, pack.members[BUNDLE])
    return str(folder / BUNDLE)


def _begin(tree: Path, repository: Path, revision: str, members: dict[str, bytes], prefix: str) -> None:
    """Make the clone of an arm as it was elsewhere, but for outputs and checkpoints; or add to one that is there."""
    if not tree.exists():
        run_arm.clone(repository, revision, tree)
        write_bytes(tree / LOCK, members[prefix + LOCK])
    costs = tree / LOG
    here = costs.read_bytes().splitlines(keepends=True) if costs.exists() else []
    there = members.get(f"{prefix}{LOG}", b"").splitlines(keepends=True)
    write_bytes(costs, *here, *(line for line in there if line not in here))
