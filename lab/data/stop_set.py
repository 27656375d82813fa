"""Images whose predictions say whether more labels still change the network: the stop set.

Bloodgood and Vijay-Shanker (2009, section 3) compare successive networks on a sample of the pool. Each cycle writes
what its network predicts for it, and the next one reads that.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lab.data.files import write_array
from lab.seeds import Stream, generator_of

SIZE = 2000


def draw(pool: NDArray[np.int64]) -> NDArray[np.int64]:
    """Absolute training-set indices, ascending; the same for every run, whatever its seeds.

    Args:
        pool: all images that may be labelled; the whole of it where it has no more than ``SIZE``.
    """
    return np.sort(generator_of(Stream.STOP_SET, 0).choice(pool, min(SIZE, len(pool)), replace=False))


def path_of(cycle: int) -> Path:
    """The file that a cycle compares its predictions with."""
    return Path(f"data/stop_set/{cycle}.npy")


def write(predicted: NDArray[np.int64], cycle: int) -> None:
    """Write the predicted class of each image of the stop set, for a cycle to read; of none for the first."""
    write_array(path_of(cycle), predicted)


def read(cycle: int) -> NDArray[np.int64]:
    """int64 (n,), or (0,) for the first cycle."""
    return np.load(BytesIO(path_of(cycle).read_bytes()))
