"""What a cold start is given: there is no network to ask yet, only images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class First(NamedTuple):
    """What a cold start may look at. It answers with k different members of the pool, int64 (k,).

    k: how many to choose. pool: absolute training-set indices, int64 (n,). images: uint8 (training set, size, size, 3),
    memory-mapped. generator: of this seed. hidden_labels: those of any images, for cold starts that cheat.
    """

    k: int
    pool: NDArray[np.int64]
    images: NDArray[np.uint8]
    generator: np.random.Generator
    hidden_labels: Callable[[NDArray[np.int64]], NDArray[np.int64]]
