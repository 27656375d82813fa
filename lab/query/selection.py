"""From scores to indices: the unlabelled pool, random subsets of it, and the top k."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def unlabelled(pool_size: int, labelled: Indices) -> Indices:
    """The remaining pool: absolute training-set indices, ascending.

    Args:
        pool_size: images in the training set.
        labelled: int64 (n,), absolute indices of the labelled images.
    """
    return np.setdiff1d(np.arange(pool_size), labelled, assume_unique=True)


def random_subset(pool: Indices, size: int, generator: np.random.Generator) -> Indices:
    """``size`` different members of the pool, all equally likely; all of it where it has no more."""
    return generator.choice(pool, min(size, len(pool)), replace=False)


def top_k(scores: NDArray[np.floating], k: int) -> Indices:
    """Positions of the k highest scores, highest first; of equal scores the earlier position wins.

    Args:
        scores: (n,), the acquisition scores.
        k: how many; all positions where there are no more than k.

    Returns:
        int64 (min(k, n),).

    Raises:
        ValueError: a score is NaN, which has no rank.
    """
    if np.isnan(scores).any():
        raise ValueError(f"{np.isnan(scores).sum()} of {len(scores)} acquisition scores are NaN")
    return np.argsort(-scores, kind="stable")[:k]
