"""A study's folder: the clones of its arms, their logs, and the last state that each arm recorded.

For an arm of name N: ``N/`` is its clone, ``N.log`` its log, ``N.lock`` is locked while it runs, ``N.state`` holds the
last state that it recorded. ``prefix-*`` mark what was computed once for several arms, ``submissions/`` holds what
SLURM was given.
"""

import fcntl
import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path

from lab.data.files import write_bytes
from lab.errors import BadInput
from lab.params import parse
from lab.study.experiments import git

STUDIES = Path(".dvc/tmp/study")
LOCK, EARLIER_LOCK = "dvc.lock", ".dvc/tmp/dvc.lock"
# Begins the part of a log that belongs to one attempt.
ATTEMPT = "--- "


class LastState(StrEnum):
    """What an arm last recorded. An arm that was killed has still STARTED."""

    STARTED = "started"
    STOPPED = "stopped"
    FAILED = "failed"
    ENDED = "ended"


def in_repository(study: Path) -> Path | None:
    """A study file as every clone of the repository names it; None outside of the repository."""
    path, here = study.resolve(), Path.cwd().resolve()
    return path.relative_to(here) if path.is_relative_to(here) else None


def of(study: Path) -> Path:
    """The folder of a study: one that Git and DVC ignore, or the one that it links to."""
    return _link_of(study).resolve()


def link_to_disk(study: Path, disk: Path) -> None:
    """Keep a study's folder on another disk, and link to it.

    Raises:
        BadInput: the study has a folder elsewhere, or the disk cannot be written.
    """
    here, root = _link_of(study), Path.cwd().resolve()
    # Another clone of the repository has studies of the same names.
    there = disk / f"{root.name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}" / here.name
    if here.exists() and here.resolve() != there.resolve():
        before, after = shlex.quote(str(here.resolve())), shlex.quote(str(there))
        raise BadInput(
            f"scratch: this study would be computed in {after}, but was begun in {before}. Move it: "
            f"mkdir -p {shlex.quote(str(there.parent))} && mv {before} {after} && ln -sfn {after} {here}. "
            f"Or start over: rm -r {before}"
        )
    try:
        # Every clone holds DVC's settings, which may contain keys.
        there.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"scratch: cannot create {there} ({error.strerror})") from error
    here.parent.mkdir(parents=True, exist_ok=True)
    if not here.exists():
        here.unlink(missing_ok=True)  # a link to a disk that was wiped
        here.symlink_to(there)


def revision_of(folder: Path) -> str | None:
    """The revision that a study last ran at; None if it never ran, or if the commit is gone."""
    try:
        revision = (folder / "revision").read_text()
        git("cat-file", "-e", revision)
    except (FileNotFoundError, BadInput):
        return None
    return revision


def keep_revision(folder: Path, revision: str) -> None:
    """Remember the revision that a study runs at."""
    (folder / "revision").write_text(revision)


@contextmanager
def in_use(study: Path) -> Iterator[None]:
    """Be the only process that runs a study.

    Raises:
        BadInput: another process runs it.
    """
    of(study).mkdir(parents=True, exist_ok=True)
    with open(of(study) / "study.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{study} is already running, in another process") from None
        yield


def cycles_of(folder: Path, name: str) -> list[Path]:
    """The history that an arm wrote after each finished cycle, in its clone."""
    return [file for file in (folder / name / "metrics/history").glob("*.json") if file.name != "0.json"]


def lock_of(tree: Path) -> tuple[dict, bytes]:
    """The stages that an arm has finished in its clone: the dvc.lock of this attempt, or of one that came further.

    Returns:
        what it holds, and its text; both empty where there is none.
    """
    found: list[tuple[dict, bytes]] = [({}, b"")]
    for file in (tree / LOCK, tree / EARLIER_LOCK):
        with suppress(OSError, ValueError):  # a kill can leave it half written
            text = file.read_bytes()
            found.append((parse(text.decode(), str(file)), text))
    return max(found, key=lambda lock: len(lock[0].get("stages") or {}))


def keep_lock(tree: Path) -> None:
    """Keep what ``lock_of`` finds: the next attempt begins a dvc.lock of its own, and may be stopped early."""
    _, text = lock_of(tree)
    if text:
        write_bytes(tree / EARLIER_LOCK, text)


def last_state_of(folder: Path, name: str) -> LastState | None:
    """The last state that an arm recorded; None if it never started."""
    try:
        return LastState((folder / f"{name}.state").read_text())
    except (FileNotFoundError, ValueError):
        return None


def prefix_mark(folder: Path, prefix: str, revision: str) -> Path:
    """The file that exists once the stages that arms share are done. prefix: ``Arm.prefix``."""
    return folder / f"prefix-{hashlib.sha256(f'{revision} {prefix}'.encode()).hexdigest()[:16]}"


@contextmanager
def recording_state(folder: Path, name: str) -> Iterator[None]:
    """Record the state of an arm while it runs and when it ends."""
    _record(folder, name, LastState.STARTED)
    try:
        yield
    except SystemExit:
        _record(folder, name, LastState.STOPPED)
        raise
    except BaseException:
        _record(folder, name, LastState.FAILED)
        raise
    _record(folder, name, LastState.ENDED)


def is_locked(folder: Path, name: str) -> bool:
    """Whether an arm is running, on this machine or on another that shares the disk and its locks."""
    try:
        with open(folder / f"{name}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def reason(folder: Path, name: str) -> str:
    """Why an arm failed: the first error in the log of its last attempt, or else the last line; and the log's path.

    The laboratory's own words go before DVC's.
    """
    log = folder / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    start = max((number for number, line in enumerate(lines) if line.startswith(ATTEMPT)), default=-1)
    lines = lines[start + 1 :]
    errors = [line for word in ("error:", "ERROR:") for line in lines if line.startswith(word)]
    return f"{(errors or lines[-1:] or ['nothing was printed'])[0]} ({log})"


def results_of(study: Path) -> Path:
    """Where the report of a study goes: results/ beside study.yaml, search/ beside search.yaml."""
    return study.parent / ("results" if study.stem == "study" else study.stem)


def _link_of(study: Path) -> Path:
    name = study.resolve().parent.name
    return STUDIES / (name if study.stem == "study" else f"{name}-{study.stem}")


def _record(folder: Path, name: str, state: LastState) -> None:
    part = folder / f"{name}.state.part"
    part.write_text(state)
    os.replace(part, folder / f"{name}.state")
