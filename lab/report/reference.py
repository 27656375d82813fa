"""Logistic regression on the pixels of a run's labelled images: what a network has to beat."""

from collections.abc import Callable, Iterable
from io import BytesIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from lab.data import labelled, prepared
from lab.data.dataset import Split
from lab.errors import BadInput


def of_run(read: Callable[[str], bytes], cycles: Iterable[int]) -> list[float]:
    """Its test accuracy on the labelled set of each cycle of a run. read: a file of the run, by its path.

    Raises:
        BadInput: the data set has no labels, as people gave them.
    """
    pools = [pd.read_csv(BytesIO(read(f"{labelled.path_of(cycle)}")))["index"].to_numpy() for cycle in cycles]
    train, test = (
        Split(*(np.load(BytesIO(read(f"{prepared.FOLDER / name}_{part}.npy"))) for part in Split._fields))
        for name in ("train", "test")
    )
    if (test.labels < 0).any():
        raise BadInput("people gave its labels")
    return accuracies(pools, train, test)


def accuracies(pools: list[NDArray[np.int64]], train: Split, test: Split) -> list[float]:
    """Test accuracy of a classifier a labelled set. pools: indices; the last set holds all others."""
    images, seen = _pixels(train.images[pools[-1]]), _pixels(test.images)
    # In the space that the labelled images span, the classifier is the same, on fewer numbers.
    _, lengths, axes = np.linalg.svd(images, full_matrices=False)
    axes = axes[lengths > 1e-6 * lengths[0]].T
    seen = seen @ axes
    found = []
    for pool in pools:
        labels = train.labels[pool]
        if np.ptp(labels) == 0:  # of one class: nothing to separate
            found.append(float(np.mean(test.labels == labels[0])))
            continue
        model = LogisticRegression(max_iter=1000).fit(_pixels(train.images[pool]) @ axes, labels)
        found.append(float(model.score(seen, test.labels)))
    return found


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The pixels of each image, 0 … 1: (n, height × width × channels)."""
    return images.reshape(len(images), -1) / 255
