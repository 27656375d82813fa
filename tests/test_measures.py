"""The paper's measures, against values worked by hand."""

import numpy as np
import pytest

from lab.measures.budget import area_under_budget_curve, label_efficiency, labels_to_reach

LABELS = [1000, 2000, 3000]
ACCURACY = [0.5, 0.6, 0.8]


def test_label_efficiency_counts_from_the_cold_start() -> None:
    # (0.6 − 0.5) / 1000 and (0.8 − 0.5) / 2000; nothing was gained yet at the cold start itself
    np.testing.assert_allclose(label_efficiency(LABELS, ACCURACY), [np.nan, 1e-4, 1.5e-4])


def test_label_efficiency_is_negative_where_accuracy_falls() -> None:
    np.testing.assert_allclose(label_efficiency([10, 20], [0.5, 0.4]), [np.nan, -0.01])


def test_area_under_budget_curve() -> None:
    # trapezoids (0.5 + 0.6) / 2 and (0.6 + 0.8) / 2 of equal width: 0.55 and 0.7
    assert area_under_budget_curve(LABELS, ACCURACY) == pytest.approx(0.625)
    # the second of three times the width weighs three times as much: (0.55 + 3 × 0.7) / 4
    assert area_under_budget_curve([1000, 2000, 5000], ACCURACY) == pytest.approx(0.6625)
    assert area_under_budget_curve([1000], [0.5]) is None


@pytest.mark.parametrize(("target", "labels"), [(0.4, 1000), (0.5, 1000), (0.6, 2000), (0.61, 3000), (0.81, None)])
def test_labels_to_reach_a_target(target: float, labels: int | None) -> None:
    assert labels_to_reach(target, LABELS, ACCURACY) == labels


def test_a_target_reached_and_lost_counts_at_first_reach() -> None:
    assert labels_to_reach(0.7, [1, 2, 3], [0.1, 0.7, 0.6]) == 2
