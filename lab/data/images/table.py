"""The image files of a data set as a table of hashes: they enter DVC's lineage by content, and stay where they are."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lab.data.files import write_json, write_text
from lab.data.images.cores import on_all_cores
from lab.host import Host

FILES, CLASSES = "files.csv", "classes.json"


class File(NamedTuple):
    """path: below the data set's folder. label: a class. split: train or test. md5: empty where nobody can read it."""

    path: str
    label: str
    split: str
    md5: str


def write(raw: Path, host: Host, root: Path, files: list[tuple[str, str, str]], classes: list[str]) -> None:
    """Write the table, with the hash of each file's content.

    Args:
        files: path below ``root``, label and split of each.
    """

    def row(file: tuple[str, str, str]) -> File:
        return File(*file, md5_of(root / file[0]))

    bar = host.progress("reading", len(files), "files")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(File._fields)
    for found in on_all_cores(row, files):
        writer.writerow(found)
        bar.update()
    write_text(raw / FILES, text.getvalue())
    write_json(raw / CLASSES, classes)


def read(raw: Path) -> tuple[list[File], list[str]]:
    """The files and the classes that ``write`` wrote."""
    with open(raw / FILES, newline="", encoding="utf-8") as file:
        rows: Iterator[list[str]] = csv.reader(file)
        next(rows)
        return [File(*row) for row in rows], json.loads((raw / CLASSES).read_text())


def md5_of(path: Path) -> str:
    """The hash of a file's content; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    except OSError:
        return ""
