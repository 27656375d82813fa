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


def difference(tidy: pd.DataFrame, group: str, other: str) -> statistics.Estimate:
    """One group's area minus another's."""
    return statistics.estimate(statistics.contrast(statistics.runs_of(tidy), {group: 1, other: -1}, statistics.area))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_seeds_have_no_interval(values: list[float]) -> None:
    found = statistics.estimate(pd.Series(values, dtype=float))
    assert (found.error, found.low, found.high, found.p) == (None, None, None, None)
    assert np.isnan(statistics.deviation(pd.Series(values, dtype=float)))


@pytest.mark.parametrize("value", [0.0, 0.004])
def test_no_spread_is_no_certainty(value: float) -> None:
    assert statistics.estimate(pd.Series([value] * 3)) == (value, 3, None, None, None, None)


def test_differences_are_paired_by_seed() -> None:
    # Seeds differ by ten points, optimizers by one: only pairs show it.
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.5, 0.8)}, spread=0)
    tidy["accuracy"] += 0.1 * tidy["seed"] + np.where(tidy["optim"] == "adam", 0.01 + 0.0001 * tidy["seed"], 0)
    found = difference(tidy, "resnet18-adam", "resnet18-sgd")
    assert found.mean == pytest.approx(0.0101)
    assert 0.009 < found.low < found.high < 0.011


def test_a_seed_that_one_arm_lacks_is_no_pair() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.6, 0.8)})
    tidy = tidy[tidy["arm"] != "resnet18-sgd-s2"]
    found = difference(tidy, "resnet18-adam", "resnet18-sgd")
    assert (found.seeds, found.low) == (2, None)


def test_arms_from_different_first_sets_are_no_pairs() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.6, 0.8)}, seeds=4)
    tidy.loc[tidy["arm"] == "resnet18-adam-s1", "first_set"] = "another"
    assert statistics.seeds_with_several(tidy, "first_set") == [1]
    assert difference(tidy, "resnet18-adam", "resnet18-sgd").seeds == 3
    tidy.loc[tidy["arm"] == "resnet18-adam-s2", "first_set"] = "another"
    assert statistics.wins(tidy).isna().all(axis=None), "two pairs are too few"


def test_runs_of_different_versions_of_pytorch_are_no_pairs() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.8), "resnet18-adam": line(0.6, 0.8)}, seeds=4)
    tidy.loc[tidy["arm"] == "resnet18-adam-s1", "torch"] = "1"
    # The same two versions, but not in the same cycles.
    for arm, cycle in (("resnet18-adam-s2", 3), ("resnet18-sgd-s2", 4)):
        tidy.loc[(tidy["arm"] == arm) & (tidy["cycle"] >= cycle), "torch"] = "1"
    assert statistics.seeds_with_several(tidy, "torch") == [1, 2]
    assert difference(tidy, "resnet18-adam", "resnet18-sgd").seeds == 2
    tidy["torch"] = "1"
    assert difference(tidy, "resnet18-adam", "resnet18-sgd").seeds == 4


def test_holm_by_hand() -> None:
    curves = {f"resnet18-{optim}": line(0.5, last) for optim, last in (("sgd", 0.6), ("adam", 0.7), ("adamw", 0.8))}
    table = statistics.pairwise(tidy_of(curves, spread=0.01), statistics.final_accuracy).sort_values("p")
    # Three tests: the smallest p is multiplied by 3, the next by 2, the last by 1, and none falls below the one before.
    expected = np.maximum.accumulate(np.minimum(table["p"].to_numpy() * [3, 2, 1], 1))
    np.testing.assert_allclose(table["p_holm"], expected)
    assert statistics.holm([0.04, 0.01, 0.5]) == pytest.approx([0.08, 0.03, 0.5])
    assert statistics.holm([0.02, 0.02, 0.9, 0.8]) == pytest.approx([0.08, 0.08, 1, 1])
    assert statistics.holm([]) == []


