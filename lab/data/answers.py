"""The labels that people give, one file a batch, kept in Git; and what follows of several answers about one image.

Below ``data/answers/<data set>``, ``audit.csv`` holds those of the test set, ``<cycle>.csv`` those of the images that a
cycle is the first to train on, and ``other.csv`` those of images that no batch asks about now. A row is an answer:

    image,md5,label,by,at,tool
    oak/0001.jpg,0cc1…,oak,anna,2026-11-29T12:00:00+00:00,Label Studio

``image`` is the path below the data set's folder, ``md5`` that of the file when it was asked about. ``label`` is a
class, ``skip`` or ``no class fits``.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from lab.data.files import write_text
from lab.data.images.lines import lines_of
from lab.errors import BadInput

FOLDER = Path("data/answers")
OTHER = "other"
SKIP, NO_CLASS = "skip", "no class fits"
# By which clocks of two machines may differ.
CLOCKS = timedelta(hours=1)


class Answer(NamedTuple):
    """What one person said of one image. at: ISO 8601, UTC. tool: what it was given with."""

    image: str
    md5: str
    label: str
    by: str
    at: str
    tool: str


def path_of(dataset: str, batch: str) -> Path:
    """The file of a batch: ``audit``, the number of the first cycle that trains on it, or ``other``."""
    return FOLDER / dataset / f"{batch}.csv"


def write(answers: Iterable[Answer], path: Path) -> None:
    """Write the answers, each once, in an order that does not depend on how they came."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Answer._fields)
    writer.writerows(sorted(set(answers)))
    write_text(path, text.getvalue())


def read(path: Path) -> list[Answer]:
    """The answers of a file; none where there is no file.

    Raises:
        BadInput: the file cannot be read, or a line is no answer.
    """
    return parse(lines_of(path), path) if path.exists() else []


def parse(lines: list[str], path: Path) -> list[Answer]:
    """As ``read``, of the lines of a file."""
    rows = list(csv.reader(lines))
    if not rows or tuple(rows[0]) != Answer._fields:
        raise BadInput(f"{path}, line 1: must be {','.join(Answer._fields)}; `git checkout {path}` brings it back")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(Answer._fields) or not all(row):
            raise BadInput(f"{path}, line {number}: must have {len(Answer._fields)} values; mend or remove the line")
    return [Answer(*row) for row in rows[1:]]


def time_of(text: object) -> str:
    """A time as answers have it: UTC, to the second, so that later ones sort behind.

    Raises:
        ValueError: it is no time, has no time zone, or is yet to come.
    """
    time = datetime.fromisoformat(str(text))
    if time.tzinfo is None:
        raise ValueError("no time zone")
    if time > datetime.now(UTC) + CLOCKS:
        raise ValueError("yet to come")
    return time.astimezone(UTC).isoformat(timespec="seconds")


def decide(answers: Iterable[Answer]) -> dict[str, str]:
    """What people decided of each image: a class, or ``no class fits``. Images that are not decided are left out.

    The label that most people give is taken; a tie, or nothing but ``skip``, decides nothing.
    """
    decided = {}
    for image, counts in votes(answers).items():
        first = counts.most_common(2)
        if first and (len(first) == 1 or first[0][1] > first[1][1]):
            decided[image] = first[0][0]
    return decided


def votes(answers: Iterable[Answer]) -> dict[str, Counter[str]]:
    """Of each image, how many people give which label. Of each person the last answer counts; ``skip`` is no vote."""
    last: dict[str, dict[str, str]] = {}
    for answer in sorted(answers, key=lambda answer: (answer.at, answer)):
        last.setdefault(answer.image, {})[answer.by] = answer.label
    return {image: Counter(label for label in said.values() if label != SKIP) for image, said in last.items()}
