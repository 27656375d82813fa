"""The labels that people give, one file a batch, kept in Git; and what follows of several answers about one image.

``data/answers/audit.csv`` holds those of the test set, ``data/answers/<cycle>.csv`` those of the images that a cycle is
the first to train on. A row is an answer:

    image,md5,label,by,at,tool
    oak/0001.jpg,0cc1…,oak,anna,2026-11-29T12:00:00+00:00,Label Studio

``image`` is the path below the data set's folder, ``md5`` that of the file when it was asked about. ``label`` is a
class, ``skip`` or ``no class fits``.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lab.data.files import write_text
from lab.data.images.lines import lines_of
from lab.errors import BadInput

FOLDER = Path("data/answers")
SKIP, NO_CLASS = "skip", "no class fits"


class Answer(NamedTuple):
    """What one person said of one image. at: ISO 8601, UTC. tool: what it was given with."""

    image: str
    md5: str
    label: str
    by: str
    at: str
    tool: str


def path_of(batch: str) -> Path:
    """The file of a batch: ``audit``, or the number of the first cycle that trains on it."""
    return FOLDER / f"{batch}.csv"


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
    if not path.exists():
        return []
    rows = list(csv.reader(lines_of(path)))
    if not rows or tuple(rows[0]) != Answer._fields:
        raise BadInput(f"{path}, line 1: must be {','.join(Answer._fields)}; `git checkout {path}` brings it back")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(Answer._fields) or not all(row):
            raise BadInput(f"{path}, line {number}: must have {len(Answer._fields)} values; mend or remove the line")
    return [Answer(*row) for row in rows[1:]]


def decide(answers: Iterable[Answer]) -> dict[str, str]:
    """What people decided of each image: a class, or ``no class fits``. Images that are not decided are left out.

    Of each person the last answer counts. The label that most give is taken; a tie, or nothing but ``skip``, decides
    nothing.
    """
    last: dict[str, dict[str, str]] = {}
    for answer in sorted(answers, key=lambda answer: answer.at):
        last.setdefault(answer.image, {})[answer.by] = answer.label
    decided = {}
    for image, by_person in last.items():
        votes = Counter(label for label in by_person.values() if label != SKIP).most_common(2)
        if votes and (len(votes) == 1 or votes[0][1] > votes[1][1]):
            decided[image] = votes[0][0]
    return decided
