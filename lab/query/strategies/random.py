"""Query at random, with the module trained as for loss prediction: the control."""

from lab.query.candidates import Candidates, Scores

TRAINS_MODULE = True
PREDICTS_POOL = False


def score(candidates: Candidates) -> Scores:
    """Uniform on 0 … 1, float64 (n,)."""
    return candidates.generator.random(len(candidates.indices))
