"""Whether successive networks agree (Bloodgood and Vijay-Shanker, 2009): where they do, more labels change little."""

import numpy as np
from numpy.typing import NDArray


def kappa(before: NDArray[np.int64], after: NDArray[np.int64]) -> float | None:
    """Cohen's kappa of two predictions for the same images, −1 … 1.

    (p_o − p_e) / (1 − p_e), with p_o the share of images on which both agree, and p_e what chance would give two that
    predict the classes as often as these. None without images, or where both predict one and the same class.

    Args:
        before, after: int64 (n,), predicted classes.
    """
    # Imported where it is used: stages that measure nothing should not wait for scikit-learn.
    from sklearn.metrics import cohen_kappa_score

    if len(np.union1d(before, after)) < 2:
        return None
    return float(cohen_kappa_score(before, after))
