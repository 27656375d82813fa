"""Labels and image passes saved at equal accuracy, by hand."""

import numpy as np
import pandas as pd
import pytest

from lab.report import page, saved, tables
from tests.study_tables import tidy_of

A, RANDOM = "resnet18-adam", "resnet18-adam-random"
X, Y = [100, 200, 400], [0.5, 0.6, 0.8]


@pytest.mark.parametrize(
    ("accuracy", "spent", "side"),
    [
        (0.55, 150, 0),  # half way between 100 and 200
        (0.7, 300, 0),  # half way between 200 and 400: the example of docs/statistics.md
        (0.6, 200, 0),  # at a budget, not beyond it
        (0.5, 100, 0),  # a tie at the first budget is known
        (0.8, 400, 0),  # and at the last
        (0.49, 100, -1),
        (0.81, 400, 1),
    ],
)
def test_where_a_curve_reaches_an_accuracy(accuracy: float, spent: float, side: int) -> None:
    assert saved.to_reach(accuracy, X, Y) == (pytest.approx(spent), side)


def test_a_curve_that_falls_counts_as_the_rising_one_nearest_to_it() -> None:
    # 0.7 and 0.5 become 0.6 and 0.6
    assert saved.to_reach(0.6, [1, 2, 3, 4], [0.5, 0.7, 0.5, 0.9]) == (pytest.approx(2), 0)
    assert saved.to_reach(0.75, [1, 2, 3, 4], [0.5, 0.7, 0.5, 0.9]) == (pytest.approx(3.5), 0)
    assert saved.to_reach(0.6, [1, 2, 3], [0.5, 0.6, 0.6]) == (2, 0)


def study(offsets: list[float], **curves: list[float]) -> pd.DataFrame:
    """Runs at 1,000, 2,000 … labels; those of a seed are all shifted by its offset."""
    tidy = tidy_of({name.replace("_", "-", 2): curve for name, curve in curves.items()}, seeds=len(offsets), spread=0)
    return tidy.assign(accuracy=tidy["accuracy"] + np.array(offsets)[tidy["seed"]])


CURVES = {"resnet18_adam": [0.5, 0.7, 0.8], "resnet18_adam_random": [0.5, 0.6, 0.8]}


def test_labels_saved_are_paired_by_seed() -> None:
    # Unpaired, seeds that lie 20 points apart would be censored.
    table = saved.saved(study([0, 0.1, 0.2], **CURVES), A, RANDOM, saved.LABELS)
    assert table["labels"].tolist() == [2000, 3000], "before the first query nothing is chosen"
    assert table["mean"].tolist() == pytest.approx([500, 0])
    assert table[["more", "less"]].to_numpy().sum() == 0
    assert table["seeds"].tolist() == [3, 3]


def test_the_interval_is_over_seeds() -> None:
    tidy = study([0, 0, 0], **CURVES)
    # At 2,000 labels 0.66, 0.70, 0.74: random queries take 2,300, 2,500 and 2,700 labels.
    rows = (tidy["group"] == A) & (tidy["labels"] == 2000)
    tidy.loc[rows, "accuracy"] += np.array([-0.04, 0, 0.04])[tidy.loc[rows, "seed"]]
    found = saved.saved(tidy, A, RANDOM, saved.LABELS).iloc[0]
    assert found["mean"] == pytest.approx(500)
    half = 4.302653 * 200 / 3**0.5  # t of two degrees of freedom, deviation 200
    assert [found["low"], found["high"]] == pytest.approx([500 - half, 500 + half], rel=1e-5)
    assert tables.saved_cell(found) == "+500 [3, 997]"


def test_a_seed_that_is_censored_makes_a_bound_without_an_interval() -> None:
    tidy = study([0, 0, 0], **CURVES)
    of_seed = tidy["arm"] == f"{A}-s1"
    tidy.loc[of_seed & (tidy["labels"] == 3000), "accuracy"] = 0.9
    found = saved.saved(tidy, A, RANDOM, saved.LABELS).iloc[1]
    assert (found["more"], found["less"], found["mean"], found["low"]) == (1, 0, pytest.approx(0), None)
    assert tables.saved_cell(found) == "≥ 0 (1 of 3)"
    tidy.loc[of_seed & (tidy["labels"] == 2000), "accuracy"] = (
        0.4  # below what random queries have at 1,000: 1,000 labels lost, or more
    )
    found = saved.saved(tidy, A, RANDOM, saved.LABELS).iloc[0]
    assert (found["more"], found["less"], found["mean"]) == (0, 1, pytest.approx((500 + 500 - 1000) / 3))
    assert tables.saved_cell(found) == "≤ 0 (1 of 3)"
    tidy.loc[(tidy["arm"] == f"{A}-s2") & (tidy["cycle"] == 1), "accuracy"] = 0.95
    found = saved.saved(tidy, A, RANDOM, saved.LABELS).iloc[0]
    assert tables.saved_cell(found) == "not known (1 above, 1 below)"


