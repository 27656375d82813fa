"""A folder of images that nobody has labelled yet; a block of ``datasets`` in params.yaml names it."""

import os
from pathlib import Path

from lab.data.dataset import Dataset
from lab.data.images import reading, table
from lab.data.images.below import images_below
from lab.data.images.split import counts, split
from lab.data.location import located
from lab.errors import BadInput, reason
from lab.host import Host


def fetch(raw: Path, host: Host, *, path: str, test: dict, classes: list[str], **_: object) -> None:
    """List the images with the hash of each; they stay where they are.

    Args:
        path: the folder. test: as ``split`` takes it; of these people are asked first. classes: that people can give.

    Raises:
        BadInput: there is no such folder, it has fewer than two images, a link leads back, or the test split is
            refused.
    """
    root = located(path)
    table.write(raw, host, root, split(root, listed(root), test), classes)


def read(raw: Path, host: Host, *, path: str, image_size: int, faults: str, **_: object) -> Dataset:
    """Decode them, as ``lab.data.images.reading.read`` does. All labels are ``UNKNOWN``."""
    return reading.read(raw, host, located(path), image_size, faults)


def count(*, path: str, test: dict, **_: object) -> tuple[int, int] | None:
    """How many training and test images there are, usable or not; None where the folder is not here."""
    root = located(path)
    return counts(split(root, listed(root), test)) if root.is_dir() else None


def listed(root: Path) -> list[tuple[str, str]]:
    """Path below the folder of each image, sorted, with an empty label.

    Raises:
        BadInput: as ``fetch`` says.
    """
    try:
        os.scandir(root).close()
    except OSError as error:
        raise BadInput(f"{root}: cannot be read, {reason(error)}; name a folder of images") from error
    found = [(file.relative_to(root).as_posix(), "") for file in sorted(images_below(root))]
    if len(found) < 2:
        raise BadInput(f"{root}: {len(found)} images in it; a training set and a test set need two or more")
    return found
