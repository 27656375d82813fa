"""Training images that are held out: what is judged on them, and that nothing else touches them or the test set."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from lab import choices
from lab.data import labelled, prepared, sizes, validation
from lab.errors import BadInput
from lab.host import Host
from lab.query import replayed
from lab.training.learner import Learner
from lab.training.prediction import Predictions
from stages import cold_start, network
from tests.conftest import CLASSES, POOL_SIZE, TEST_SIZE, RecordingHost
from tests.test_cycle import change, change_protocol, results, run

HELD_OUT = 8
STRATEGIES = [name for name in choices.names("query/strategies") if not replayed.is_asked_by(name)]


@given(st.integers(1, 300), st.data())
def test_held_out_images_and_the_pool_are_all_training_images(pool_size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, pool_size))
    held_out, pool = validation.held_out(count, pool_size), validation.pool(count, pool_size)
    assert len(held_out) == count
    assert held_out.tolist() == sorted(held_out)
    assert sorted([*held_out, *pool]) == list(range(pool_size))
    assert pool.tolist() == sorted(pool)


def test_held_out_images_are_a_fair_draw() -> None:
    held_out = validation.held_out(10_000, 50_000)
    # 2,000 expected in each fifth; five standard deviations are 179
    assert np.abs(np.bincount(held_out // 10_000) - 2000).max() < 179


@pytest.fixture
def searching(laboratory: Path) -> Path:
    """The laboratory with a cold start among what is not held out, and without test images."""
    for name in ("images", "labels"):
        (prepared.FOLDER / f"test_{name}.npy").unlink()
    change(validation=HELD_OUT)
    cold_start.main(Host())
    return laboratory


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, Predictions]]:
    """The images of each call of a network, and what it says of them."""
    calls, predict = [], Learner.predict

    def watched(self: Learner, images: np.ndarray, indices: np.ndarray, *others: object) -> Predictions:
        predictions = predict(self, images, indices, *others)
        calls.append((images[indices], predictions))
        return predictions

    monkeypatch.setattr(Learner, "predict", watched)
    return calls


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pool_subset", [None, 9])
def test_held_out_images_are_in_no_cold_start_and_no_query(
    searching: Path, strategy: str, pool_subset: int | None
) -> None:
    change(strategy=strategy)
    change_protocol("query", pool_subset=pool_subset, labels=9)
    # 6 + 9 + 9 + 8 are all that is not held out
    for number in range(3):
        run(number)
    acquired = labelled.read(labelled.path_of(3))["index"].tolist()
    assert sorted(acquired) == validation.pool(HELD_OUT, POOL_SIZE).tolist()
    assert not {*acquired} & {*validation.held_out(HELD_OUT, POOL_SIZE).tolist()}


def test_every_cold_start_leaves_the_held_out_images(laboratory: Path) -> None:
    change(validation=HELD_OUT)
    held_out, drawn = {*validation.held_out(HELD_OUT, POOL_SIZE).tolist()}, set()
    for seed in range(30):
        change(cold_start_seed=seed)
        cold_start.main(Host())
        drawn |= {*labelled.read(labelled.path_of(0))["index"].tolist()}
    assert drawn == {*range(POOL_SIZE)} - held_out


def test_every_seed_is_judged_on_the_same_images(searching: Path, predicted: list) -> None:
    judged = []
    for seed in (0, 1):
        change(seed=seed, cold_start_seed=seed)
        cold_start.main(Host())
        for number in (0, 1):
            predicted.clear()
            run(number)
            judged.append(predicted[0][0].tobytes())
    assert len({*judged}) == 1


def test_accuracy_and_rank_quality_are_those_of_the_held_out_images(searching: Path, predicted: list) -> None:
    change_protocol("training", epochs=4)
    run(0)
    held_out, train = validation.held_out(HELD_OUT, POOL_SIZE), prepared.read_split("train")
    images, predictions = predicted[0]
    np.testing.assert_array_equal(images, train.images[held_out])
    right = predictions.logits.argmax(axis=1) == train.labels[held_out]
    assert results(0)["accuracy"] == right.mean()
    assert (results(0)["judged_on"], results(0)["judged_images"]) == ("validation", HELD_OUT)
    logits = predictions.logits.astype(np.float64)
    losses = logsumexp(logits, axis=1) - logits[np.arange(HELD_OUT), train.labels[held_out]]
    agree = [
        (predictions.predicted_loss[one] > predictions.predicted_loss[other]) == (losses[one] > losses[other])
        for one in range(HELD_OUT)
        for other in range(one)
    ]
    assert results(0)["loss_pair_accuracy"] == pytest.approx(np.mean(agree))


def test_what_a_run_is_judged_on_is_said(searching: Path, capsys: pytest.CaptureFixture) -> None:
    run(0)
    assert f"cycle 0: 6 labels, validation accuracy {results(0)['accuracy']:.2%}" in capsys.readouterr().out


def test_a_network_is_trained_without_test_images(searching: Path) -> None:
    network.main(RecordingHost(), "0")
    assert Path("data/networks/0.safetensors").exists()


def test_without_held_out_images_the_test_set_is_judged_on(laboratory: Path, predicted: list) -> None:
    run(0)
    np.testing.assert_array_equal(predicted[0][0], prepared.read_split("test").images)
    assert (results(0)["judged_on"], results(0)["judged_images"]) == ("test", TEST_SIZE)
    (prepared.FOLDER / "test_images.npy").unlink()
    with pytest.raises(FileNotFoundError):
        run(0)


def test_training_accuracy_is_that_of_the_last_epoch(laboratory: Path) -> None:
    change_protocol("training", epochs=3)
    training, *_ = run(0).bars
    assert training.figures["accuracy"] == f"{results(0)['training_accuracy']:.1%}"
    assert (results(0)["training_accuracy"] * 6) % 1 == pytest.approx(0)


@pytest.mark.parametrize(
    ("query", "expected"), [(5, [6, 5, 5, 5, 5]), ([5], [6, 5, 5, 5, 5]), ([5, 3, 7], [6, 5, 3, 7, 7])]
)
def test_labels_of_a_query_are_a_number_or_a_list_whose_last_goes_on(
    laboratory: Path, query: sizes.Sizes, expected: list[int]
) -> None:
    assert sizes.acquired(6, query, 5) == expected
    assert [sizes.query_of(query, number) for number in range(4)] == expected[1:]
    change_protocol("query", labels=query)
    for number in range(4):
        run(number)
    counts = labelled.read(labelled.path_of(4))["cycle"].value_counts(sort=False)
    assert counts.tolist() == expected
    assert [results(number)["labels"] for number in range(4)] == np.cumsum(expected[:4]).tolist()
    assert sum(results(3)["acquired_classes"]) == expected[4]
    assert len(results(3)["acquired_classes"]) == CLASSES


def test_a_pool_of_other_queries_is_refused(laboratory: Path) -> None:
    change_protocol("query", labels=[5, 3])
    run(0)
    change_protocol("query", labels=[4, 3])
    with pytest.raises(BadInput, match=r"11 images, more than the 10 of cycle 1 \(6 \+ 4\)"):
        run(1)
