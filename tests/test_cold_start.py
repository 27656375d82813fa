"""First labelled sets: how each is chosen, and who may look at hidden labels."""

from pathlib import Path

import numpy as np
import pytest

from lab import choices
from lab.data import labelled, prepared
from lab.errors import BadInput
from lab.host import Host
from lab.process import check
from lab.query import hidden
from lab.query.cold_starts import typiclust
from lab.query.first import First
from lab.study import plan
from stages import cold_start
from tests.conftest import POOL_SIZE, ROOT, read_params, write_params
from tests.test_cycle import change
from tests.test_params import SHIPPED, refusal_of

COLD_STARTS = choices.names("query/cold_starts")
PARAMS = (ROOT / "params.yaml").read_text()


def first(images: np.ndarray, k: int, pool: np.ndarray | None = None, classes: int = 3) -> First:
    pool = np.arange(len(images)) if pool is None else pool
    return First(k, pool, images, np.random.default_rng(0), lambda asked: asked % classes)


def chosen_by(name: str, *args: object) -> list[int]:
    return choices.load("query/cold_starts", name).choose(first(*args)).tolist()


def noise(count: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", COLD_STARTS)
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_every_cold_start_chooses_k_different_images_of_the_pool(name: str) -> None:
    pool = np.arange(2, 30, 2)
    for images in (noise(30), np.zeros_like(noise(30)), noise(30, 32)):
        for k in (1, 5, len(pool)):
            found = chosen_by(name, images, k, pool)
            assert len(set(found)) == len(found) == k
            assert set(found) <= set(pool.tolist())
            assert found == chosen_by(name, images, k, pool)


@pytest.mark.parametrize("name", COLD_STARTS)
def test_the_stage_labels_what_its_cold_start_chooses(laboratory: Path, name: str) -> None:
    change(cold_start_strategy=name, allow_oracle=True)
    cold_start.main(Host())
    pool = labelled.read(labelled.path_of(0))
    labelled.check(pool, labelled.path_of(0), POOL_SIZE, [6])
    if name == "cheating_class_balanced":
        train = prepared.read_split("train")
        assert np.bincount(train.labels[pool["index"]]).max() == 1


def test_a_first_set_larger_than_the_pool_is_refused(laboratory: Path) -> None:
    values = read_params()
    values["protocols"]["demo"]["cold_start"] = POOL_SIZE + 1
    write_params(values)
    with pytest.raises(BadInput, match=rf"demo\.cold_start = {POOL_SIZE + 1}: must be {POOL_SIZE} or less"):
        cold_start.main(Host())


def test_classes_are_balanced_as_far_as_they_go() -> None:
    found = chosen_by("cheating_class_balanced", noise(30), 8)
    assert sorted(np.bincount(np.array(found) % 3).tolist()) == [2, 3, 3]
    # of one class there are two images alone
    found = chosen_by("cheating_class_balanced", noise(60), 12, np.array([0, 3, *range(1, 60, 3), *range(2, 60, 3)]))
    assert np.bincount(np.array(found) % 3).tolist() == [2, 5, 5]


def test_typiclust_labels_the_middle_of_each_cluster_the_largest_first() -> None:
    middles = np.repeat([200, 20, 110], [60, 140, 100])
    grey = np.uint8(middles + np.resize([-9, -6, -3, 0, 3, 6, 9, 0, 0, 0], 300))
    images = np.zeros((300, 16, 16, 3), dtype=np.uint8) + grey[:, None, None, None]
    assert grey[chosen_by("typiclust", images, 3)].tolist() == [20, 110, 200]


def test_pixels_are_averaged() -> None:
    images = noise(2)
    found = typiclust.averaged(images).reshape(2, 8, 8, 3)
    np.testing.assert_allclose(found[1, 2, 5], images[1, 4:6, 10:12].mean(axis=(0, 1)), rtol=1e-5)


def test_nobody_else_sees_hidden_labels() -> None:
    labels = np.array([4, 5, 6])
    assert hidden.labels_for("cheating_true_loss", labels)(np.array([2, 0])).tolist() == [6, 4]
    with pytest.raises(PermissionError, match="entropy looks at hidden labels: its name must begin with cheating_"):
        hidden.labels_for("entropy", labels)(np.array([0]))


RUN = {"dataset": "cifar10", "strategy": "cheating_true_loss", "sets": [f"{number:032x}" for number in range(11)]}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"strategy": "cheating_true_loss"}, "strategy = 'cheating_true_loss'"),
        ({"cold_start_strategy": "cheating_class_balanced"}, "cold_start_strategy = 'cheating_class_balanced'"),
        ({"strategy": "replay", "replay": RUN}, "replay.strategy = 'cheating_true_loss'"),
    ],
)
def test_what_looks_at_hidden_labels_needs_permission(settings: dict, key: str) -> None:
    assert refusal_of(SHIPPED | settings) == [
        f"{key}: looks at hidden labels, as nobody can; it needs allow_oracle: true"
    ]
    check.check(SHIPPED | settings | {"allow_oracle": True})
    check.check(SHIPPED | {"allow_oracle": True})


def test_an_unknown_cold_start_is_refused_with_the_nearest() -> None:
    (line,) = refusal_of(SHIPPED | {"cold_start_strategy": "typclust"})
    assert line.endswith("choose from cheating_class_balanced, random, typiclust (did you mean typiclust?)")


@pytest.mark.parametrize("shipped", [PARAMS, PARAMS.replace("allow_oracle: false", "allow_oracle: true")])
def test_a_study_says_for_itself_that_it_cheats(tmp_path: Path, shipped: str) -> None:
    path = tmp_path / "study.yaml"
    text = "protocol: demo\ndataset: digits\nseeds: [0]\narms: {strategy: [cheating_true_loss]}\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="looks at hidden labels, as nobody can; it needs allow_oracle: true"):
        plan.read(path, shipped)
    path.write_text(text + "allow_oracle: true\n")
    (arm,) = plan.read(path, shipped)
    assert arm.params["allow_oracle"] is arm.settings["allow_oracle"] is True
    assert "allow_oracle" not in plan.read_by(arm.params)


def test_arms_share_a_prefix_where_they_begin_alike(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "protocol: demo\ndataset: digits\nseeds: [0]\n"
        "arms: {cold_start_strategy: [random, typiclust], strategy: [random, entropy]}\n"
    )
    arms = plan.read(path, PARAMS)
    assert len({arm.prefix for arm in arms}) == 2
