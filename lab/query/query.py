"""What a strategy is given, and what it answers: a batch of images to label next."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.query.selection import top_k
from lab.training.prediction import Predictions


class Batch(NamedTuple):
    """positions: int64 (k,), among the candidates, best first. scores: float (k,), of each.

    all_scores: float (n,), of every candidate, from a strategy that ranks them. For pictures: nothing is chosen by it.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.floating]
    all_scores: NDArray[np.floating] | None = None


class Query(NamedTuple):
    """What a strategy may ask. Images are absolute training-set indices, int64.

    k: how many to choose, at most as many as there are candidates. candidates: (n,), what it chooses among.
    labelled: (m,), in the order of acquisition. labels: int64 (m,), theirs. predict: runs the trained network over
    images. generator: of this seed and cycle. replayed: the labelled pool that another run had after this cycle.
    """

    k: int
    candidates: NDArray[np.int64]
    labelled: NDArray[np.int64]
    labels: NDArray[np.int64]
    predict: Callable[[NDArray[np.int64]], Predictions]
    generator: np.random.Generator
    replayed: Callable[[], pd.DataFrame]


def best(scores: NDArray[np.floating], k: int) -> Batch:
    """The k candidates with the highest scores; of equal ones the earlier.

    Raises:
        ValueError: a score is NaN.
    """
    positions = top_k(scores, k)
    return Batch(positions, scores[positions], scores)


def acquired_again(query: Query) -> Batch:
    """The images that the run which is replayed acquired after this cycle, in its order, with its scores."""
    acquired = query.replayed().tail(query.k)
    order = np.argsort(query.candidates)
    positions = order[np.searchsorted(query.candidates, acquired["index"], sorter=order)]
    return Batch(positions, acquired["score"].to_numpy())
