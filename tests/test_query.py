"""Scores and selection: hand-made rankings, and properties of any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lab.query.candidates import Candidates, Scores

from lab import choices
from lab.query.selection import random_subset, top_k, unlabelled
from lab.training.prediction import Predictions

STRATEGIES = choices.names("query/strategies")


def scores_of(strategy: str, predicted_loss: list[float]) -> Scores:
    losses = np.array(predicted_loss, dtype=np.float32)
    candidates = Candidates(
        np.arange(len(losses)) + 100,
        lambda: Predictions(np.zeros((len(losses), 10), dtype=np.float32), losses),
        np.random.default_rng(0),
    )
    return choices.load("query/strategies", strategy).score(candidates)


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


@given(st.integers(1, 60), st.data())
def test_unlabelled_is_the_rest(pool_size: int, data: st.DataObject) -> None:
    labelled = data.draw(st.lists(st.integers(0, pool_size - 1), unique=True))
    rest = unlabelled(pool_size, np.array(labelled, dtype=np.int64))
    assert sorted([*rest, *labelled]) == list(range(pool_size))


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


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_scores_every_candidate_alike_each_time(name: str) -> None:
    scores = [scores_of(name, [0.3, 0.1, 0.2]) for _ in range(2)]
    assert scores[0].shape == (3,)
    assert np.isfinite(scores[0]).all()
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_tells_what_it_needs(name: str) -> None:
    strategy = choices.load("query/strategies", name)
    asked = []

    def predict() -> Predictions:
        asked.append(1)
        return Predictions(np.zeros((3, 10), np.float32), np.zeros(3, np.float32) if strategy.TRAINS_MODULE else None)

    strategy.score(Candidates(np.arange(3), predict, np.random.default_rng(0)))
    assert bool(asked) == strategy.PREDICTS_POOL


def test_loss_prediction_queries_the_highest_predicted_loss() -> None:
    assert top_k(scores_of("loss_prediction", [0.3, 0.9, 0.5]), 3).tolist() == [1, 2, 0]


def test_random_strategies_know_nothing_of_the_loss() -> None:
    for name in ("random", "random_without_module"):
        np.testing.assert_array_equal(scores_of(name, [0.3, 0.9, 0.5]), scores_of(name, [9.0, 1.0, 5.0]))


def test_random_controls_differ_in_the_module_alone() -> None:
    with_module, without = (choices.load("query/strategies", name) for name in ("random", "random_without_module"))
    np.testing.assert_array_equal(scores_of("random", [0] * 9), scores_of("random_without_module", [0] * 9))
    assert (with_module.TRAINS_MODULE, without.TRAINS_MODULE) == (True, False)
