"""Images and their labels from a table; a block of ``datasets`` in params.yaml names it."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from lab.data.dataset import Dataset
from lab.data.images import reading, table
from lab.data.images.lines import lines_of
from lab.data.images.split import counts, split
from lab.data.location import located
from lab.errors import BadInput, nearest
from lab.host import Host


def fetch(raw: Path, host: Host, *, path: str, test: dict, classes: list[str], **columns: Any) -> None:
    """List the images with the hash of each; they stay where they are.

    Args:
        path: the table. Paths in it begin in its folder.
        test: as ``split`` takes it.
        classes: the labels that there may be, in the order of the network's outputs.
        columns: separator, image and label, as ``listed`` takes them.

    Raises:
        BadInput: as ``listed`` does, or the test split is refused.
    """
    file = located(path)
    labelled = listed(file, classes, **columns)
    table.write(raw, host, file.parent, split(file.parent, labelled, test), classes)


def read(raw: Path, host: Host, *, path: str, image_size: int, faults: str, **_: object) -> Dataset:
    """Decode them, as ``lab.data.images.reading.read`` does."""
    return reading.read(raw, host, located(path).parent, image_size, faults)


def count(*, path: str, test: dict, classes: list[str], **columns: Any) -> tuple[int, int] | None:
    """How many training and test images there are, usable or not; None where the table is not here."""
    file = located(path)
    return counts(split(file.parent, listed(file, classes, **columns), test)) if file.is_file() else None


def listed(
    file: Path, classes: list[str], *, separator: str, image: str | int, label: str | int, **_: object
) -> list[tuple[str, str]]:
    """Path below the table's folder and class of each image, in the order of the table.

    Args:
        separator: between two columns; several spaces count as one.
        image, label: a column by its name in the first line; or by its number, from 1, in a table without names.

    Raises:
        BadInput: the table cannot be read, lacks a column, or has a line with a path outside its folder, an image that
            stands there before, no label, or a label that is no class.
    """
    rows = _rows(file, separator)
    where = [column - 1 if isinstance(column, int) else _column(file, rows, column) for column in (image, label)]
    if isinstance(image, str):
        rows = rows[1:]
    lines: dict[str, int] = {}
    found = []
    for number, row in rows:
        here = f"{file}, line {number}"
        if len(row) <= max(where):
            raise BadInput(f"{here}: {len(row)} columns, and column {max(where) + 1} is asked for; separator is wrong?")
        path, name = (row[column].strip() for column in where)
        normal = PurePosixPath(os.path.normpath(path))
        if not path or normal.is_absolute() or normal.parts[:1] in ((), ("..",)):
            is_where = "is absolute" if normal.is_absolute() else f"lies outside {file.parent}"
            raise BadInput(f"{here}: {path!r} {is_where}; paths begin in the table's folder, {file.parent}")
        if not name:
            raise BadInput(f"{here}: no label; remove the line, since every image needs one")
        if name not in classes:
            choices = f"choose from {', '.join(classes)}{nearest(name, classes)}"
            raise BadInput(f"{here}: the label {name!r} is no class; {choices}")
        if (first := lines.setdefault(str(normal), number)) != number:
            raise BadInput(f"{here}: {path} stands in line {first} too; remove one")
        found.append((str(normal), name))
    return found


def _rows(file: Path, separator: str) -> list[tuple[int, list[str]]]:
    """Line number and columns of each line that is not blank."""

    def read() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(lines_of(file), delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for row in reader:
                if any(row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise BadInput(f"{file}, line {reader.line_num}: no row of a table ({error})") from error

    rows = list(read())
    if not rows:
        raise BadInput(f"{file}: empty; it must have a line for each image")
    return rows


def _column(file: Path, rows: list[tuple[int, list[str]]], name: str) -> int:
    number, names = rows[0]
    names = [found.strip() for found in names]
    if name not in names:
        doubt = ", and nothing else: is the separator right?" if len(names) == 1 else nearest(name, names)
        raise BadInput(f"{file}, line {number}: no column {name!r}; it has {', '.join(names)}{doubt}")
    return names.index(name)
