"""Who says which class an image shows: the data set, whose labels are hidden until they are asked for, or people."""

import numpy as np
from numpy.typing import NDArray

from lab.data import answered, prepared
from lab.data.answered import AUDIT
from lab.data.dataset import UNKNOWN, Split
from lab.errors import BadInput

HIDDEN, PEOPLE = "hidden", "people"
ORACLES = (HIDDEN, PEOPLE)


def read_test(asked: str) -> Split:
    """The test set, with the labels of its oracle.

    Raises:
        BadInput: people have not labelled all of it.
    """
    split = prepared.read_split("test")
    return split._replace(labels=labels_of(split, asked, AUDIT, np.arange(len(split.labels))))


def labels_of(split: Split, asked: str, batch: str, needed: NDArray[np.int64]) -> NDArray[np.int64]:
    """The label of each image of a split, int64 (n,): those of the data set, or those that people gave.

    Args:
        asked: the oracle.
        batch: of the answers, the number of a cycle or ``audit``.
        needed: int64 (m,), indices of the images whose labels a cycle needs.

    Raises:
        BadInput: people have not labelled them all.
    """
    if asked == HIDDEN:
        return split.labels
    labels = answered.labels(batch, len(split.labels))
    if waiting := int((labels[needed] == UNKNOWN).sum()):
        what = "the audit set" if batch == AUDIT else f"the labelled set of cycle {batch}"
        raise BadInput(
            f"{what} waits for {waiting:,} of {len(needed):,} labels; `python -m lab.campaign` says what comes next"
        )
    return labels
