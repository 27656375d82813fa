"""Query the images whose most probable class is the least probable (Lewis and Gale, 1994; Settles, 2009, section 3.1).

Works on probabilities. Cost: one pass over the pool; n log n to sort.
"""

from lab.query.query import Batch, Query, best

TRAINS_MODULE = False
PREDICTS_POOL = True


def choose(query: Query) -> Batch:
    """Scores are 1 − max p, float64, 0 … 1."""
    (probabilities,) = query.predict(query.candidates, "probabilities")
    return best(1 - probabilities.max(axis=1), query.k)
