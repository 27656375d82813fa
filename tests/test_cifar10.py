"""Two cycles of the CPU protocol in miniature, on the real CIFAR-10 files."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from lab import choices, cycles
from lab.data import prepared
from lab.data.sets import cifar10
from tests.conftest import Clone

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        not os.environ.get(cifar10.VARIABLE),
        reason=f"needs CIFAR-10: name its archive or folder in {cifar10.VARIABLE}",
    ),
]


@pytest.mark.parametrize("strategy", [name for name in choices.names("query/strategies") if "replay" not in name])
def test_two_cycles_of_every_strategy(clone: Clone, strategy: str) -> None:
    small = {"width": 4, "training.epochs": 1, "loss_prediction.detach_at": 1, "query.pool_subset": 500}
    chosen = ["protocol=cpu", "schedule=constant", "allow_oracle=true", f"strategy={strategy}", cycles.setting(2)]
    settings = [*(f"protocols.cpu.{key}={value}" for key, value in small.items()), *chosen]
    clone("dvc", "exp", "run", *(part for setting in settings for part in ("-S", setting)), "cycle@1")
    pool = pd.read_csv(clone.folder / "data/labelled/2.csv")
    assert pool["index"].nunique() == len(pool) == 300
    assert np.isfinite(pool["score"][100:]).all()


def test_two_cycles_of_the_cpu_protocol(clone: Clone) -> None:
    small = {
        "width": 8,
        "training.epochs": 1,
        "loss_prediction.detach_at": 1,
        "query.pool_subset": 200,
    }
    chosen = ["protocol=cpu", "schedule=constant", cycles.setting(2)]
    settings = [*(f"protocols.cpu.{key}={value}" for key, value in small.items()), *chosen]
    options = [part for setting in settings for part in ("-S", setting)]
    log = clone("dvc", "exp", "run", *options)
    assert "cycle 1: 200 labels, test accuracy" in log
    assert [result["judged_images"] for result in json.loads(clone.read("metrics/history/2.json"))] == [10_000] * 2
    assert len(pd.read_csv(clone.folder / "data/labelled/2.csv")) == 300

    folder = clone.folder / prepared.FOLDER
    train, test = (prepared.read_split(name, folder) for name in ("train", "test"))
    assert train.images.shape == (cifar10.TRAINING_IMAGES, 32, 32, 3)
    assert len(test.images) == cifar10.TEST_IMAGES
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    statistics = prepared.read_statistics(folder)
    # The figures that the field quotes for CIFAR-10's training images.
    assert statistics.mean.round(4).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-6)
    assert statistics.std.round(4).tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=1e-6)
    assert statistics.classes[:3] == ["airplane", "automobile", "bird"]
