"""A study's folder: the clones of its arms, their logs, and the last word of each on itself.

For an arm of name N: ``N/`` its clone, ``N.log``, ``N.lock`` held while it runs, ``N.state`` its last word.
``prefix-*`` say what was computed once for many arms, ``submissions/`` what SLURM was given.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from lab.process.ending import BadInput
from lab.study.experiments import git

# Begins the part of a log that is of one attempt.
ATTEMPT = "--- "


class Word(StrEnum):
    """What an arm last said of itself."""

    BEGUN = "begun"
    STOPPED = "stopped"
    FAILED = "failed"
    ENDED = "ended"


def of(study: Path) -> Path:
    """The folder of a study: in one that Git and DVC ignore, or on the disk that ``put_on`` was given."""
    return (Path(".dvc/tmp/study") / study.resolve().parent.name).resolve()


def put_on(study: Path, disk: Path) -> None:
    """Have a study's folder on another disk, by a link.

    Raises:
        BadInput: the study has a folder elsewhere, or the disk cannot be written.
    """
    here, root = Path(".dvc/tmp/study") / study.resolve().parent.name, Path.cwd().resolve()
    # Another clone of the repository has studies of the same names.
    there = disk / f"{root.name}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}" / here.name
    if here.exists() and here.resolve() != there.resolve():
        raise BadInput(
            f"{here.resolve()} holds what this study has computed so far, and scratch names {there}: "
            f"move it there and leave a link to it at {here}, or remove it where it is no more needed"
        )
    try:
        # DVC's settings, which may hold keys, are in every clone.
        there.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"scratch: {there} cannot be made ({error.strerror})") from error
    here.parent.mkdir(parents=True, exist_ok=True)
    if not here.exists():
        here.unlink(missing_ok=True)  # a link to a disk that was wiped
        here.symlink_to(there)


def revision_of(work: Path) -> str | None:
    """The revision that a study was last run at; None where it never was, or the commit is gone."""
    try:
        revision = (work / "revision").read_text()
        git("cat-file", "-e", revision)
    except (FileNotFoundError, BadInput):
        return None
    return revision


def keep_revision(work: Path, revision: str) -> None:
    """Keep the revision that a study is run at."""
    (work / "revision").write_text(revision)


@contextmanager
def in_use(study: Path) -> Iterator[None]:
    """Be the only one that runs a study.

    Raises:
        BadInput: another process does.
    """
    of(study).mkdir(parents=True, exist_ok=True)
    with open(of(study) / "study.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{study} is being run already, by another process") from None
        yield


def cycles_done(work: Path, name: str) -> int:
    """Cycles that an arm has finished in its clone."""
    return len(list((work / name / "metrics/cycles").glob("*.json")))


def word_of(work: Path, name: str) -> Word | None:
    """The last word of an arm; None where it has never begun."""
    try:
        return Word((work / f"{name}.state").read_text())
    except (FileNotFoundError, ValueError):
        return None


def prefix_mark(work: Path, prefix: str, revision: str) -> Path:
    """The file that is there once what arms share is computed. prefix: ``Arm.prefix``."""
    return work / f"prefix-{hashlib.sha256(f'{revision} {prefix}'.encode()).hexdigest()[:16]}"


@contextmanager
def saying(work: Path, name: str) -> Iterator[None]:
    """Keep what an arm says of itself around its work."""
    _say(work, name, Word.BEGUN)
    try:
        yield
    except SystemExit:
        _say(work, name, Word.STOPPED)
        raise
    except BaseException:
        _say(work, name, Word.FAILED)
        raise
    _say(work, name, Word.ENDED)


def is_held(work: Path, name: str) -> bool:
    """Whether an arm is at work, on this machine or another that shares the disk and its locks."""
    try:
        with open(work / f"{name}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def reason(work: Path, name: str) -> str:
    """The first error that an arm's last attempt logged, else its last line; and where the rest stands."""
    log = work / f"{name}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    begun = max((number for number, line in enumerate(lines) if line.startswith(ATTEMPT)), default=-1)
    lines = lines[begun + 1 :]
    errors = [line for line in lines if line.startswith(("error:", "ERROR:"))]
    return f"{(errors or lines[-1:] or ['nothing was printed'])[0]} ({log})"


def _say(work: Path, name: str, word: Word) -> None:
    part = work / f"{name}.state.part"
    part.write_text(word)
    os.replace(part, work / f"{name}.state")
