"""Checkpoints: training that was stopped anywhere goes on to the same bits, and nothing else is loaded."""

import errno
import hashlib
import io
import os
import pickle
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.errors import Interrupted
from lab.host import Host
from lab.training import checkpoint as checkpoints
from lab.training import device as devices
from lab.training import optimizers
from lab.training.checkpoint import Checkpoint, key_of
from tests.conftest import RecordingHost
from tests.test_precision import small
from tests.test_training import CPU, HYBRID, SGD, fit, same


def check_resumption(path: Path, stop: int, optimizer: dict) -> None:
    # Three batches and the end of the epoch are four chances an epoch; rate and detachment change in between.
    def run(host: Host | None):
        kept = host and Checkpoint(path, "key", host)
        return fit(epochs=3, drop_at=1 / 3, detach_at=2 / 3, optimizer=optimizer, checkpoint=kept)

    network, module, epochs = run(None)
    with pytest.raises(Interrupted, match="stopped by SIGTERM: training is kept in"):
        run(RecordingHost(stop_after=stop))
    resumed, resumed_module, rest = run(Host())
    assert same(resumed, network)
    assert same(resumed_module, module)
    assert path.exists(), "kept until the cycle's outputs are safe"
    assert rest == epochs[stop // 4 :]


@pytest.mark.parametrize("stop", range(1, 13))
def test_training_goes_on_from_any_batch_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    check_resumption(tmp_path / "a.pt", stop, SGD)


@pytest.mark.parametrize("stop", range(1, 13))
def test_training_goes_on_across_a_switch_of_optimizers(tmp_path: Path, stop: int) -> None:
    # Of nine updates the first four: a switch in the middle of the second epoch.
    assert HYBRID["phases"]["adam"]["until_share"] == 0.45
    check_resumption(tmp_path / "a.pt", stop, HYBRID)


@pytest.mark.parametrize("name", optimizers.classes())
def test_training_goes_on_with_any_optimizer(tmp_path: Path, name: str) -> None:
    check_resumption(tmp_path / "a.pt", 6, {"class": name, "lr": 0.01})


@pytest.mark.skipif(not devices.can_compile(CPU), reason="no C++ compiler")
def test_compiled_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def run(host: Host | None):
        torch._dynamo.reset()  # compiled anew, as in a process of its own
        kept = host and Checkpoint(tmp_path / "a.pt", "key", host)
        return fit(model=small(), epochs=3, detach_at=1 / 3, is_compiled=True, checkpoint=kept)

    network, module, epochs = run(None)
    with pytest.raises(Interrupted):
        run(RecordingHost(stop_after=6))  # two batches into the second epoch
    resumed, resumed_module, rest = run(Host())
    assert same(resumed, network)
    assert same(resumed_module, module)
    assert rest == epochs[1:]


def saved(path: Path, key: str = "key") -> bytes:
    Checkpoint(path, key, Host()).save({"tensor": torch.arange(3)})
    return path.read_bytes()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt")
    state = Checkpoint(tmp_path / "a.pt", "key", Host()).load()
    assert state["tensor"].tolist() == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_no_checkpoint_is_none_and_removing_it_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path / "a.pt", "key", Host())
    assert checkpoint.load() is None
    checkpoint.remove()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [0, 5, 32, 40, -1])
