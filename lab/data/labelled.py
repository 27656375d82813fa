"""The labelled pool: which training images have a label, when each got it, and on what score.

A labelled-index file is a CSV with a row an image, in the order of acquisition:

    index,cycle,score
    31337,0,
    4711,1,2.5

``index`` is the absolute position in the training set; ``cycle`` is the first cycle that trains on the
image, 0 for the cold start; ``score`` is its acquisition score, empty for the cold start, which has none.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from lab.data.files import write_text
from lab.errors import BadInput

FOLDER = Path("data/labelled")
COLUMNS = {"index": np.int64, "cycle": np.int64, "score": np.float64}


def path_of(cycle: int) -> Path:
    """The file that a cycle trains on."""
    return FOLDER / f"{cycle}.csv"


def cold_start(indices: np.ndarray) -> pd.DataFrame:
    """The first labelled pool. indices: int64 (n,)."""
    return pd.DataFrame({"index": indices, "cycle": 0, "score": np.nan})


def extend(pool: pd.DataFrame, indices: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """The pool with newly acquired images appended, as the next cycle will train on it.

    Args:
        pool: the labelled pool of this cycle.
        indices: int64 (k,), absolute training-set indices.
        scores: float (k,), their acquisition scores.
    """
    acquired = pd.DataFrame({"index": indices, "cycle": pool["cycle"].max() + 1, "score": scores})
    return pd.concat([pool, acquired], ignore_index=True)


def write(pool: pd.DataFrame, path: Path) -> None:
    """Write a labelled-index file; scores keep all their digits."""
    write_text(path, pool.to_csv(index=False, columns=list(COLUMNS)))


def read(path: Path) -> pd.DataFrame:
    """Read a labelled-index file: columns index and cycle (int64), score (float64).

    Raises:
        BadInput: the file is not of the form above.
    """
    try:
        pool = pd.read_csv(path, dtype=COLUMNS)
    except (ValueError, pd.errors.ParserError) as error:
        raise BadInput(f"{path}: not a labelled-index file ({error})") from error
    if list(pool.columns) != list(COLUMNS):
        raise BadInput(f"{path}: columns {', '.join(pool.columns)}; must be {', '.join(COLUMNS)}")
    return pool


def check_indices(pool: pd.DataFrame, path: Path, pool_size: float) -> None:
    """Refuse indices that are out of range or stand there twice.

    Raises:
        BadInput: naming the first such index.
    """
    outside = pool.loc[~pool["index"].between(0, pool_size - 1), "index"]
    if len(outside):
        raise BadInput(f"{path}: index {outside.iloc[0]} is out of range, the training set has {pool_size:,} images")
    twice = pool.loc[pool["index"].duplicated(), "index"]
    if len(twice):
        raise BadInput(f"{path}: index {twice.iloc[0]} is listed twice; {len(twice)} duplicates in all")


def check(pool: pd.DataFrame, path: Path, pool_size: int, acquired: list[int]) -> None:
    """Refuse a labelled pool that cannot be right.

    Args:
        path: where it was read, for the message.
        pool_size: images in the training set.
        acquired: images that the cold start and each query up to this pool's cycle acquired.

    Raises:
        BadInput: an index is listed twice or is out of range, or there are not as many images of
            each cycle as were acquired (the file is smaller than its predecessor, say).
    """
    check_indices(pool, path, pool_size)
    cycle = len(acquired) - 1
    expected = np.repeat(np.arange(cycle + 1), acquired)
    if len(pool) != len(expected):
        relation = "fewer" if len(pool) < len(expected) else "more"
        raise BadInput(
            f"{path}: {len(pool):,} images, {relation} than the {len(expected):,} of cycle {cycle} "
            f"({' + '.join(f'{count:,}' for count in acquired)}): it does not extend its predecessor"
        )
    if not np.array_equal(pool["cycle"], expected):
        raise BadInput(f"{path}: the images are not in the order of acquisition, cycle 0 to {cycle}")


def check_chain(pools: list[pd.DataFrame]) -> None:
    """Refuse a chain of labelled pools in which one does not begin with all of its predecessor.

    Raises:
        BadInput: naming the first cycle whose file lost or changed an image.
    """
    for cycle, (before, after) in enumerate(pairwise(pools), start=1):
        if not after.head(len(before)).equals(before):
            raise BadInput(f"{path_of(cycle)} does not begin with all images of {path_of(cycle - 1)}")
