"""Training images that are held out: no query sees them, and a search for settings is judged on them."""

import numpy as np
from numpy.typing import NDArray

from lab.seeds import Stream, generator_of


def held_out(count: int, pool_size: int) -> NDArray[np.int64]:
    """Absolute training-set indices, ascending; the same for every run, whatever its seeds.

    Args:
        count: how many, ``validation`` in params.yaml.
        pool_size: images in the training set.
    """
    draw = generator_of(Stream.VALIDATION, 0)
    return np.sort(draw.choice(pool_size, count, replace=False))


def pool(count: int, pool_size: int) -> NDArray[np.int64]:
    """The other training images, ascending."""
    return np.setdiff1d(np.arange(pool_size), held_out(count, pool_size), assume_unique=True)
