"""Query at random, without the module.

Its gradient does not shape the network then: beside ``random``, which queries the same images, this arm tells what loss
prediction gains by its queries from what it gains as an auxiliary task.
"""

from lab.query.candidates import Candidates, Scores

TRAINS_MODULE = False
PREDICTS_POOL = False


def score(candidates: Candidates) -> Scores:
    """Uniform on 0 … 1, float64 (n,)."""
    return candidates.generator.random(len(candidates.indices))
