"""How far an accuracy may be from the true one because few images were judged."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

Floats = NDArray[np.float64]


def interval(accuracy: ArrayLike, images: ArrayLike) -> tuple[Floats, Floats]:
    """Ends of the 95 % interval of accuracies that were each measured on so many images (Wilson, 1927).

    It covers the draw of the images, not the luck of training: another seed may lie outside.

    Args:
        accuracy, images: (n,), or a number each. NaN where images is.
    """
    accuracy, images = np.asarray(accuracy, dtype=float), np.asarray(images, dtype=float)
    middle = accuracy + Z**2 / (2 * images)
    half = Z * np.sqrt(accuracy * (1 - accuracy) / images + (Z / (2 * images)) ** 2)
    whole = 1 + Z**2 / images
    # Rounding must not put an end on the wrong side of the accuracy.
    return np.minimum((middle - half) / whole, accuracy), np.maximum((middle + half) / whole, accuracy)
