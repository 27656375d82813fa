"""A folder of images with a folder for each class; a block of ``datasets`` in params.yaml names it."""

import os
from pathlib import Path

from lab.data.dataset import Dataset
from lab.data.images import reading, table
from lab.data.images.below import images_below
from lab.data.images.split import counts, split
from lab.data.location import located
from lab.errors import BadInput, reason
from lab.host import Host


def fetch(raw: Path, host: Host, *, path: str, test: dict, **_: object) -> None:
    """List the images with the hash of each; they stay where they are.

    Args:
        path: the folder. test: as ``split`` takes it.

    Raises:
        BadInput: there is no such folder, it has fewer than two classes, two of them differ in case alone, a link
            leads back, or the test split is refused.
    """
    root = located(path)
    labelled, classes = listed(root)
    table.write(raw, host, root, split(root, labelled, test), classes)


def read(raw: Path, host: Host, *, path: str, image_size: int, faults: str, **_: object) -> Dataset:
    """Decode them, as ``lab.data.images.reading.read`` does."""
    return reading.read(raw, host, located(path), image_size, faults)


def count(*, path: str, test: dict, **_: object) -> tuple[int, int] | None:
    """How many training and test images there are, usable or not; None where the folder is not here."""
    root = located(path)
    return counts(split(root, listed(root)[0], test)) if root.is_dir() else None


def listed(root: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Path below the folder and class of each image, sorted; and the classes.

    Raises:
        BadInput: as ``fetch`` says.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise BadInput(f"{root}: cannot be read, {reason(error)}; name a folder that has one for each class") from error
    if len(classes) < 2:
        raise BadInput(f"{root}: {len(classes)} folders in it; it must have one for each class, two or more")
    folded: dict[str, str] = {}
    for name in classes:
        if (other := folded.setdefault(name.casefold(), name)) != name:
            raise BadInput(f"{root}: the classes {other!r} and {name!r} differ in case alone; rename or merge them")
    found = [
        (file.relative_to(root).as_posix(), name)
        for name in classes
        for file in sorted(images_below(root / name, (root.resolve(),)))
    ]
    return found, classes
