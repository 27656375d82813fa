"""What every data set is once it is read: images, labels and class names.

A label is the number of a class, or one of these.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Nobody has said it yet; people said that no class fits.
UNKNOWN, UNFIT = -1, -2


class Source(NamedTuple):
    """Where an image comes from. name: its path below the data set's folder. md5: of the file."""

    name: str
    md5: str


class Split(NamedTuple):
    """images: uint8 (n, size, size, 3), 0 … 255; labels: int64 (n,), 0 … classes − 1."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Dataset(NamedTuple):
    """pixels: of a side as the network sees images; None for all of the images'. sources: of train and test; None where
    images are no files.
    """

    train: Split
    test: Split
    classes: list[str]
    pixels: int | None = None
    sources: tuple[list[Source], list[Source]] | None = None


class Augmentation(NamedTuple):
    """How training images of this data set may be changed.

    flip: whether a mirror image shows the same class. smallest_crop: the least share of an image's area that a random
    crop keeps, where images are larger than ``lab.data.pixels.SMALL``; else crops are the protocol's.
    """

    flip: bool = True
    smallest_crop: float | None = None
