"""Acquire what another run acquired, with the module trained: what an arm learns, apart from what it chooses.

The other run is named by ``python -m lab.replay``. Models were trained before on sets that others had chosen (Lowell et
al., 2019, section 4).

Works on another run's labelled sets. Cost: n log n to look k images up.
"""

from lab.query.query import Batch, Query, acquired_again

TRAINS_MODULE = True
PREDICTS_POOL = False


def choose(query: Query) -> Batch:
    """The images that the other run acquired after this cycle, in its order, with its scores."""
    return acquired_again(query)
