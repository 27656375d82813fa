"""What people decided, as cycles read it: a file a cycle, which holds the labels of all images asked about until then.

A row is an image: its index in the training set, or in the test set for ``audit.csv``; and its label, the number of a
class or ``UNFIT``. Where nobody is asked the files have no rows.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.data.dataset import UNKNOWN
from lab.data.files import write_text

HEADER = "index,label\n"
# The batch of the test set; those of training images are numbers, of the first cycle that trains on them.
AUDIT = "audit"


def path_of(batch: str) -> Path:
    """The file of the test set, ``audit``, or of a cycle."""
    return Path(f"data/answered/{batch}.csv")


def write(rows: Iterable[tuple[int, int]], batch: str) -> None:
    """Write index and label of each image."""
    write_text(path_of(batch), text_of(rows))


def text_of(rows: Iterable[tuple[int, int]]) -> str:
    """What ``write`` writes, in the order of the indices."""
    return HEADER + "".join(f"{index},{label}\n" for index, label in sorted(rows))


def labels(batch: str, count: int) -> NDArray[np.int64]:
    """The label of each of so many images, int64 (count,); ``UNKNOWN`` where people decided nothing."""
    found = np.full(count, UNKNOWN)
    for line in path_of(batch).read_text().splitlines()[1:]:
        index, label = line.split(",")
        found[int(index)] = int(label)
    return found
