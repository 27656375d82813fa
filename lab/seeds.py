"""Stateless seeds: every random draw depends on what it is for, never on what was drawn before it.

A cycle run by itself therefore draws the same numbers as the same cycle in a full run.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random number is for. The values are part of every result: never renumber them."""

    COLD_START = 0
    WEIGHTS = 1
    BATCHES = 2
    POOL_SUBSET = 3
    RANDOM_SCORES = 4
    MODULE_WEIGHTS = 5
    VALIDATION = 6
    PERTURBATION = 7
    STOP_SET = 8


def seed_of(stream: Stream, seed: int, cycle: int = 0, epoch: int = 0) -> int:
    """A seed of 63 bits (torch takes signed numbers) for one stream of draws; all arguments at least 0."""
    return int(np.random.SeedSequence([stream, seed, cycle, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_of(stream: Stream, seed: int, cycle: int = 0) -> np.random.Generator:
    """A NumPy generator for one stream of draws."""
    return np.random.Generator(np.random.PCG64(seed_of(stream, seed, cycle)))
