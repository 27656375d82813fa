"""One cycle, from a labelled-index file to the next, in miniature."""

import json
import platform
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from lab import choices
from lab.data import carried, details, history, labelled, prepared, sizes, stop_set
from lab.errors import BadInput, Diverged, Interrupted
from lab.model.resnet import count_flops
from lab.training import checkpoint, learner, of_cycle
from lab.training import device as devices
from lab.training.batches import TrainingBatches
from lab.training.learner import Learner, Shape
from lab.training.prediction import Predictions
from lab.training.train import Recipe
from stages import cycle
from tests.conftest import (
    CLASSES,
    FIRST_LABELLED,
    PIXELS,
    POOL_SIZE,
    TEST_SIZE,
    RecordingHost,
    make_laboratory,
    read_params,
    write_params,
)

ARCHITECTURES, STRATEGIES = choices.names("model/architectures"), choices.names("query/strategies")
OPTIMIZERS = ["sgd", "adam", "adamw", "rmsprop"]


def run(number: int) -> RecordingHost:
    """One cycle, whose checkpoint is removed at its end."""
    host = RecordingHost()
    cycle.main(host, str(number))
    for do in host.when_outputs_are_safe:
        do()
    return host


def change(**changes: object) -> None:
    write_params({**read_params(), **changes})


def change_protocol(block: str, **changes: object) -> None:
    values = read_params()
    values["protocols"]["demo"][block] |= changes
    write_params(values)


def pool_after(number: int) -> pd.DataFrame:
    path = labelled.path_of(number)
    pool = labelled.read(path)
    labelled.check(pool, path, POOL_SIZE, sizes.acquired(6, 5, number + 1))
    return pool


def results(number: int) -> dict:
    return history.read(number + 1)[number]


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
    assert scores.is_monotonic_decreasing or strategy in ("badge", "typiclust")
    trains_module = choices.load("query/strategies", strategy).TRAINS_MODULE
    assert (results(0)["module_parameters"] > 0) == trains_module
    assert (results(0)["loss_spearman"] is not None) == trains_module
    # the labels that the oracle gives for what was queried
    labels = prepared.read_split("train").labels[pool_after(1)["index"][6:]]
    assert results(0)["acquired_classes"] == np.bincount(labels, minlength=CLASSES).tolist()
    ranks = strategy not in ("badge", "coreset", "probcover", "typiclust") and not strategy.startswith("replay")
    assert (len(details.read(0)["losses"]["true"]), len(details.read(0)["lowest"]["index"])) == (
        TEST_SIZE * trains_module,
        16 * ranks,
    )


class Begun(Exception):
    """Training began. Holds what it was given."""

    def __init__(self, model: Learner, batches: TrainingBatches, optimizer: dict, recipe: Recipe, is_compiled: bool):
        super().__init__()
        self.model, self.batches, self.optimizer, self.recipe = model, batches, optimizer, recipe
        self.is_compiled = is_compiled


