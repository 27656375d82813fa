"""The labels that nobody has paid for: only a choice whose name says that it cheats sees them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
CHEATING = "cheating_"


def are_seen_by(choice: str) -> bool:
    """Whether a strategy, or a cold start, looks at hidden labels. choice: the name of its file."""
    return choice.startswith(CHEATING)


def labels_for(choice: str, labels: Labels) -> Callable[[NDArray[np.int64]], Labels]:
    """The labels of any images, for a choice that cheats.

    Args:
        labels: int64 (n,), of the whole training set.

    Raises:
        PermissionError: when called for another choice.
    """

    def look(indices: NDArray[np.int64]) -> Labels:
        if not are_seen_by(choice):
            raise PermissionError(f"{choice} looks at hidden labels: its name must begin with {CHEATING}")
        return labels[indices]

    return look
