"""Query at random, with the module trained as for loss prediction: the control.

Works on no output of the network. Cost: n numbers drawn, n log n to sort.
"""

from lab.query.query import Batch, Query, best

TRAINS_MODULE = True
PREDICTS_POOL = False


def choose(query: Query) -> Batch:
    """Scores are uniform on 0 … 1, float64."""
    return best(query.generator.random(len(query.candidates)), query.k)