@pytest.fixture
def untrained(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(model, batches, optimizer, recipe, epoch_seed, on_epoch, checkpoint, *, is_compiled):
        raise Begun(model, batches, optimizer, recipe, is_compiled)

    monkeypatch.setattr(Learner, "fit", fit)


def beginning() -> Begun:
    with pytest.raises(Begun) as begun:
        run(0)
    return begun.value


def test_each_labelled_image_is_trained_on_with_its_own_label(untrained: None) -> None:
    batches, train = beginning().batches, prepared.read_split("train")
    border = batches.padding
    np.testing.assert_array_equal(batches.images[:, border:-border, border:-border], train.images[FIRST_LABELLED])
    assert batches.labels.tolist() == train.labels[FIRST_LABELLED].tolist()


def test_a_checkpoint_belongs_to_one_augmentation(untrained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, statistics = [], prepared.read_statistics()
    monkeypatch.setattr(of_cycle, "key_of", lambda *given: keys.append(checkpoint.key_of(*given)) or keys[-1])
    for flip in (True, False):
        changed = statistics._replace(augmentation=statistics.augmentation._replace(flip=flip))
        monkeypatch.setattr(prepared, "read_statistics", lambda changed=changed: changed)
        beginning()
    assert keys[0] != keys[1]


def test_no_test_image_is_trained_on(untrained: None) -> None:
    batches, test = beginning().batches, prepared.read_split("test")
    border = batches.padding
    trained = {image.numpy().tobytes() for image in batches.images[:, border:-border, border:-border]}
    assert not trained & {image.tobytes() for image in test.images}


def test_training_follows_the_params(untrained: None) -> None:
    change_protocol("training", epochs=7, batch_size=5, crop_padding=3, flip=True)
    change_protocol("loss_prediction", hidden=16, margin=0.25, weight=0.75, detach_at=0.4)
    schedules = {"mine": {"shape": "steps", "drop_at": 0.5, "factor": 0.2}}
    change(optim="rmsprop", arch="resnet34", schedule="mine", schedules=schedules)
    begun = beginning()
    assert begun.recipe == Recipe(epochs=7, schedule=schedules["mine"], margin=0.25, weight=0.75, detach_at=0.4)
    assert begun.optimizer == read_params()["optimizers"]["rmsprop"]
    assert (begun.batches.batch_size, begun.batches.padding, begun.batches.flip) == (5, 3, True)
    assert [len(layer) for layer in (begun.model.network.layer1, begun.model.network.layer4)] == [3, 3]
    assert begun.model.network.stage_channels[0] == 4
    assert begun.model.module.stages[0].out_features == 16
    assert not begun.is_compiled
    change_protocol("training", flip=False)
    assert not beginning().batches.flip


def test_numerics_follow_the_params_and_the_device(untrained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    change_protocol("numerics", precision="bfloat16", compile=True)
    for is_able in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda is_able=is_able: is_able)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        monkeypatch.setattr(devices, "can_compile", lambda device, is_able=is_able: is_able)
        begun = beginning()
        assert begun.is_compiled == is_able
        assert begun.model.network.conv1.precision == (torch.bfloat16 if is_able else torch.float32)


def test_accuracy_and_ranks_by_hand() -> None:
    logits = np.array([[0, 2, 1], [3, 0, 0], [0, 0, 5], [1, 0, 0]], np.float32)
    labels = np.array([1, 0, 1, 0])
    # All but the third are right; the losses of the labels rise from the second to the first, the last and the third.
    for predicted, ranks in (([2, 1, 4, 3], (1, 1)), ([3, 4, 1, 2], (-1, 0))):
        accuracy, found = cycle.measure(Predictions(logits, np.array(predicted, np.float32)), labels)
        assert accuracy == 0.75
        assert found == pytest.approx(ranks)
    assert cycle.measure(Predictions(logits, None), labels) == (0.75, (None, None))


def test_progress_is_shown_to_its_end(laboratory: Path) -> None:
    change_protocol("training", epochs=3)
    training, testing, stopping, scoring = run(0).bars
    assert (training.title, training.total, training.done) == ("cycle 0, 6 labels, training", 3, 3)
    assert set(training.figures) == {"loss", "accuracy"}
    assert (testing.title, testing.total, testing.done) == ("cycle 0, testing", TEST_SIZE, TEST_SIZE)
    assert (stopping.title, stopping.total) == ("cycle 0, predicting the stop set", POOL_SIZE)
    assert (scoring.title, scoring.total, scoring.done) == ("cycle 0, scoring the pool", POOL_SIZE - 6, POOL_SIZE - 6)


def test_details_are_those_of_the_cycle(laboratory: Path) -> None:
    change_protocol("training", epochs=5)
    run(0)
    seen, test = details.read(0), prepared.read_split("test")
    assert seen["classes"] == [str(number) for number in range(CLASSES)]
    assert np.sum(seen["confusion"], axis=1).tolist() == np.bincount(test.labels, minlength=CLASSES).tolist()
    assert np.trace(seen["confusion"]) / TEST_SIZE == results(0)["accuracy"]
    # the drop of the shipped schedule comes after four fifths
    assert seen["training"]["learning_rate"] == [0.1] * 4 + [0.01]
    assert seen["training"]["accuracy"][-1] == pytest.approx(results(0)["training_accuracy"], abs=1e-5)
    assert len(seen["training"]["loss"]) == 5
    assert spearmanr(*seen["losses"].values()).statistic == pytest.approx(results(0)["loss_spearman"])
    acquired, left = pool_after(1)[6:], pd.DataFrame(seen["lowest"])
    assert not set(left["index"]) & set(pool_after(1)["index"])
    assert left["score"].is_monotonic_increasing
    assert left["score"].max() <= acquired["score"].min()


def test_random_controls_query_the_same_images(laboratory: Path) -> None:
    acquired = []
    for strategy in ("random", "random_without_module"):
        change(strategy=strategy)
        run(0)
        acquired.append(pool_after(1))
    pd.testing.assert_frame_equal(*acquired)


def outputs(number: int) -> list[str]:
    paths = labelled.path_of(number + 1), history.path_of(number + 1), details.path_of(number)
    return [path.read_text() for path in paths]


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
    for path in (labelled.path_of(2), carried.path_of(2), stop_set.path_of(2), history.path_of(2)):
        shutil.copyfile(laboratory / path, path)
    run(2)
    assert outputs(2) == in_full_run


@pytest.mark.parametrize(("stop", "during"), [(4, "testing"), (5, "predicting the stop set"), (6, "scoring the pool")])
def test_a_signal_after_training_costs_no_training(
    laboratory: Path, capsys: pytest.CaptureFixture, stop: int, during: str
) -> None:
    run(0)
    undisturbed = outputs(0)
    labelled.path_of(1).unlink()
    history.path_of(1).unlink()
    # Two batches and the end of the epoch come before, then one batch of each is predicted.
    host = RecordingHost(stop_after=stop)
    with pytest.raises(Interrupted, match="stopped by SIGTERM: training is kept in"):
        cycle.main(host, "0")
    assert host.bars[-1].title == f"cycle 0, {during}"
    assert not history.path_of(1).exists()
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
    for subset in (None, 8):
        change_protocol("query", pool_subset=subset)
        scored += [(bar.total, bar.done) for bar in run(0).bars[3:]]
    assert scored == [(size, size) for size in (POOL_SIZE - 6, 8)]


def test_the_pool_is_scored_by_the_folded_network_and_the_test_set_by_the_trained_one(
    laboratory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded, predict = [], Learner.predict

    def watched(self: Learner, *given: object):
        folded.append(not any(isinstance(part, torch.nn.BatchNorm2d) for part in self.network.modules()))
        return predict(self, *given)

    monkeypatch.setattr(Learner, "predict", watched)
    run(0)
    assert folded == [False, False, True]


def test_the_last_query_takes_what_is_left(laboratory: Path) -> None:
    change_protocol("query", labels=17)
    for number in range(3):
        run(number)
    last = pd.read_csv(labelled.path_of(3))
    assert sorted(last["index"]) == list(range(POOL_SIZE))
    assert results(2)["labels"] == POOL_SIZE
    assert len(pd.read_csv(labelled.path_of(2))) == POOL_SIZE


def test_divergence_stops_the_cycle_and_leaves_the_files(laboratory: Path) -> None:
    values = read_params()
    values["optimizers"]["adam"]["lr"] = 1e30
    values["protocols"]["demo"]["training"]["epochs"] = 4
    write_params({**values, "optim": "adam"})
    with pytest.raises(Diverged, match="the loss is nan in epoch"):
        run(0)
    assert labelled.path_of(0).exists()
    assert not labelled.path_of(1).exists()
    assert not history.path_of(1).exists()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_divergence_in_the_very_last_step_is_noticed(laboratory: Path, strategy: str) -> None:
    values = read_params()
    values["optimizers"]["sgd"]["lr"] = 3e38
    values["protocols"]["demo"]["training"]["batch_size"] = 6
    write_params({**values, "strategy": strategy})
    with pytest.raises(Diverged, match="outputs are no finite numbers after the last epoch"):
        run(0)
    assert not history.path_of(1).exists()


def test_a_bad_index_file_stops_before_training(untrained: None) -> None:
    text = labelled.path_of(0).read_text().replace("\n22,0", "\n4,0")
    labelled.path_of(0).write_text(text)
    with pytest.raises(BadInput, match="index 4 is listed twice"):
        run(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"holds the cycles \[\], and should hold \[0\]"),
        ('[{"cycle": 1}]', r"holds the cycles \[1\], and should hold \[0\]"),
        ('[{"cycle": 0}, {"cycle": 1}]', r"holds the cycles \[0, 1\]"),
        ('[{"accuracy": 0.5}]', "no history of 1 cycles"),
        ("[3]", "no history of 1 cycles"),
        ("[", "no history of 1 cycles .*; `dvc repro` computes it again"),
        (None, "no history of 1 cycles"),
    ],
)
def test_a_history_of_other_cycles_stops_before_training(untrained: None, text: str | None, message: str) -> None:
    if text is not None:
        history.path_of(1).write_text(text)
    with pytest.raises(BadInput, match=message) as refusal:
        run(1)
    assert str(history.path_of(1)) in str(refusal.value)


def test_each_history_begins_with_the_one_before(laboratory: Path) -> None:
    for number in range(3):
        run(number)
    histories = [json.loads(history.path_of(number).read_text()) for number in range(4)]
    assert [len(results) for results in histories] == [0, 1, 2, 3]
    assert [result["labels"] for result in histories[3]] == [6, 11, 16]
    assert all(histories[number] == histories[3][:number] for number in range(4))


def test_an_unknown_device_is_refused(untrained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LAB_DEVICE", "tpu")
    with pytest.raises(BadInput, match=r"AL_LAB_DEVICE = 'tpu': choose from .*cpu"):
        run(0)


def test_costs_are_measured_and_kept_apart(laboratory: Path) -> None:
    costs = run(0).costs
    assert all(costs[name] > 0 for name in ("training_seconds", "evaluation_seconds", "query_seconds"))
    assert costs["images_per_second"] == pytest.approx(6 / costs["training_seconds"])
    assert costs["compile_seconds"] == 0
    assert not set(costs) & set(results(0))


def test_results_count_what_was_computed(laboratory: Path) -> None:
    change_protocol("training", epochs=2)
    run(0)
    network, module, *_ = learner.build(Shape("resnet18", 4, 128), prepared.read_statistics(), torch.device("cpu"))
    found = results(0)
    assert found["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert found["module_parameters"] == sum(weight.numel() for weight in module.parameters())
    assert found["training_images"] == 2 * 6
    assert found["flops"] == count_flops(network, PIXELS)


def test_results_say_what_they_were_computed_on(laboratory: Path) -> None:
    run(0)
    measured = {"cycle", "labels", "accuracy", "training_accuracy", "judged_on", "judged_images"}
    measured |= {"loss_spearman", "loss_pair_accuracy", "acquired_classes", "agreement"}
    measured |= {"balanced_accuracy", "macro_f1", "calibration_error", "accuracy_by_class"}
    counted = {"parameters", "module_parameters", "training_images", "flops"}
    machine = {"device", "instructions", "threads", "torch", "cudnn", "python", "precision", "compiled"}
    assert set(results(0)) == measured | counted | machine
    assert (results(0)["judged_on"], results(0)["judged_images"]) == ("test", TEST_SIZE)
    assert results(0)["threads"] == torch.get_num_threads()
    assert results(0)["torch"] == torch.__version__
    assert results(0)["python"] == platform.python_version()
    assert (results(0)["precision"], results(0)["compiled"], results(0)["cudnn"]) == ("float32", False, 0)
    assert results(0)["device"].startswith("cpu ")


def test_the_checkpoint_stays_until_the_outputs_are_safe(laboratory: Path) -> None:
    host = RecordingHost()
    cycle.main(host, "0")
    assert len(list(host.scratch.iterdir())) == 1
    for do in host.when_outputs_are_safe:
        do()
    assert not list(host.scratch.iterdir())