def test_at_the_last_budget_of_random_queries_there_is_no_interval() -> None:
    tidy = study([0, 0, 0], **CURVES)
    rows = (tidy["group"] == A) & (tidy["labels"] == 3000)
    tidy.loc[rows, "accuracy"] -= np.array([0.02, 0.04, 0.06])[tidy.loc[rows, "seed"]]
    found = saved.saved(tidy, A, RANDOM, saved.LABELS).iloc[1]
    assert (found["mean"], found["low"]) == (pytest.approx(-200), None)


def test_runs_of_another_pytorch_are_no_pairs() -> None:
    tidy = study([0, 0.1, 0.2], **CURVES)
    tidy.loc[tidy["group"] == A, "torch"] = "2.11.0"
    assert saved.saved(tidy, A, RANDOM, saved.LABELS).empty


def test_two_seeds_show_no_labels_saved() -> None:
    (found, _) = saved.saved(study([0, 0], **CURVES), A, RANDOM, saved.LABELS).iloc
    assert tables.saved_cell(found) == "–"


def test_a_seed_that_one_arm_lacks_is_left_out() -> None:
    tidy = study([0, 0, 0, 0], **CURVES)
    tidy = tidy[tidy["arm"] != f"{RANDOM}-s2"]
    tidy.loc[tidy["seed"] == 3, "first_set"] = tidy["group"]
    assert saved.saved(tidy, A, RANDOM, saved.LABELS)["seeds"].tolist() == [2, 2]


def test_each_arm_is_held_against_the_random_arm_of_its_own_network_and_optimizer() -> None:
    names = [A, RANDOM, "resnet50-adam", "resnet50-adam-random", "resnet18-sgd", "resnet18-adam-badge"]
    names += ["resnet18-adam-random_without_module", "resnet18-adam-badge-lr0.1", "resnet18-adam-chosen_by_sgd"]
    tidy = tidy_of({name: [0.5, 0.6] for name in names})
    tidy.loc[tidy["group"].str.contains("badge|without"), "loss_spearman"] = np.nan
    tidy.loc[tidy["group"].str.contains("chosen"), "strategy"] = "replay"
    assert saved.beside_random(tidy) == {
        A: RANDOM,
        "resnet50-adam": "resnet50-adam-random",
        "resnet18-adam-badge": "resnet18-adam-random_without_module",  # which trains no module either
        "resnet18-adam-chosen_by_sgd": RANDOM,
    }


def test_each_cold_start_has_the_random_arm_that_begins_with_it() -> None:
    names = [f"resnet18-{query}-{first}" for query in ("random", "typiclust") for first in ("random", "typiclust")]
    tidy = tidy_of({name: [0.5, 0.6] for name in names})
    tidy["strategy"] = tidy["group"].str.split("-").str[1]
    assert saved.beside_random(tidy) == {
        "resnet18-typiclust-random": "resnet18-random-random",
        "resnet18-typiclust-typiclust": "resnet18-random-typiclust",
    }


def test_passes_saved_count_all_images_so_far() -> None:
    names = ["resnet18-adam-fresh", "resnet18-adam-continue", "resnet18-adam-badge-continue"]
    tidy = tidy_of({name: [0.5, 0.7, 0.8] for name in names}, spread=0)
    starts = tidy["group"].str.rsplit("-", n=1).str[1]
    tidy = tidy.assign(settings=tidy["settings"] + " initialisation=" + starts)
    assert saved.beside_fresh(tidy) == {names[1]: names[0]}
    # Anew 100, 200 and 300 thousand images a cycle; carried over 100, 50 and 50 thousand.
    tidy["training_images"] = np.select(
        [starts == "fresh", tidy["cycle"] == 0], [100_000 * (tidy["cycle"] + 1), 100_000], 50_000
    )
    table = saved.saved(tidy, names[1], names[0], saved.PASSES)
    assert table["mean"].tolist() == [300_000 - 150_000, 600_000 - 200_000]
    (row,) = tables.passes_table(tidy).to_numpy().tolist()
    assert row == ["ResNet-18 Adam, continue beside ResNet-18 Adam, fresh", "+150,000", "+400,000"]


def test_the_first_table_has_labels_saved_or_a_sentence() -> None:
    table = page.summary_table(study([0, 0.1, 0.2], **CURVES))
    assert table["labels saved at a budget of", "2,000"].tolist() == ["+500", "–"]
    assert table["labels saved at a budget of", "3,000"].tolist() == ["0", "–"]
    assert list(page.summary_table(tidy_of({A: [0.5, 0.6]})))[:3] == ["arm", "seeds", "accuracy at the end"]
