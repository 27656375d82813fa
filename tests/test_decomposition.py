"""Learning and choosing taken apart, on made-up tables of which both are known."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from lab.report import decomposition, figures
from lab.report.decomposition import choosing, gap, interaction, learning
from lab.report.statistics import mean_accuracy, runs_of
from lab.study.analysis import crossed
from tests.study_tables import line, tidy_of

A, B = "resnet18-adam", "resnet18-sgd"
AB, BA = "resnet18-adam-chosen_by_sgd", "resnet18-sgd-chosen_by_adam"
# After the first cycle: what Adam's training is worth, what its choices are, and what both together are beyond that.
LEARNS, CHOOSES, BOTH = 0.03, -0.02, 0.01


def planted(seeds: int = 5, noise: float = 0.001) -> pd.DataFrame:
    """Runs of a seed share most of their noise, as paired runs do; in the first cycle no choice has any effect."""
    base = np.array(line(0.5, 0.9))
    later = np.arange(10) > 0
    curves = {
        A: base + LEARNS + (CHOOSES + BOTH) * later,
        AB: base + LEARNS,
        BA: base + CHOOSES * later,
        B: base,
    }
    tidy = tidy_of({name: curve.tolist() for name, curve in curves.items()}, seeds=seeds, spread=0)
    shared = np.random.default_rng(1).normal(0, 0.05, seeds)
    own = np.random.default_rng(2).normal(0, noise, len(tidy)) * (tidy["cycle"] > 0)
    return tidy.assign(accuracy=tidy["accuracy"] + shared[tidy["seed"]] + own)


def effects(tidy: pd.DataFrame) -> pd.DataFrame:
    return decomposition.effects(tidy, A, B).set_index(["labels", "effect"])


def test_names_of_crossed_arms() -> None:
    assert (crossed(A, B), crossed(B, A), crossed(A, A)) == (AB, BA, A)
    assert crossed("resnet50-sgd", "resnet18-sgd") == "resnet50-sgd-chosen_by_resnet18"


def test_learning_and_choosing_add_up_to_the_gap() -> None:
    table = effects(planted(noise=0.02))["mean"].unstack()
    np.testing.assert_allclose(table["learning"] + table["choosing"], table["gap"], atol=1e-12)
    weights = [pd.Series(one(A, B)) for one in (learning, choosing, gap)]
    assert weights[0].add(weights[1], fill_value=0).loc[lambda sums: sums != 0].to_dict() == weights[2].to_dict()


def test_planted_effects_are_found() -> None:
    table = effects(planted())
    found = table.loc[5000]
    # Half of what both together are worth falls to each.
    expected = {
        "gap": LEARNS + CHOOSES + BOTH,
        "learning": LEARNS + BOTH / 2,
        "choosing": CHOOSES + BOTH / 2,
        "interaction": BOTH,
    }
    for effect, value in expected.items():
        assert found.loc[effect, "mean"] == pytest.approx(value, abs=0.002)
        assert found.loc[effect, "low"] < value < found.loc[effect, "high"]
    assert found.loc["choosing", "high"] - found.loc["choosing", "low"] < 0.01, "paired: seeds differ by five points"
    over_all = table.xs("learning", level="effect").loc[np.nan, "mean"]
    # A trapezoid gives the first of ten cycles half a step's weight.
    assert over_all == pytest.approx(LEARNS + BOTH / 2 * (1 - 0.5 / 9), abs=0.001)


def test_choosing_is_nothing_before_the_first_query() -> None:
    first = effects(planted(noise=0.02)).loc[1000]
    assert first.loc["choosing", "mean"] == pytest.approx(0, abs=1e-12)
    assert first.loc["interaction", "mean"] == pytest.approx(0, abs=1e-12)
    assert first.loc["learning", "mean"] == pytest.approx(LEARNS)


def test_a_seed_that_one_of_four_arms_lacks_counts_in_none() -> None:
    tidy = planted()
    tidy = tidy[tidy["arm"] != f"{AB}-s2"]
    assert set(effects(tidy).xs("learning", level="effect")["seeds"]) == {4}
    assert set(effects(tidy).xs("gap", level="effect")["seeds"]) == {4}, "else the parts would not add up to it"
    table = effects(tidy)["mean"].unstack()
    np.testing.assert_allclose(table["learning"] + table["choosing"], table["gap"], atol=1e-12)


def test_the_matrix_has_who_was_trained_in_rows() -> None:
    tidy = planted(noise=0)
    table = decomposition.matrix(tidy, [A, B], mean_accuracy([5000]))
    mean = runs_of(tidy).loc[B][5000].mean()
    np.testing.assert_allclose(table.loc[A, [A, B]] - mean, [LEARNS + CHOOSES + BOTH, LEARNS], atol=1e-9)
    np.testing.assert_allclose(table.loc[B, [A, B]] - mean, [CHOOSES, 0], atol=1e-9)
    assert np.isnan(decomposition.matrix(tidy, [A, "resnet18-adamw"]).loc[A, "resnet18-adamw"])


def test_pairs_are_those_that_were_crossed_both_ways() -> None:
    tidy = planted()
    assert decomposition.pairs(tidy) == [(A, B)]
    assert decomposition.pairs(tidy[tidy["group"] != AB]) == []
    one_each = (tidy["group"] == AB) == (tidy["seed"] == 1)
    assert decomposition.pairs(tidy[one_each]) == [], "no seed has all four"
    optims = ["adam", "sgd", "adamw"]
    crossings = [f"resnet18-{one}-chosen_by_{two}" for one in optims for two in optims if one != two]
    names = [*(f"resnet18-{optim}" for optim in optims), *crossings]
    tidy = pd.DataFrame({"group": names, "seed": 0})
    assert decomposition.pairs(tidy) == [(A, B), (A, "resnet18-adamw"), (B, "resnet18-adamw")]
    assert interaction(A, B) == {A: 1, BA: -1, AB: -1, B: 1}


def test_replays_under_another_seed_take_the_place_of_ones_own_choices() -> None:
    tidy = planted(noise=0)
    assert "interaction, under another seed" not in effects(tidy).index.unique("effect")
    # What "one's own run" is worth, after the first cycle: the replays lack it.
    own = 0.02
    replays = [
        tidy[tidy["group"] == name].assign(group=f"{name}-chosen_by_another_seed", arm=f"{name}-again")
        for name in (A, B)
    ]
    tidy.loc[tidy["group"].isin([A, B]) & (tidy["cycle"] > 0), "accuracy"] += own
    found = effects(pd.concat([tidy, *replays])).loc[5000, "mean"]
    assert found["interaction"] == pytest.approx(BOTH + 2 * own)
    assert found["interaction, under another seed"] == pytest.approx(BOTH)


def test_overlap_by_hand() -> None:
    table = decomposition.overlap([{1, 2}, {3, 4}], [{2, 5}, {1, 6}], candidates=8)
    assert table["acquired"].tolist() == [2, 4]
    assert table["jaccard"].tolist() == pytest.approx([1 / 3, 2 / 6])
    # By chance 2 · 2 / 8 = 0.5 in common of 3.5, then 4 · 4 / 8 = 2 of 6.
    assert table["chance"].tolist() == pytest.approx([0.5 / 3.5, 2 / 6])
    assert decomposition.overlap([{1}], [{1}], float("nan"))["chance"].isna().all()


def test_runs_with_another_number_of_queries_have_no_overlap() -> None:
    with pytest.raises(ValueError, match="zip"):
        decomposition.overlap([{1, 2}], [{2, 5}, {1, 6}], candidates=8)


def test_random_choices_overlap_as_chance_says() -> None:
    draw = np.random.default_rng(0)
    one, two = ([set(part.tolist()) for part in draw.permutation(5000)[:1500].reshape(3, 500)] for _ in range(2))
    table = decomposition.overlap(one, two, 5000)
    np.testing.assert_allclose(table["jaccard"], table["chance"], atol=0.03)


def test_the_figure_shows_the_effects_and_their_intervals() -> None:
    tidy = planted(noise=0.02)
    figure = figures.learning_and_choosing(tidy)
    (axes,) = figure.axes
    plt.close(figure)
    assert axes.get_title() == "ResNet-18 Adam − ResNet-18 SGD"
    table = decomposition.effects(tidy, A, B).dropna(subset="labels")
    for bars in axes.containers:
        rows = table[table["effect"] == bars.get_label()]
        line, (lower, upper), _ = bars.lines
        np.testing.assert_allclose(line.get_xydata().astype(float), rows[["labels", "mean"]].to_numpy(float))
        np.testing.assert_allclose(np.asarray(lower.get_ydata(), float), rows["low"].to_numpy(float))
        np.testing.assert_allclose(np.asarray(upper.get_ydata(), float), rows["high"].to_numpy(float))
    assert [bars.get_label() for bars in axes.containers] == ["gap", "learning", "choosing"]


def test_arms_that_are_not_crossed_have_no_such_figure() -> None:
    assert figures.learning_and_choosing(planted().query("group in ['resnet18-adam', 'resnet18-sgd']")) is None
