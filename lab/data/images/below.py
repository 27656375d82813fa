"""The image files of a folder and of all folders below."""

import os
from collections.abc import Iterator
from pathlib import Path

from lab.errors import BadInput, reason

# What a name ends with that is taken for an image; other files are left alone, as the notes that people keep there.
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


def images_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The images of a folder and those below.

    Args:
        above: the folders that lead here, links resolved.

    Raises:
        BadInput: a link leads back, or leads nowhere that can be read.
    """
    here = folder.resolve()
    if here in above:
        raise BadInput(f"{folder}: a link that leads back to {here}, which it lies in; remove it")
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError as error:  # a link to itself, for one
            raise BadInput(f"{folder / entry.name}: cannot be followed, {reason(error)}; remove it") from error
        if is_folder:
            yield from images_below(folder / entry.name, (*above, here))
        elif entry.name.lower().endswith(IMAGES):
            yield folder / entry.name
