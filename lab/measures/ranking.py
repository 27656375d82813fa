"""How well a predicted loss ranks the true one (Yoo and Kweon, 2019, section 4.1.3, measure it by pairs)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import kendalltau, spearmanr


class RankQuality(NamedTuple):
    """spearman: rank correlation, −1 … 1. pair_accuracy: share of pairs in the right order, 0.5 by chance."""

    spearman: float | None
    pair_accuracy: float | None


def rank_quality(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> RankQuality:
    """Compare two orders of the same images. predicted, true: float (n,).

    Pair accuracy is (τ + 1) / 2 of Kendall's τ_b: where nothing is tied, the share of the n(n − 1)/2 pairs that
    are in the right order. Both are None where one side is constant, which has no order.
    """
    if np.ptp(predicted) == 0 or np.ptp(true) == 0:
        return RankQuality(None, None)
    return RankQuality(
        float(spearmanr(predicted, true).statistic), float((kendalltau(predicted, true).statistic + 1) / 2)
    )


def cross_entropy(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The loss of each image, in nats: −log softmax(logits)[label]. logits: (n, classes); labels: (n,)."""
    return -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
