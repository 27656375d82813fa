"""What a CPU cannot show: these tests run where there is a CUDA card, and are the first to run there."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lab.errors import Interrupted
from lab.process import ending
from lab.training import device as devices
from lab.training import learner
from lab.training.batches import TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.learner import Learner, Shape
from stages import cycle
from tests.conftest import Clone, RecordingHost
from tests.test_study_run import RUN, STUDY, write_study
from tests.test_training import STATISTICS, fit, images, same

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
DEVICE = torch.device("cuda")
OPTIMIZERS = {
    "SGD": {"lr": 0.01, "momentum": 0.9, "nesterov": True},
    "Adam": {"lr": 1e-3},
    "AdamW": {"lr": 1e-3},
    "RMSprop": {"lr": 1e-3},
}
WAYS = pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "captured"])
# Batches of 4, the last of 2: whole ones are replayed as a graph, the last one runs without.
COUNT = 30


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    devices.make_deterministic()
    yield
    torch.use_deterministic_algorithms(False)
    torch.compiler.reset()


def fresh() -> Learner:
    """A ResNet-18 of width 8, always with the same initial weights."""
    return learner.build(Shape("resnet18", 8, 8), STATISTICS, DEVICE)


@WAYS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_training_gives_the_same_bits(name: str, is_compiled: bool) -> None:
    optimizer = {"class": name, **OPTIMIZERS[name]}
    first, second = fresh(), fresh()
    seen = [
        fit(model=model, optimizer=optimizer, count=COUNT, epochs=3, is_compiled=is_compiled)[2]
        for model in (first, second)
    ]
    assert seen[0] == seen[1]
    assert same(first.network, second.network)
    pool = images(600).images
    scores = [model.for_scoring().predict(pool, np.arange(600), lambda _: None) for model in (first, second)]
    assert all(np.array_equal(one, other) for one, other in zip(*scores, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_captured_graph_trains_as_without_but_for_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # TF32 rounds so coarsely that another order of additions would show.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    optimizer = {"class": name, **OPTIMIZERS[name]}
    # The module is detached half-way: a graph that kept its first gate, gradients or outputs would go astray.
    eager, captured = (
        fit(model=fresh(), optimizer=optimizer, count=COUNT, epochs=4, detach_at=0.5, is_compiled=is_compiled)
        for is_compiled in (False, True)
    )
    losses = [[epoch.loss for epoch in result[2]] for result in (eager, captured)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-4)


def test_a_wait_for_the_card_is_noticed() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            torch.ones(1, device=DEVICE).item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@WAYS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_waits_for_the_card_within_an_epoch(
    name: str, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch, watched = TrainingBatches.epoch, []

    def watch(self: TrainingBatches, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        batches = epoch(self, seed)
        yield next(batches)  # brings the draws of this epoch to the card
        if seed < 2:  # graphs are captured
            yield from batches
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in batches:
                watched.append(seed)
                yield batch
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(TrainingBatches, "epoch", watch)
    optimizer = {"class": name, **OPTIMIZERS[name]}
    fit(model=fresh(), optimizer=optimizer, count=COUNT, epochs=4, is_compiled=is_compiled)
    assert watched == [2] * 7 + [3] * 7


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_from_a_checkpoint_to_the_same_bits(name: str, tmp_path: Path) -> None:
    optimizer = {"class": name, **OPTIMIZERS[name]}
    whole, stopped = fresh(), fresh()
    fit(model=whole, optimizer=optimizer, count=COUNT, epochs=2)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Interrupted):
        checkpoint = Checkpoint(path, "key", RecordingHost(stop_after=5))
        fit(model=stopped, optimizer=optimizer, count=COUNT, epochs=2, checkpoint=checkpoint)
    resumed = fresh()
    fit(model=resumed, optimizer=optimizer, count=COUNT, epochs=2, checkpoint=Checkpoint(path, "key", RecordingHost()))
    assert same(resumed.network, whole.network)


def test_a_cycle_leaves_no_memory_behind(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_LAB_DEVICE", "cuda")
    allocated = []
    for _ in range(3):
        cycle.main(RecordingHost(), "0")
        gc.collect()
        allocated.append(torch.cuda.memory_allocated())
    # The first one also loads what the libraries keep.
    assert allocated[2] == allocated[1]


def test_too_little_memory_on_the_card_is_one_line(laboratory: Path, capsys: pytest.CaptureFixture) -> None:
    status = ending.status_of(lambda: print(torch.empty(2**45, dtype=torch.uint8, device=DEVICE).shape), cycle="0")
    assert status == 1
    error = capsys.readouterr().err
    assert error.startswith("error: out of memory in cycle 0, with protocols.demo.training.batch_size = 4")
    assert error.count("\n") == 1


@pytest.mark.pipeline
def test_two_arms_share_a_card(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    clone.environment["AL_LAB_DEVICE"] = "cuda"
    write_study(clone, [0.1, 0.05], epochs=3, count=2)
    assert "2 of 2 arms are finished" in clone(*RUN)
    clone("python", "-m", "lab.study", "report", STUDY)
    table = pd.read_csv(clone.folder / "studies/toy/results/tidy.csv")
    assert set(table["device"]) == {torch.cuda.get_device_name()}
    assert (table["peak_memory_mb"] > 0).all()
