"""Measures of unequal classes, by hand and by another way."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score

from lab.measures import by_class
from stages.summarise import summarise


def logits_of(predicted: list[int], classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predicted] * 3


def test_a_network_that_always_says_the_large_class() -> None:
    found = by_class.measures(logits_of([0] * 10, 3), np.array([0] * 9 + [1]))
    assert found["accuracy_by_class"] == [1.0, 0.0, None]
    assert found["balanced_accuracy"] == 0.5
    # F1 of class 0 is 18 / 19, of class 1 zero; class 2 has no image.
    assert found["macro_f1"] == pytest.approx(9 / 19)


def test_against_other_ways() -> None:
    draw = np.random.default_rng(0)
    labels, logits = draw.integers(0, 4, 200), draw.normal(size=(200, 4)).astype(np.float32)
    found, predicted = by_class.measures(logits, labels), logits.argmax(axis=1)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    shares = [(predicted[labels == label] == label).mean() for label in range(4)]
    assert found["accuracy_by_class"] == pytest.approx(shares)
    hits = np.array([((predicted == c) & (labels == c)).sum() for c in range(4)])
    sizes = np.bincount(labels, minlength=4) + np.bincount(predicted, minlength=4)
    assert found["macro_f1"] == pytest.approx((2 * hits / sizes).mean())


def test_calibration_error_by_its_definition() -> None:
    draw = np.random.default_rng(1)
    labels, logits = draw.integers(0, 3, 500), 2 * draw.normal(size=(500, 3)).astype(np.float32)
    confidence = softmax(logits.astype(float), axis=1).max(axis=1)
    right = logits.argmax(axis=1) == labels
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert by_class.calibration_error(logits, labels) == pytest.approx(expected)
    assert expected > 0.1


def test_a_sure_network_that_is_half_right() -> None:
    logits = logits_of([0] * 8, 2) * 100
    assert by_class.calibration_error(logits, np.array([0, 1] * 4)) == pytest.approx(0.5)
    assert by_class.calibration_error(logits, np.zeros(8, np.int64)) == pytest.approx(0)


def test_too_sure_and_too_unsure_do_not_cancel() -> None:
    sure, unsure = logits_of([0] * 8, 2) * 100, logits_of([0] * 8, 2) * 0.1
    labels = np.array([0, 1] * 4 + [0] * 8)
    confidence = softmax(unsure[0].astype(float)).max()
    expected = (0.5 + 1 - confidence) / 2
    assert by_class.calibration_error(np.concatenate([sure, unsure]), labels) == pytest.approx(expected)


def test_they_are_shown_of_the_last_cycle() -> None:
    measured = {name: 0.25 for name in by_class.NAMES}
    rows = [
        {
            "cycle": 0,
            "labels": 10,
            "accuracy": 0.5,
            "judged_images": 9,
            "parameters": 3,
            **measured,
            "accuracy_by_class": [0.5],
        }
    ]
    summary, curve = summarise([*rows, {**rows[0], "cycle": 1, "labels": 20, "macro_f1": 0.75}], 0.9)
    assert [summary[name] for name in by_class.NAMES] == [0.25, 0.75, 0.25]
    assert curve["macro_f1"].tolist() == [0.25, 0.75]
