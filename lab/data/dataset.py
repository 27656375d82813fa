"""What every data set is once it is read: images, labels and class names."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Split(NamedTuple):
    """images: uint8 (n, size, size, 3), 0 … 255; labels: int64 (n,), 0 … classes − 1."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Dataset(NamedTuple):
    train: Split
    test: Split
    classes: list[str]
