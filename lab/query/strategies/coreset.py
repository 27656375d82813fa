"""Core-set: query what lies farthest from all that is labelled (Sener and Savarese, 2018, algorithm 1).

K-centre greedy: each pick is the candidate whose nearest labelled or picked image is farthest.

Works on embeddings. Cost: one pass over the pool and the labelled set; (m + k) · n · features operations for m labelled
images. Memory: the embeddings, n distances, and chunks of bounded size.
"""

import numpy as np
from numpy.typing import NDArray

from lab.query.query import Batch, Query

TRAINS_MODULE = False
PREDICTS_POOL = True

CELLS = 2**22  # distances at once
# The share of ‖x‖² + ‖y‖² under which a squared distance is float32's rounding, and so is none.
ROUNDING = np.float32(1e-6)


def choose(query: Query) -> Batch:
    """Scores are distances to the nearest labelled or picked image at the time of the pick, float32."""
    (points,) = query.predict(np.concatenate([query.labelled, query.candidates]), "embeddings")
    norms = np.einsum("ij,ij->i", points, points)
    centres, centre_norms = points[: len(query.labelled)], norms[: len(query.labelled)]
    points, norms = points[len(query.labelled) :], norms[len(query.labelled) :]
    nearest = np.empty(len(points), dtype=np.float32)
    rows = max(1, CELLS // len(centres))
    for start in range(0, len(points), rows):
        part = slice(start, start + rows)
        nearest[part] = _squared(points[part] @ centres.T, norms[part, None], centre_norms).min(axis=1)

    positions, scores = np.empty(query.k, dtype=np.int64), np.empty(query.k, dtype=np.float32)
    for number in range(query.k):
        pick = nearest.argmax()
        positions[number], scores[number] = pick, np.sqrt(nearest[pick])
        np.minimum(nearest, _squared(points @ points[pick], norms, norms[pick]), out=nearest)
        nearest[pick] = -1
    return Batch(positions, scores)


def _squared(products: NDArray, norms: NDArray, others: NDArray) -> NDArray[np.float32]:
    """Squared distances, of scalar products and squared lengths."""
    lengths = norms + others
    squared = lengths - 2 * products
    squared[squared < ROUNDING * lengths] = 0
    return squared
