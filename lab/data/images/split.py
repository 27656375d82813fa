"""A fixed test set among listed images: named by a file, or drawn as a share of each class."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from lab.data.images.lines import lines_of
from lab.errors import BadInput, nearest


def split(root: Path, labelled: list[tuple[str, str]], test: dict) -> list[tuple[str, str, str]]:
    """Path, label and split (train or test) of each image.

    Args:
        labelled: path below ``root`` and label of each image.
        test: ``{"file": …}``, a file with a path a line, found below ``root``; or ``{"share": …, "seed": …}``.

    Raises:
        BadInput: the file cannot be read, or names an image that is not listed.
    """
    held = _named(root / test["file"], [path for path, _ in labelled]) if "file" in test else _drawn(labelled, **test)
    return [(path, label, "test" if path in held else "train") for path, label in labelled]


def counts(files: list[tuple[str, str, str]]) -> tuple[int, int]:
    """How many training and test images there are. files: of ``split``."""
    test = sum(part == "test" for _, _, part in files)
    return len(files) - test, test


def _named(file: Path, paths: list[str]) -> set[str]:
    known, held = set(paths), set()
    for number, line in enumerate(lines_of(file), start=1):
        path = line.strip()
        if path and path not in known:
            raise BadInput(f"{file}, line {number}: {path!r} is no image of the data set{nearest(path, paths)}")
        held.add(path)
    return held


def _drawn(labelled: list[tuple[str, str]], share: float, seed: int) -> set[str]:
    """The share of each class, rounded, but at least one image. Files of another class do not change the draw."""
    of_class = defaultdict(list)
    for path, label in labelled:
        of_class[label].append(path)
    held: set[str] = set()
    for label, paths in of_class.items():
        paths.sort()
        draw = np.random.default_rng([seed, *label.encode()])
        held.update(np.array(paths)[draw.permutation(len(paths))[: max(1, round(share * len(paths)))]].tolist())
    return held
