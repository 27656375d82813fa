"""Agreement of successive networks on the stop set."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from lab.data import history, labelled, stop_set
from lab.measures.agreement import kappa
from lab.training.learner import Learner
from stages import cycle
from tests.conftest import POOL_SIZE, RecordingHost, read_params, write_params


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([0, 1, 2, 1], [0, 1, 2, 1], 1.0),
        # Agreed on 3 of 4; by chance (2/4)(3/4) + (2/4)(1/4) = 1/2.
        ([0, 0, 1, 1], [0, 0, 0, 1], (3 / 4 - 1 / 2) / (1 - 1 / 2)),
        ([0, 1], [1, 0], -1.0),
        ([2, 2], [2, 2], None),
        ([], [], None),
    ],
)
def test_kappa_by_hand(before: list[int], after: list[int], expected: float | None) -> None:
    assert kappa(np.array(before, dtype=np.int64), np.array(after, dtype=np.int64)) == pytest.approx(expected)


def test_a_cycle_is_compared_with_the_one_before_on_images_without_a_label(
    laboratory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    said = {number: draw.integers(0, 3, POOL_SIZE) for number in (0, 1)}
    predict = Learner.predict

    def made_up(model, images, indices, on_batch, outputs=("logits", "predicted_loss")):
        found = predict(model, images, indices, on_batch, outputs)
        if outputs == ():
            found = found._replace(logits=np.eye(10, dtype=np.float32)[said[number][indices]])
        return found

    monkeypatch.setattr(Learner, "predict", made_up)
    for number in (0, 1):
        cycle.main(RecordingHost(), str(number))
    first, second = history.read(2)
    assert first["agreement"] is None
    left = np.setdiff1d(np.arange(POOL_SIZE), labelled.read(labelled.path_of(1))["index"])
    assert second["agreement"] == cohen_kappa_score(said[0][left], said[1][left])
    assert stop_set.read(2).tolist() == said[1].tolist()


def test_the_stop_set_is_the_same_for_every_seed_and_holds_no_image_that_is_held_out(laboratory: Path) -> None:
    pool = np.arange(0, 9000, 2)
    drawn = stop_set.draw(pool)
    assert len(np.unique(drawn)) == len(drawn) == stop_set.SIZE
    assert np.isin(drawn, pool).all()
    assert not np.array_equal(drawn, pool[: stop_set.SIZE])
    write_params({**read_params(), "validation": 10})
    cycle.main(RecordingHost(), "0")
    assert len(stop_set.read(1)) == POOL_SIZE - 10
