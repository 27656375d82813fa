"""One cycle, from a labelled-index file to the next, in miniature."""

import json
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.data import labelled, prepared
from lab.model.resnet import ARCHITECTURES
from lab.process.ending import BadInput
from lab.process.interruption import Interrupted, Interruption
from lab.query.strategies import STRATEGIES
from lab.training.optimizers import OPTIMIZERS
from stages import cycle
from tests.conftest import CLASSES, POOL_SIZE, TEST_SIZE, make_laboratory, read_params, write_params
from tests.test_checkpoint import StopAfter


def run(number: int) -> None:
    """One cycle, whose checkpoint is removed at its end."""
    cycle.run(number, Interruption())()


def change(**changes: object) -> None:
    write_params({**read_params(), **changes})


def change_protocol(block: str, **changes: object) -> None:
    params = read_params()
    params["protocols"]["demo"][block] |= changes
    write_params(params)


def pool_after(number: int) -> pd.DataFrame:
    path = labelled.path_of(number)
    pool = labelled.read(path)
    labelled.check(pool, path, POOL_SIZE, number, cold_start=6, query=5)
    return pool


def results(number: int) -> dict:
    return json.loads((cycle.RESULTS / f"{number}.json").read_text())


@pytest.mark.parametrize(("arch", "optim"), list(product(ARCHITECTURES, OPTIMIZERS)))
def test_every_architecture_with_every_optimizer(laboratory: Path, arch: str, optim: str) -> None:
    change(arch=arch, optim=optim)
    run(0)
    assert np.isfinite(pool_after(1)["score"][6:]).all()
    assert results(0)["labels"] == 6
    assert (results(0)["accuracy"] * TEST_SIZE) % 1 == pytest.approx(0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy(laboratory: Path, strategy: str) -> None:
    change(strategy=strategy)
    run(0)
    scores = pool_after(1)["score"][6:]
    assert scores.is_monotonic_decreasing
    assert (results(0)["module_parameters"] > 0) == STRATEGIES[strategy].trains_module
    assert (results(0)["loss_spearman"] is not None) == STRATEGIES[strategy].trains_module
    # the labels that the oracle gives for what was queried
    labels = prepared.read_split("train").labels[pool_after(1)["index"][6:]]
    assert results(0)["acquired_classes"] == np.bincount(labels, minlength=CLASSES).tolist()


def test_random_controls_query_the_same_images(laboratory: Path) -> None:
    acquired = []
    for strategy in ("random", "random_without_module"):
        change(strategy=strategy)
        run(0)
        acquired.append(pool_after(1))
    pd.testing.assert_frame_equal(*acquired)


def outputs(number: int) -> tuple[str, str]:
    return labelled.path_of(number + 1).read_text(), (cycle.RESULTS / f"{number}.json").read_text()


def test_a_cycle_alone_equals_the_same_cycle_in_a_full_run(
    laboratory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        run(number)
    in_full_run = outputs(2)
    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.chdir(alone)
    make_laboratory()
    shutil.copyfile(laboratory / labelled.path_of(2), labelled.path_of(2))
    run(2)
    assert outputs(2) == in_full_run


@pytest.mark.parametrize(("stop", "during"), [(4, "testing"), (5, "scoring the pool")])
def test_a_signal_after_training_costs_no_training(
    laboratory: Path, capsys: pytest.CaptureFixture, stop: int, during: str
) -> None:
    run(0)
    undisturbed = outputs(0)
    labelled.path_of(1).unlink()
    shutil.rmtree(cycle.RESULTS)
    capsys.readouterr()
    # Two batches and the end of the epoch come before, then one batch is tested and one is scored.
    with pytest.raises(Interrupted, match="stopped by SIGTERM: training is kept in"):
        cycle.run(0, StopAfter(stop))
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"cycle 0, {during}: ")
    assert not labelled.path_of(1).exists()
    run(0)
    assert "going on from the checkpoint: 1 epochs and 0 batches are done" in capsys.readouterr().out
    assert outputs(0) == undisturbed


def test_the_seed_matters(laboratory: Path) -> None:
    run(0)
    before = outputs(0)
    change(seed=1)
    run(0)
    assert outputs(0) != before


def test_a_subset_of_the_pool_is_scored_on_request(laboratory: Path) -> None:
    scored = []
    real = cycle.predict

    def counting(network, module, images, indices, *rest):
        scored.append(len(indices))
        return real(network, module, images, indices, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle, "predict", counting)
        run(0)
        change_protocol("query", pool_subset=8)
        run(0)
    assert scored == [TEST_SIZE, POOL_SIZE - 6, TEST_SIZE, 8]


def test_the_last_query_takes_what_is_left(laboratory: Path) -> None:
    change_protocol("query", labels=17)
    for number in range(3):
        run(number)
    last = pd.read_csv(labelled.path_of(3))
    assert sorted(last["index"]) == list(range(POOL_SIZE))
    assert results(2)["labels"] == POOL_SIZE
    assert len(pd.read_csv(labelled.path_of(2))) == POOL_SIZE


def test_divergence_says_what_diverged_and_leaves_the_files(laboratory: Path) -> None:
    params = read_params()
    params["optimizers"]["adam"]["lr"] = 1e30
    params["protocols"]["demo"]["training"]["epochs"] = 4
    write_params({**params, "optim": "adam"})
    with pytest.raises(BadInput) as error:
        run(0)
    for part in ("the loss is nan in epoch", "of cycle 0", "optim = 'adam'", "optimizers.adam.lr = 1e+30"):
        assert part in str(error.value)
    assert labelled.path_of(0).exists()
    assert not labelled.path_of(1).exists()
    assert not cycle.RESULTS.exists()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_divergence_in_the_very_last_step_is_noticed(laboratory: Path, strategy: str) -> None:
    params = read_params()
    params["optimizers"]["sgd"]["lr"] = 3e38
    params["protocols"]["demo"]["training"]["batch_size"] = 6
    write_params({**params, "strategy": strategy})
    with pytest.raises(BadInput, match="training diverged: outputs are no finite numbers after epoch 1 of cycle 0"):
        run(0)
    assert not cycle.RESULTS.exists()


def test_a_bad_index_file_stops_before_training(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle, "train", None)
    text = labelled.path_of(0).read_text().replace("\n5,0", "\n4,0")
    labelled.path_of(0).write_text(text)
    with pytest.raises(BadInput, match="index 4 stands there twice"):
        run(0)


def test_an_unknown_device_is_refused(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LAB_DEVICE", "tpu")
    with pytest.raises(BadInput, match=r"AL_LAB_DEVICE = 'tpu': choose from .*cpu"):
        run(0)


def test_costs_are_measured_and_kept_apart(laboratory: Path) -> None:
    run(0)
    costs = json.loads((cycle.COSTS / "0.json").read_text())
    assert all(costs[name] > 0 for name in ("training_seconds", "evaluation_seconds", "query_seconds"))
    assert costs["images_per_second"] == pytest.approx(6 / costs["training_seconds"])
    assert 100 < costs["peak_memory_mb"] < 24_000
    assert costs["threads"] >= 1
    assert not set(costs) & set(results(0)) - {"cycle", "labels"}
    assert os.uname().nodename == costs["host"]
