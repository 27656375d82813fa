"""Query what the module predicts the highest loss for (the paper, section 4.5; Yoo and Kweon, 2019, section 3.2)."""

from lab.query.candidates import Candidates, Scores

TRAINS_MODULE = True
PREDICTS_POOL = True


def score(candidates: Candidates) -> Scores:
    """The predicted loss of each candidate, float32 (n,)."""
    losses = candidates.predict().predicted_loss
    assert losses is not None, "TRAINS_MODULE"
    return losses
