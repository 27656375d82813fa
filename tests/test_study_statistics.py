"""Statistics over seeds, against hand-worked cases and properties."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lab.report import statistics
from tests.study_tables import line, tidy_of


def test_an_interval_by_hand() -> None:
    # mean 2, standard error 1/√3, t(2, 97.5 %) = 4.3027
    found = statistics.estimate(pd.Series([1.0, 2.0, 3.0]))
    assert (found.mean, found.seeds) == (2, 3)
    assert found.low == pytest.approx(2 - 4.302653 / np.sqrt(3), abs=1e-5)
    assert found.high == pytest.approx(2 + 4.302653 / np.sqrt(3), abs=1e-5)
    assert found.p == pytest.approx(0.0742, abs=1e-4)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]) -> None:
    found = statistics.estimate(pd.Series(values, dtype=float))
    assert (found.low, found.high, found.p) == (None, None, None)
    assert np.isnan(statistics.deviation(pd.Series(values, dtype=float)))


@pytest.mark.parametrize("value", [0.0, 0.004])
def test_no_spread_is_no_certainty(value: float) -> None:
    assert statistics.estimate(pd.Series([value] * 3)) == (value, 3, None, None, None)


def test_differences_are_paired_by_seed() -> None:
    # Seeds differ by ten points, optimizers by one: only pairs show it.
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.5, 0.8)}, spread=0)
    tidy["accuracy"] += 0.1 * tidy["seed"] + np.where(tidy["optim"] == "adam", 0.01 + 0.0001 * tidy["seed"], 0)
    found = statistics.difference(tidy, "resnet18-adam", "resnet18-sgd", statistics.area)
    assert found.mean == pytest.approx(0.0101)
    assert 0.009 < found.low < found.high < 0.011


def test_a_seed_that_one_arm_lacks_is_no_pair() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.6, 0.8)})
    tidy = tidy[tidy["arm"] != "resnet18-sgd-s2"]
    found = statistics.difference(tidy, "resnet18-adam", "resnet18-sgd", statistics.area)
    assert (found.seeds, found.low) == (2, None)


def test_arms_from_different_first_sets_are_no_pairs() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.6, 0.8)}, seeds=4)
    tidy.loc[tidy["arm"] == "resnet18-adam-s1", "first_set"] = "another"
    assert statistics.unpaired_seeds(tidy) == [1]
    assert statistics.difference(tidy, "resnet18-adam", "resnet18-sgd", statistics.area).seeds == 3
    tidy.loc[tidy["arm"] == "resnet18-adam-s2", "first_set"] = "another"
    assert statistics.wins(tidy).isna().all(axis=None), "two pairs are too few"


def test_holm_by_hand() -> None:
    curves = {f"resnet18-{optim}": line(0.5, last) for optim, last in (("sgd", 0.6), ("adam", 0.7), ("adamw", 0.8))}
    table = statistics.pairwise(tidy_of(curves, spread=0.01), statistics.final_accuracy).sort_values("p")
    # Three tests: the smallest p is multiplied by 3, the next by 2, the last by 1, and none falls below the one before.
    expected = np.maximum.accumulate(np.minimum(table["p"].to_numpy() * [3, 2, 1], 1))
    np.testing.assert_allclose(table["p_holm"], expected)


def test_no_test_across_architectures_or_from_two_seeds() -> None:
    curves = {"resnet18-sgd": line(0.5, 0.6), "resnet34-sgd": line(0.5, 0.9), "resnet34-adam": line(0.5, 0.9)}
    assert len(statistics.pairwise(tidy_of(curves), statistics.area)) == 1
    assert statistics.pairwise(tidy_of(curves, seeds=2), statistics.area).empty


def test_wins_by_hand() -> None:
    tidy = tidy_of({"resnet18-sgd": [0.5] * 10, "resnet18-adam": [0.6] * 3 + [0.5] * 5 + [0.4] * 2}, spread=0)
    # a little noise, the same in no cycle, so that equal means are no win
    noise = np.random.default_rng(0).normal(scale=0.002, size=len(tidy))
    table = statistics.wins(tidy.assign(accuracy=tidy["accuracy"] + noise))
    assert table.loc["resnet18-adam", "resnet18-sgd"] == pytest.approx(0.3)
    assert table.loc["resnet18-sgd", "resnet18-adam"] == pytest.approx(0.2)
    assert np.isnan(table.loc["resnet18-sgd", "resnet18-sgd"])


def test_a_target_that_some_seeds_miss_is_censored() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.95), "resnet18-adam": line(0.5, 0.7)}, spread=0)
    tidy.loc[tidy["arm"] == "resnet18-sgd-s2", "accuracy"] = 0.5
    table = statistics.summary(tidy).set_index("group")
    assert table.loc["resnet18-sgd", "labels_to_target"] == 8000
    assert table.loc["resnet18-sgd", "reached"] == "2 of 3"
    assert np.isinf(table.loc["resnet18-adam", "labels_to_target"])


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8))
def test_the_interval_holds_the_mean_and_mirrors(values: list[float]) -> None:
    found, mirrored = (statistics.estimate(pd.Series(sign * np.array(values))) for sign in (1, -1))
    assume(found.low is not None)
    assert found.low <= found.mean + 1e-12
    assert found.mean <= found.high + 1e-12
    assert found.low == pytest.approx(-mirrored.high, abs=1e-9)
