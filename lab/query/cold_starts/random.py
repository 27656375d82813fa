"""Label first what is drawn at random, all images equally likely."""

import numpy as np
from numpy.typing import NDArray

from lab.query.first import First
from lab.query.selection import random_subset


def choose(first: First) -> NDArray[np.int64]:
    return random_subset(first.pool, first.k, first.generator)
