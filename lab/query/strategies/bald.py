"""BALD by Monte Carlo dropout: query where samples of the network agree least about an image.

H[mean of p] − mean of H[p] (Houlsby et al., 2011, equation 2), estimated by dropout (Gal, Islam and Ghahramani, 2017,
section 4). The networks here are trained without dropout, so it is put before the last linear layer alone, as Kirsch et
al. (2019) draw it: one mask a sample, the same for all images. A score then depends on no other image.

Works on embeddings. Cost: one pass over the pool; T · n · classes · features operations for T samples. Memory: the
embeddings, n scores, and chunks of bounded size.
"""

import numpy as np
from scipy.special import entr, softmax

from lab.query.query import Batch, Query, best

TRAINS_MODULE = False
PREDICTS_POOL = True

SAMPLES = 100
DROPPED = 0.5  # share of the features
CHUNK = 1024  # images at once: with ten classes, 8 MB of probabilities


def choose(query: Query) -> Batch:
    """Scores are mutual information of class and weights, float64, in nats."""
    (embeddings,) = query.predict(query.candidates, "embeddings")
    weight, bias = query.last_layer()
    kept = query.generator.random((SAMPLES, 1, weight.shape[1]), dtype=np.float32) >= DROPPED
    # Features that stay are scaled up, so that the mean logits are those without dropout.
    sampled = (kept * weight / np.float32(1 - DROPPED)).reshape(-1, weight.shape[1])
    scores = np.empty(len(embeddings))
    for start in range(0, len(embeddings), CHUNK):
        logits = (embeddings[start : start + CHUNK] @ sampled.T).reshape(-1, SAMPLES, len(bias)) + bias
        probabilities = softmax(logits.astype(np.float64), axis=2)
        disagreement = entr(probabilities.mean(axis=1)).sum(axis=1) - entr(probabilities).sum(axis=2).mean(axis=1)
        scores[start : start + CHUNK] = disagreement
    return best(scores, query.k)
