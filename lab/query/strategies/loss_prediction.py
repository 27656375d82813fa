"""Query what the module predicts the highest loss for (the paper, section 4.5; Yoo and Kweon, 2019, section 3.2).

Works on predicted losses. Cost: one pass over the pool; n log n to sort.
"""

from lab.query.query import Batch, Query, best

TRAINS_MODULE = True
PREDICTS_POOL = True


def choose(query: Query) -> Batch:
    """Scores are predicted losses, float32."""
    (losses,) = query.predict(query.candidates, "predicted_loss")
    return best(losses, query.k)
