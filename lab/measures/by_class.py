"""What accuracy hides where classes are unequal: each class by itself, and whether confidence can be believed."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

BINS = 15
# Of a cycle, beside its accuracy.
NAMES = ("balanced_accuracy", "macro_f1", "calibration_error")


def measures(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, float | list[float | None]]:
    """Measures of classified images.

    accuracy_by_class: of class c, the share of its images that are classified as c (its recall); None without images.
    balanced_accuracy: their mean over the classes that have images (Brodersen et al., 2010).
    macro_f1: the mean over these classes of F1 = 2·TP / (2·TP + FP + FN).
    calibration_error: as ``calibration_error`` has it.

    Args:
        logits: float (n, classes). labels: int64 (n,).
    """
    # Imported where it is used: stages that measure nothing should not wait for scikit-learn.
    from sklearn.metrics import f1_score, recall_score

    predicted, present = logits.argmax(axis=1), np.unique(labels)
    recall = recall_score(labels, predicted, labels=present, average=None)
    by_class = dict(zip(present.tolist(), np.asarray(recall).tolist(), strict=True))
    return {
        "balanced_accuracy": float(np.mean(recall)),
        "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro")),
        "calibration_error": calibration_error(logits, labels),
        "accuracy_by_class": [by_class.get(label) for label in range(logits.shape[1])],
    }


def calibration_error(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """How far the highest probability is from the accuracy, 0 … 1 (Guo et al., 2017, equation 3).

    Σ_b |B_b| / n · |accuracy(B_b) − confidence(B_b)|, where bin b holds the images whose highest probability lies in
    ((b − 1) / 15, b / 15].
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.ceil(confidence * BINS).astype(int)
    gaps = np.bincount(bins, correct - confidence, minlength=BINS + 1)
    return float(np.abs(gaps).sum() / len(labels))
