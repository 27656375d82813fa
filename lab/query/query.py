"""What a strategy is given, and what it answers: a batch of images to label next."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab.query.selection import top_k
from lab.training.prediction import Output, Predictions


class Batch(NamedTuple):
    """positions: int64 (k,), among the candidates, best first. scores: float (k,), of each.

    all_scores: float (n,), of every candidate, from a strategy that ranks them. For pictures: nothing is chosen by it.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.floating]
    all_scores: NDArray[np.floating] | None = None


class Query(NamedTuple):
    """What a strategy may ask. Images are absolute training-set indices, int64.

    k: how many to choose, at most as many as there are candidates. candidates: (n,), what it chooses among.
    labelled: (m,), in the order of acquisition. labels: int64 (m,), theirs. run: runs the trained network over images,
    for the outputs that are named. last_layer: its weight, float32 (classes, features), and bias, (classes,), which
    make logits of embeddings. generator: of this seed and cycle. replayed: the labelled pool that another run had after
    this cycle. hidden_labels: those of any images, for strategies that cheat.
    """

    k: int
    candidates: NDArray[np.int64]
    labelled: NDArray[np.int64]
    labels: NDArray[np.int64]
    run: Callable[[NDArray[np.int64], Collection[Output]], Predictions]
    last_layer: Callable[[], tuple[NDArray[np.float32], NDArray[np.float32]]]
    generator: np.random.Generator
    replayed: Callable[[], pd.DataFrame]
    hidden_labels: Callable[[NDArray[np.int64]], NDArray[np.int64]]

    def predict(self, images: NDArray[np.int64], *outputs: Output) -> list[NDArray]:
        """What the trained network says of images: an array for each output that is named, from one pass.

        Args:
            outputs: ``probabilities``, float64 (n, classes); ``logits``, float32 (n, classes); ``embeddings``, float32
                (n, features), what the last linear layer is given; ``predicted_loss``, float32 (n,), with
                ``TRAINS_MODULE`` alone.

        Raises:
            ValueError: an output is no finite number.
        """
        found = self.run(images, outputs)
        arrays = [getattr(found, output) for output in outputs]
        for output, array in zip(outputs, arrays, strict=True):
            broken = ~np.isfinite(array.reshape(len(array), -1).sum(axis=1))
            if broken.any():
                raise ValueError(f"{output} of {broken.sum()} of {len(array)} images is NaN or infinite")
        return arrays


def best(scores: NDArray[np.floating], k: int) -> Batch:
    """The k candidates with the highest scores; of equal ones the earlier.

    Raises:
        ValueError: a score is NaN.
    """
    positions = top_k(scores, k)
    return Batch(positions, scores[positions], scores)


def acquired_again(query: Query) -> Batch:
    """The images that the run which is replayed acquired after this cycle, in its order, with its scores."""
    acquired = query.replayed().tail(query.k)
    order = np.argsort(query.candidates)
    positions = order[np.searchsorted(query.candidates, acquired["index"], sorter=order)]
    return Batch(positions, acquired["score"].to_numpy())
