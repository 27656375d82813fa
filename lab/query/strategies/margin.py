"""Query the images whose two most probable classes are closest (Scheffer et al., 2001; Settles, 2009, section 3.1).

Works on probabilities. Cost: one pass over the pool; n log n to sort.
"""

import numpy as np

from lab.query.query import Batch, Query, best

TRAINS_MODULE = False
PREDICTS_POOL = True


def choose(query: Query) -> Batch:
    """Scores are 1 − (p₁ − p₂) of the two most probable classes, float64, 0 … 1."""
    (probabilities,) = query.predict(query.candidates, "probabilities")
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return best(1 - (first - second), query.k)
