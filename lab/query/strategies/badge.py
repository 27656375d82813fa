"""BADGE: query a diverse batch of images with large gradients (Ash et al., 2020, algorithm 1).

The gradient embedding of an image is a ⊗ h (equation 1): h is the embedding, a the probabilities less 1 at the
predicted class. Images are drawn as k-means++ seeds are (Arthur and Vassilvitskii, 2007): the first is that of the
largest gradient, as in the authors' code, each other in proportion to its squared distance to the nearest before it.

Outer products are never formed: ‖a⊗h − b⊗g‖² = ‖a‖²‖h‖² + ‖b‖²‖g‖² − 2 (a·b)(h·g).

Works on embeddings and probabilities. Cost: one pass over the pool; k · n · (features + classes) operations. Memory:
the embeddings, and a few numbers an image.
"""

import numpy as np

from lab.query.query import Batch, Query

TRAINS_MODULE = False
PREDICTS_POOL = True

# The share of the squared lengths under which a squared distance is float32's rounding, and so is none.
ROUNDING = np.float32(1e-6)


def choose(query: Query) -> Batch:
    """Scores are squared distances to the nearest gradient drawn before, float32; the first one's is ‖a⊗h‖²."""
    h, errors = query.predict(query.candidates, "embeddings", "probabilities")
    errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
    a = errors.astype(np.float32)
    norms = np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", h, h)

    positions, scores = np.empty(query.k, dtype=np.int64), np.empty(query.k, dtype=np.float32)
    nearest, left = np.full(len(h), np.inf, dtype=np.float32), np.ones(len(h), dtype=bool)
    for number in range(query.k):
        cumulative = np.cumsum(nearest, dtype=np.float64)
        if number == 0:
            pick = norms.argmax()
        elif cumulative[-1] > 0:
            pick = np.searchsorted(cumulative / cumulative[-1], query.generator.random(), side="right")
        else:
            pick = left.argmax()  # all that are left have gradients that were drawn: the earliest
        positions[number], scores[number] = pick, nearest[pick] if number else norms[pick]
        lengths = norms + norms[pick]
        squared = lengths - 2 * (a @ a[pick]) * (h @ h[pick])
        squared[squared < ROUNDING * lengths] = 0
        np.minimum(nearest, squared, out=nearest)
        left[pick], nearest[pick] = False, 0
    return Batch(positions, scores)
