"""Query the images whose predicted classes have the highest entropy (Shannon, 1948; Settles, 2009, section 3.1).

Works on probabilities. Cost: one pass over the pool; n log n to sort.
"""

from scipy.special import entr

from lab.query.query import Batch, Query, best

TRAINS_MODULE = False
PREDICTS_POOL = True


def choose(query: Query) -> Batch:
    """Scores are −Σ p ln p, float64, in nats."""
    (probabilities,) = query.predict(query.candidates, "probabilities")
    return best(entr(probabilities).sum(axis=1), query.k)
