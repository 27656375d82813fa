"""Scores and selection: hand-made rankings, and properties of any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lab import choices
from lab.query.query import Batch, best
from lab.query.selection import random_subset, top_k, unlabelled
from tests.test_strategies import chosen_by, noise


def test_top_k_by_hand() -> None:
    assert top_k(np.array([0.1, 0.9, 0.5]), 2).tolist() == [1, 2]
    assert top_k(np.array([-3.0, -1.0, -2.0]), 3).tolist() == [1, 2, 0]
    # of equal scores the earlier wins
    assert top_k(np.array([1.0, 2.0, 2.0, 1.0]), 3).tolist() == [1, 2, 0]
    assert top_k(np.array([1.0]), 5).tolist() == [0]


def test_top_k_refuses_nan() -> None:
    with pytest.raises(ValueError, match="1 of 2 acquisition scores are NaN"):
        top_k(np.array([1.0, np.nan]), 1)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32)), st.integers(1, 60))
def test_top_k_leaves_nothing_better_behind(scores: np.ndarray, k: int) -> None:
    best = top_k(scores, k)
    assert len(set(best)) == len(best) == min(k, len(scores))
    assert (np.diff(scores[best]) <= 0).all()
    left = np.delete(scores, best)
    assert not len(left) or left.max() <= scores[best].min()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(1, 200))
def test_of_equal_scores_the_earlier_wins(scores: list[int], k: int) -> None:
    order = sorted(range(len(scores)), key=lambda position: (-scores[position], position))
    assert top_k(np.array(scores, dtype=np.float32), k).tolist() == order[:k]


@given(st.integers(1, 60), st.data())
def test_unlabelled_is_the_rest(pool_size: int, data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.integers(0, pool_size - 1), unique=True))
    rest = unlabelled(pool_size, np.array(labels, dtype=np.int64))
    assert sorted([*rest, *labels]) == list(range(pool_size))


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 5))
def test_random_subset_is_one(pool_size: int, size: int, seed: int) -> None:
    pool = np.arange(pool_size) * 3
    subset = random_subset(pool, size, np.random.default_rng(seed))
    assert len(set(subset)) == len(subset) == min(size, pool_size)
    assert set(subset) <= set(pool)


def test_random_subset_is_fair() -> None:
    draws = np.concatenate([random_subset(np.arange(10), 3, np.random.default_rng(seed)) for seed in range(2000)])
    # 600 expected each; five standard deviations of a binomial count are 102
    assert np.abs(np.bincount(draws, minlength=10) - 600).max() < 102


def test_best_is_top_k_with_its_scores_and_those_of_all() -> None:
    batch = best(np.array([0.1, 0.9, 0.5]), 2)
    assert [part.tolist() for part in batch] == [[1, 2], [0.9, 0.5], [0.1, 0.9, 0.5]]


def test_best_refuses_nan() -> None:
    with pytest.raises(ValueError, match="1 of 2 acquisition scores are NaN"):
        best(np.array([0.3, np.nan]), 1)


def same(one: Batch, other: Batch) -> bool:
    return all(np.array_equal(*arrays) for arrays in zip(one, other, strict=True))


def test_random_strategies_know_nothing_of_the_images() -> None:
    for name in ("random", "random_without_module"):
        assert same(chosen_by(name, noise(9), 2), chosen_by(name, noise(9, seed=1), 2))


@pytest.mark.parametrize("name", ["random", "replay"])
def test_controls_differ_in_the_module_alone(name: str) -> None:
    with_module, without = (choices.load("query/strategies", one) for one in (name, f"{name}_without_module"))
    assert same(chosen_by(name, noise(9), 2), chosen_by(f"{name}_without_module", noise(9), 2))
    assert (with_module.TRAINS_MODULE, without.TRAINS_MODULE) == (True, False)


@pytest.mark.parametrize("name", ["replay", "replay_without_module"])
def test_replay_acquires_what_another_run_acquired(name: str) -> None:
    # the images 996 and 997, in that order, with the scores that they had there
    batch = chosen_by(name, noise(5), 2)
    assert batch.positions.tolist() == [4, 3]
    assert batch.scores.tolist() == [2 / 3, 1 / 3]
