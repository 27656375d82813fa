"""What a query strategy is given to score."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.training.prediction import Predictions

Scores = NDArray[np.floating]


class Candidates(NamedTuple):
    """The unlabelled images that a strategy scores.

    indices: int64 (n,), absolute training-set indices.
    predict: runs the trained network over the candidates, in batches.
    generator: of this seed and cycle, for strategies that draw.
    """

    indices: NDArray[np.int64]
    predict: Callable[[], Predictions]
    generator: np.random.Generator
