"""Query at random, without the module.

Its gradient does not shape the network then: beside ``random``, which queries the same images, this arm tells what loss
prediction gains by its queries from what it gains as an auxiliary task.

Works on no output of the network. Cost: n numbers drawn, n log n to sort.
"""

from lab.query.query import Batch, Query, best

TRAINS_MODULE = False
PREDICTS_POOL = False


def choose(query: Query) -> Batch:
    """Scores are uniform on 0 … 1, float64."""
    return best(query.generator.random(len(query.candidates)), query.k)
