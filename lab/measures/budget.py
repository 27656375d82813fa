"""What a run of active learning is judged by (the paper, section 5).

Accuracies are shares, 0 … 1; labels are counts of labelled images, ascending; both are float (cycles,).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def label_efficiency(labels: ArrayLike, accuracy: ArrayLike) -> NDArray[np.float64]:
    """Accuracy gained over the cold-start cycle, per label beyond its labels (the paper, section 5, item 4).

    (Acc(t) − Acc(0)) / (B(t) − B(0)); NaN at t = 0, where it is undefined.
    """
    labels, accuracy = np.asarray(labels, dtype=float), np.asarray(accuracy, dtype=float)
    efficiency = np.full(len(labels), np.nan)
    efficiency[1:] = (accuracy[1:] - accuracy[0]) / (labels[1:] - labels[0])
    return efficiency


def area_under_budget_curve(labels: ArrayLike, accuracy: ArrayLike) -> float | None:
    """Mean accuracy over the budget: the trapezoidal area, divided by the budget's range.

    None for a single cycle, which spans no budget.
    """
    labels = np.asarray(labels, dtype=float)
    if len(labels) < 2:
        return None
    return float(np.trapezoid(np.asarray(accuracy, dtype=float), labels) / (labels[-1] - labels[0]))


def labels_to_reach(target: float, labels: ArrayLike, accuracy: ArrayLike) -> int | None:
    """Labels of the first cycle that is at least as accurate as the target; None where none is."""
    reached = np.flatnonzero(np.asarray(accuracy) >= target)
    return int(np.asarray(labels)[reached[0]]) if len(reached) else None
