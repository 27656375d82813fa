"""How well predicted losses rank true ones, against hand-worked cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lab.measures.ranking import cross_entropy, rank_quality


def test_pairs_in_the_right_order() -> None:
    # of the six pairs, only that of the last two is in the wrong order; Spearman: 1 − 6 · 2 / (4 · 15)
    quality = rank_quality(np.array([1.0, 2.0, 4.0, 3.0]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert quality.pair_accuracy == pytest.approx(5 / 6)
    assert quality.spearman == pytest.approx(0.8)


def test_one_order_only_is_none() -> None:
    assert rank_quality(np.ones(3), np.arange(3.0)) == (None, None)
    assert rank_quality(np.arange(3.0), np.ones(3)) == (None, None)
    assert rank_quality(np.arange(2.0), np.arange(2.0)) == pytest.approx((1, 1))


@given(st.permutations(range(8)))
def test_the_opposite_order_mirrors_the_quality(order: list[int]) -> None:
    true = np.arange(8.0)
    quality, mirrored = rank_quality(np.array(order), true), rank_quality(-np.array(order), true)
    assert quality.pair_accuracy + mirrored.pair_accuracy == pytest.approx(1)
    assert quality.spearman == pytest.approx(-mirrored.spearman, abs=1e-12)


def test_cross_entropy_by_hand() -> None:
    # softmax of (0, ln 3) is (1/4, 3/4)
    losses = cross_entropy(np.array([[0.0, np.log(3)], [0.0, np.log(3)], [1e4, 0.0]]), np.array([0, 1, 1]))
    np.testing.assert_allclose(losses, [np.log(4), np.log(4 / 3), 1e4])


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32)))
def test_cross_entropy_is_never_negative(logits: np.ndarray) -> None:
    assert (cross_entropy(logits, np.array([0, 1, 3])) >= 0).all()