def test_no_test_across_architectures_or_from_two_seeds() -> None:
    curves = {"resnet18-sgd": line(0.5, 0.6), "resnet34-sgd": line(0.5, 0.9), "resnet34-adam": line(0.5, 0.9)}
    assert len(statistics.pairwise(tidy_of(curves), statistics.area)) == 1
    curves = {f"{arch}-{optim}": line(0.5, 0.9) for arch in ("resnet34", "resnet18") for optim in ("sgd", "adam")}
    table = statistics.pairwise(tidy_of(curves), statistics.area)
    assert table["group"].tolist() == ["resnet34-sgd", "resnet18-sgd"], "in the order of the study"
    assert statistics.pairwise(tidy_of(curves, seeds=2), statistics.area).empty


def test_wins_by_hand() -> None:
    tidy = tidy_of({"resnet18-sgd": [0.5] * 10, "resnet18-adam": [0.6] * 3 + [0.5] * 5 + [0.4] * 2}, spread=0)
    # a little noise, the same in no cycle, so that equal means are no win
    noise = np.random.default_rng(0).normal(scale=0.002, size=len(tidy))
    table = statistics.wins(tidy.assign(accuracy=tidy["accuracy"] + noise))
    assert table.loc["resnet18-adam", "resnet18-sgd"] == pytest.approx(0.3)
    assert table.loc["resnet18-sgd", "resnet18-adam"] == pytest.approx(0.2)
    assert np.isnan(table.loc["resnet18-sgd", "resnet18-sgd"])


def test_wins_need_three_pairs_and_no_more() -> None:
    curves = {f"resnet18-{optim}": line(0.5, last) for optim, last in (("sgd", 0.5), ("adam", 0.7), ("adamw", 0.9))}
    tidy = tidy_of(curves, seeds=5)
    tidy = tidy[~tidy["arm"].isin(["resnet18-sgd-s0", "resnet18-sgd-s1", "resnet18-adam-s2"])]
    table = statistics.wins(tidy[(tidy["optim"] != "adam") | (tidy["labels"] <= 5000)])
    assert np.isnan(table.loc["resnet18-adam", "resnet18-sgd"]), "the seeds 3 and 4 are too few"
    assert table.loc["resnet18-adamw", "resnet18-sgd"] == pytest.approx(0.9), "of the three seeds 2 to 4"
    assert table.loc["resnet18-adamw", "resnet18-adam"] == pytest.approx(0.8), "of four, in the five cycles of both"


def test_a_target_that_some_seeds_miss_is_censored() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.95), "resnet18-adam": line(0.5, 0.7)}, spread=0)
    tidy.loc[tidy["arm"] == "resnet18-sgd-s2", "accuracy"] = 0.5
    table = statistics.summary(tidy).set_index("group")
    assert table.loc["resnet18-sgd", "labels_to_target"] == 8000
    assert table.loc["resnet18-sgd", "reached"] == "2 of 3"
    assert np.isinf(table.loc["resnet18-adam", "labels_to_target"])


def test_final_accuracy_is_that_of_the_last_cycle_of_a_run() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.9, 0.5), "resnet18-adam": line(0.9, 0.5)}, seeds=1, spread=0)
    runs = statistics.runs_of(tidy[(tidy["optim"] == "sgd") | (tidy["labels"] <= 4000)])
    final = statistics.final_accuracy(runs).droplevel(["seed", "first_set", "versions"])
    assert final["resnet18-sgd"] == pytest.approx(0.5), "not the best"
    assert final["resnet18-adam"] == pytest.approx(0.9 - 0.4 * 3 / 9)


def test_bounds_by_hand() -> None:
    # mean 2, standard error 1/√3: 1.7320 errors above 1, for which t(2) has a one-sided p of 0.1127
    found = statistics.estimate(pd.Series([1.0, 2.0, 3.0]))
    assert found.p_above(1) == pytest.approx(0.1127, abs=1e-4)
    assert found.p_below(1) == pytest.approx(1 - 0.1127, abs=1e-4)
    assert found.p_within(3) == pytest.approx(0.1127, abs=1e-4), "the nearer of −3 and 3 is one above"
    assert found.p_above(0) == pytest.approx(found.p / 2)


