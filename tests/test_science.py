"""A run on digits learns, and every figure that it reports is worked out again from its trained networks."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from lab import params
from lab.data import labelled, prepared
from lab.data.dataset import Dataset
from lab.data.sets import digits
from lab.host import Host
from lab.training import learner
from lab.training.learner import Learner
from stages import cold_start, cycle
from tests.conftest import ROOT, write_params

COLD_START, QUERY, CYCLES = 200, 100, 2
DEMO = {
    "width": 8,
    "cold_start": COLD_START,
    "numerics": {"precision": "float32", "compile": False},
    "training": {
        "epochs": 15,
        "batch_size": 16,
        "min_updates": 0,
        "crop_padding": 2,
        "flip": False,
    },
    "loss_prediction": {"hidden": 32, "margin": 1.0, "weight": 1.0, "detach_at": 0.6},
    "query": {"labels": QUERY, "pool_subset": None},
    "target_accuracy": 0.9,
}


class Cycle(NamedTuple):
    """result: as reported. labelled, acquired: indices, absolute. initial, model: before and after training."""

    result: dict
    labelled: np.ndarray
    acquired: np.ndarray
    scores: np.ndarray
    initial: Learner
    model: Learner


class Outputs(NamedTuple):
    """Of a network and its module, without the code that the cycle predicts with."""

    logits: np.ndarray
    predicted_loss: np.ndarray
    true_loss: np.ndarray


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = tmp_path_factory.mktemp("raw")
    digits.fetch(raw, Host())
    return digits.read(raw, Host())


@pytest.fixture(scope="module")
def cycles(images: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cycle]]:
    """A cold start and two cycles of loss prediction."""
    models, build = [], learner.build

    def kept(*given: object, **named: object) -> Learner:
        model = build(*given, **named)
        models.append((deepcopy(model), model))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        patch.setenv("AL_LAB_DEVICE", "cpu")
        patch.setattr(learner, "build", kept)
        prepared.write(images)
        values = params.read(ROOT / "params.yaml")
        sgd = values["optimizers"]["sgd"] | {"lr": 0.05}
        chosen = {"protocol": "demo", "dataset": "digits", "strategy": "loss_prediction", "optim": "sgd"}
        write_params({**values, **chosen, "optimizers": {"sgd": sgd}, "protocols": {"demo": DEMO}})
        cold_start.main(Host())
        for number in range(CYCLES):
            cycle.main(Host(), str(number))
        pools = [labelled.read(labelled.path_of(number)) for number in range(CYCLES + 1)]
        results = json.loads(Path(f"metrics/history/{CYCLES}.json").read_text())
        yield [
            Cycle(
                results[number],
                pools[number]["index"].to_numpy(),
                pools[number + 1]["index"].to_numpy()[len(pools[number]) :],
                pools[number + 1]["score"].to_numpy()[len(pools[number]) :],
                *models[number],
            )
            for number in range(CYCLES)
        ]


def outputs(model: Learner, images: Dataset, pixels: np.ndarray, labels: np.ndarray) -> Outputs:
    shares = images.train.images / 255
    normal = (pixels / 255 - shares.mean(axis=(0, 1, 2))) / shares.std(axis=(0, 1, 2))
    model.network.eval()
    with torch.no_grad():
        logits, features = model.network(torch.from_numpy(normal.transpose(0, 3, 1, 2).astype(np.float32)))
        losses = torch.nn.CrossEntropyLoss(reduction="none")(logits, torch.from_numpy(labels))
        return Outputs(logits.numpy(), model.module(features).numpy(), losses.numpy())


def on_test(one: Cycle, images: Dataset) -> Outputs:
    return outputs(one.model, images, *images.test)


def test_accuracy_rises_far_above_what_a_broken_pipeline_gives(cycles: list[Cycle]) -> None:
    first, second = (one.result["accuracy"] for one in cycles)
    assert first > 0.8
    assert second > 0.9


def test_accuracy_is_the_share_of_test_images_whose_highest_logit_is_their_label(
    cycles: list[Cycle], images: Dataset
) -> None:
    for one in cycles:
        logits = on_test(one, images).logits
        correct = sum(row[label] == max(row) for row, label in zip(logits, images.test.labels, strict=True))
        # one image may be a tie but for rounding
        assert one.result["accuracy"] == pytest.approx(correct / 500, abs=0.0021)
        assert (one.result["judged_on"], one.result["judged_images"]) == ("test", 500)


def test_accuracy_is_that_of_images_never_trained_on(cycles: list[Cycle], images: Dataset) -> None:
    for one in cycles:
        pixels, labels = images.train.images[one.labelled], images.train.labels[one.labelled]
        trained = (outputs(one.model, images, pixels, labels).logits.argmax(axis=1) == labels).mean()
        assert trained > one.result["accuracy"] + 0.005


def test_predicted_loss_ranks_true_loss(cycles: list[Cycle], images: Dataset) -> None:
    for one in cycles:
        _, predicted, true = on_test(one, images)
        assert spearmanr(predicted, true).statistic > 0.25
        higher = predicted[:, None] > predicted[None]
        right = higher == (true[:, None] > true[None])
        pairs = np.triu_indices(500, k=1)
        assert one.result["loss_spearman"] == pytest.approx(spearmanr(predicted, true).statistic, abs=1e-3)
        assert one.result["loss_pair_accuracy"] == pytest.approx(right[pairs].mean(), abs=1e-3)


def test_the_images_of_highest_predicted_loss_are_queried(cycles: list[Cycle], images: Dataset) -> None:
    for one in cycles:
        pool = np.setdiff1d(np.arange(1297), one.labelled)
        predicted = outputs(one.model, images, images.train.images[pool], images.train.labels[pool]).predicted_loss
        order = np.argsort(-predicted)
        # the very last places may change by rounding
        assert len(set(pool[order[:QUERY]]) ^ set(one.acquired)) <= 4
        np.testing.assert_allclose(one.scores, predicted[order[:QUERY]], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("part", ["network", "module"])
def test_every_layer_is_trained(cycles: list[Cycle], part: str) -> None:
    for one in cycles:
        before, after = (dict(getattr(model, part).named_parameters()) for model in (one.initial, one.model))
        # The ranking loss sees differences alone, in which the last bias cancels.
        moved = {name for name in before if (after[name] - before[name]).abs().max() > 1e-3}
        assert set(before) - moved <= {"head.bias"}
