"""Query strategies: what each unlabelled image is worth. Choosing by score is ``selection``'s job.

A new strategy is one function from ``Candidates`` to scores and one row of ``STRATEGIES``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.training.prediction import Predictions

Scores = NDArray[np.floating]


class Candidates(NamedTuple):
    """The images that a strategy scores.

    indices: int64 (n,), absolute training-set indices.
    predict: runs the trained network over the candidates, in batches.
    generator: of this seed and cycle, for strategies that draw.
    """

    indices: NDArray[np.int64]
    predict: Callable[[], Predictions]
    generator: np.random.Generator


class Strategy(NamedTuple):
    """score: a score a candidate, (n,), highest queried first. trains_module: with loss prediction."""

    score: Callable[[Candidates], Scores]
    trains_module: bool


def loss_prediction(candidates: Candidates) -> Scores:
    """The loss that the module predicts (the paper, section 4.5; Yoo and Kweon, 2019, section 3.2)."""
    return candidates.predict().predicted_loss


def random(candidates: Candidates) -> Scores:
    """Uniform on 0 … 1: the control."""
    return candidates.generator.random(len(candidates.indices))


STRATEGIES = {
    "loss_prediction": Strategy(loss_prediction, trains_module=True),
    "random": Strategy(random, trains_module=True),
    # Without the module its gradient does not shape the network either: the two random arms tell
    # what loss prediction gains by its queries from what it gains as an auxiliary task.
    "random_without_module": Strategy(random, trains_module=False),
}