def test_a_contrast_weighs_groups_of_the_seeds_that_all_have() -> None:
    curves = {f"resnet18-{optim}": [level] * 10 for optim, level in (("sgd", 0.5), ("adam", 0.6), ("adamw", 0.8))}
    runs = statistics.runs_of(tidy_of(curves, seeds=4, spread=0).query("arm != 'resnet18-adam-s1'"))
    weights = {"resnet18-adamw": 1, "resnet18-sgd": -0.5, "resnet18-adam": -0.5}
    values = statistics.contrast(runs, weights, statistics.final_accuracy)
    assert values.tolist() == pytest.approx([0.25] * 3)
    assert [seed for seed, *_ in values.index] == [0, 2, 3]
    assert statistics.contrast(runs, {**weights, "resnet18-rmsprop": 1}, statistics.area).empty
    assert statistics.contrast(runs, weights, statistics.mean_accuracy([1000, 500])).empty, "no cycle with 500 labels"


@pytest.mark.parametrize(
    ("values", "p"),
    [
        ([0.1, 0.2, 0.3], 2 / 8),
        ([0.1, 0.2, 0.3, 0.1, 0.2, 0.3], 2 / 64),
        # |sum| of 6 at least as far as 4: ±6, and ±4 by turning the 1
        ([1.0, 2.0, 3.0, -0.0], 4 / 16),
        ([3.0, 2.0, -1.0], 4 / 8),
    ],
)
def test_sign_flips_by_hand(values: list[float], p: float) -> None:
    assert statistics.sign_flip(pd.Series(values)) == pytest.approx(p)


def test_sign_flips_of_nothing() -> None:
    assert np.isnan(statistics.sign_flip(pd.Series(dtype=float)))


@pytest.mark.parametrize(
    ("deviation", "seeds"),
    # of differences in one cycle, and of their means over three
    [(0.035702, [102, 27, 14]), (0.005350, [5, 3, 3])],
)
def test_seeds_to_find_a_difference(deviation: float, seeds: list[int]) -> None:
    assert [statistics.seeds_to_find(size, deviation) for size in (0.01, 0.02, 0.03)] == seeds
    assert statistics.seeds_to_find(0.01, deviation, alpha=0.01) > seeds[0]


def test_the_hours_of_a_seed_are_those_of_its_arms() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.9), "resnet18-adam": line(0.5, 0.9)})
    tidy.loc[tidy["optim"] == "adam", "training_seconds"] = 46.0
    # 10 cycles of 13 s, and 10 of 49 s
    assert statistics.seed_hours(tidy, ["resnet18-sgd", "resnet18-adam"]) == pytest.approx((130 + 490) / 3600)
    tidy.loc[0, "query_seconds"] = np.nan
    assert statistics.seed_hours(tidy, ["resnet18-sgd"]) == pytest.approx(130 / 3600), "of the seeds that are whole"
    tidy.loc[tidy["optim"] == "sgd", "query_seconds"] = np.nan
    assert np.isnan(statistics.seed_hours(tidy, ["resnet18-sgd", "resnet18-adam"]))


def test_a_collapsed_run_is_one_that_does_not_fit_as_its_best_seed_does() -> None:
    tidy = tidy_of({"resnet18-sgd": line(0.5, 0.9), "resnet18-adam": line(0.5, 0.9)})
    assert statistics.collapsed(tidy).empty
    # Two of three seeds may collapse, and an arm that always fits worse has not.
    tidy.loc[tidy["optim"] == "adam", "training_accuracy"] = 0.4
    failed = (tidy["optim"] == "sgd") & (tidy["labels"] == 3000) & (tidy["seed"] > 0)
    tidy.loc[failed, "training_accuracy"] = [0.74, 0.1]
    found = statistics.collapsed(tidy)
    assert found["arm"].tolist() == ["resnet18-sgd-s1", "resnet18-sgd-s2"]
    assert (found[["labels", "best"]] == [3000, 0.99]).all(axis=None)
    assert statistics.collapsed(tidy.assign(training_accuracy=np.nan)).empty, "not recorded"


@given(st.lists(st.floats(0, 1), min_size=3, max_size=8))
def test_the_interval_holds_the_mean_and_mirrors(values: list[float]) -> None:
    found, mirrored = (statistics.estimate(pd.Series(sign * np.array(values))) for sign in (1, -1))
    assume(found.low is not None)
    assert found.low <= found.mean + 1e-12
    assert found.mean <= found.high + 1e-12
    assert found.low == pytest.approx(-mirrored.high, abs=1e-9)