def test_a_truncated_checkpoint_is_ignored(tmp_path: Path, cut: int, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(saved(path)[:cut])
    assert Checkpoint(path, "key", Host()).load() is None
    assert f"warning: {path} is ignored, it is truncated or damaged" in capsys.readouterr().err


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    content = saved(path)
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert Checkpoint(path, "key", Host()).load() is None


def test_a_foreign_checkpoint_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "a.pt"
    saved(path, key="another")
    assert Checkpoint(path, "key", Host()).load() is None
    assert "it belongs to another training; the cycle starts over" in capsys.readouterr().err


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_no_object_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for payload in (pickle.dumps({"key": "key", "bomb": Bomb()}), torch_saved({"key": "key", "bomb": Bomb()})):
        # With the right digest, as only somebody who means it would write.
        Path("a.pt").write_bytes(hashlib.sha256(payload).digest() + payload)
        assert Checkpoint(Path("a.pt"), "key", Host()).load() is None
        assert not Path("exploded").exists()


def torch_saved(state: dict) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_a_full_disk_costs_the_checkpoint_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def full(path: Path, *parts: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoints, "write_bytes", full)
    network, _, _ = fit(checkpoint=Checkpoint(tmp_path / "a.pt", "key", Host()))
    assert same(network, fit()[0])
    assert "warning: no checkpoint" in capsys.readouterr().err


def test_due_after_an_epoch_unless_that_is_dear_and_within_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, takes = 1000.0, 0.0

    def write(path: Path, *parts: bytes) -> None:
        nonlocal now
        now += takes

    monkeypatch.setattr(checkpoints, "monotonic", lambda: now)
    monkeypatch.setattr(checkpoints, "write_bytes", write)
    checkpoint = Checkpoint(tmp_path / "a.pt", "key", Host())
    made = []

    def offer(seconds: float, is_epoch_done: bool) -> bool:
        """So many seconds after the last one was saved."""
        nonlocal now
        now = checkpoint.saved + seconds
        before = len(made)
        checkpoint.offer(lambda: made.append(1) or {}, is_epoch_done)
        return len(made) > before

    assert not offer(29.9, is_epoch_done=False)
    assert offer(30.1, is_epoch_done=False)
    assert offer(0.1, is_epoch_done=True)
    takes = 2.0
    assert offer(0.1, is_epoch_done=True)
    takes = 0.0
    assert not offer(99, is_epoch_done=True), "it would cost more than 2 %"
    assert not offer(99, is_epoch_done=False)
    assert offer(101, is_epoch_done=False)


def test_the_key_tells_params_machines_and_images_apart() -> None:
    params, machine = {"seed": 0, "training": {"epochs": 3}}, {"threads": 2}
    images = np.zeros((2, 3), dtype=np.uint8)
    key = key_of(params, machine, [images])
    assert key == key_of(dict(params), dict(machine), [images.copy()])
    others = [
        ({**params, "seed": 1}, machine, [images]),
        ({**params, "training": {"epochs": 4}}, machine, [images]),
        (params, {"threads": 1}, [images]),
        (params, machine, [images + np.uint8(1)]),
        (params, machine, [images.reshape(3, 2)]),
        (params, machine, [images.astype(np.int8)]),
    ]
    assert len({key, *(key_of(*other) for other in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("module", "is_told_apart"),
    [("lab.training.batches", True), ("lab.query.selection", True), ("lab.process.check", False)],
)
def test_the_key_tells_code_apart_that_computes(
    module: str, is_told_apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "module.py"
    import_module(module)
    keys = []
    for text in ("one", "another"):
        file.write_text(text)
        monkeypatch.setattr(f"{module}.__file__", str(file))
        keys.append(key_of({}, {}, []))
    assert (keys[0] != keys[1]) == is_told_apart


def test_training_that_goes_on_counts_the_seconds_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a.pt", "key", Host())
    fit(checkpoint=checkpoint)
    state = checkpoint.load()
    seconds, _, before = state["trained"]
    assert seconds > 0
    checkpoint.save({**state, "trained": (1000.0, 7.0, before)})
    ends = []
    _, _, epochs = fit(checkpoint=checkpoint, on_end=ends.append)
    (trained,) = ends
    assert 1000 < trained.seconds < 1060
    assert trained.compiling == 7
    assert epochs == [], "all of them are done"
    assert [tuple(epoch) for epoch in trained.epochs] == before


def test_a_signal_on_a_full_disk_says_that_training_is_lost(tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("")
    with pytest.raises(Interrupted, match="training up to now is lost"):
        fit(checkpoint=Checkpoint(tmp_path / "no-folder" / "a.pt", "key", RecordingHost(stop_after=2)))
