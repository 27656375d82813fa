"""What a cycle saw of images and epochs one by one, short enough to be kept: for pictures, which choose nothing."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lab.measures.ranking import cross_entropy
from lab.query.selection import top_k

SHOWN_LOSSES, SHOWN_IMAGES = 300, 16
DIGITS = 5


def confusion(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> list[list[int]]:
    """Images by their class, a row each, and by the class that is predicted. logits: (n, classes); labels: (n,)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).tolist()


def losses(
    logits: NDArray[np.floating], predicted: NDArray[np.floating] | None, labels: NDArray[np.int64]
) -> dict[str, list[float]]:
    """Predicted and true loss of some hundred images, spread evenly; of none without a module.

    Args:
        logits: (n, classes).
        predicted: (n,), what the module predicts; None without one.
        labels: (n,).
    """
    if predicted is None:
        return {"predicted": [], "true": []}
    spread = np.linspace(0, len(labels) - 1, min(SHOWN_LOSSES, len(labels))).astype(np.int64)
    return {"predicted": short(predicted[spread]), "true": short(cross_entropy(logits[spread], labels[spread]))}


def lowest(
    scores: NDArray[np.floating] | None, chosen: NDArray[np.int64], candidates: NDArray[np.int64]
) -> dict[str, list]:
    """The candidates with the lowest scores that were not chosen, lowest first; none where no scores rank them.

    Args:
        scores: (n,), of every candidate; None from a strategy that does not rank them.
        chosen: (k,), positions among the candidates.
        candidates: (n,), absolute indices.
    """
    if scores is None:
        return {"index": [], "score": []}
    left = np.setdiff1d(np.flatnonzero(np.isfinite(scores)), chosen)
    left = left[top_k(-scores[left], SHOWN_IMAGES)]
    return {"index": candidates[left].tolist(), "score": short(scores[left])}


def short(values: Iterable[float]) -> list[float]:
    """The values with the digits that a picture needs."""
    return [float(f"{value:.{DIGITS}g}") for value in values]
