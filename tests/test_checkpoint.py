"""Checkpoints: training that was stopped anywhere goes on to the same bits, and nothing else is loaded."""

import errno
import hashlib
import io
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.process.ending import BadInput
from lab.process.interruption import Interrupted, Interruption
from lab.training import checkpoint as checkpoints
from lab.training import device as devices
from lab.training.checkpoint import Checkpoint, key_of, scratch_folder
from tests.test_precision import CPU, Small
from tests.test_training import fit, same


class StopAfter(Interruption):
    """A signal that comes after so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.left = batches

    def check(self, kept: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted(signal.SIGTERM, kept)

    @property
    def is_requested(self) -> bool:
        return self.left == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
@pytest.mark.parametrize("stop", range(1, 13))
def test_training_goes_on_from_any_batch_to_the_same_bits(tmp_path: Path, stop: int, optimizer: str) -> None:
    # Three batches and the end of the epoch are four chances an epoch; rate and detachment change in between.
    def run(interruption: Interruption | None):
        kept = interruption and Checkpoint(tmp_path / "a.pt", "key", interruption)
        return fit(epochs=3, lr_drop_epoch=1, detach_epoch=2, optimizer=optimizer, checkpoint=kept)

    network, module, epochs = run(None)
    with pytest.raises(Interrupted, match="stopped by SIGTERM: training is kept in"):
        run(StopAfter(stop))
    resumed, resumed_module, rest = run(Interruption())
    assert same(resumed, network)
    assert same(resumed_module, module)
    assert (tmp_path / "a.pt").exists(), "kept until the cycle's outputs are safe"
    assert rest == epochs[stop // 4 :]


@pytest.mark.skipif(not devices.can_compile(CPU), reason="no C++ compiler")
def test_compiled_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def run(interruption: Interruption | None):
        torch._dynamo.reset()  # compiled anew, as in a process of its own
        torch.manual_seed(0)
        kept = interruption and Checkpoint(tmp_path / "a.pt", "key", interruption)
        return fit(network=Small(), epochs=3, detach_epoch=1, is_compiled=True, checkpoint=kept)

    network, module, epochs = run(None)
    with pytest.raises(Interrupted):
        run(StopAfter(6))  # two batches into the second epoch
    resumed, resumed_module, rest = run(Interruption())
    assert same(resumed, network)
    assert same(resumed_module, module)
    assert rest == epochs[1:]


def saved(path: Path, key: str = "key") -> bytes:
    Checkpoint(path, key, Interruption()).save({"tensor": torch.arange(3)})
    return path.read_bytes()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path / "a.pt")
    state = Checkpoint(tmp_path / "a.pt", "key", Interruption()).load()
    assert state["tensor"].tolist() == [0, 1, 2]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_no_checkpoint_is_none_and_removing_it_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path / "a.pt", "key", Interruption())
    assert checkpoint.load() is None
    checkpoint.remove()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [0, 5, 32, 40, -1])
def test_a_truncated_checkpoint_is_ignored(tmp_path: Path, cut: int, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(saved(path)[:cut])
    assert Checkpoint(path, "key", Interruption()).load() is None
    assert f"warning: {path} is ignored, it is truncated or damaged" in capsys.readouterr().err


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    content = saved(path)
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert Checkpoint(path, "key", Interruption()).load() is None


def test_a_foreign_checkpoint_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "a.pt"
    saved(path, key="another")
    assert Checkpoint(path, "key", Interruption()).load() is None
    assert "it belongs to another training; the cycle starts over" in capsys.readouterr().err


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_no_object_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for payload in (pickle.dumps({"key": "key", "bomb": Bomb()}), torch_saved({"key": "key", "bomb": Bomb()})):
        # With the right digest, as only somebody who means it would write.
        Path("a.pt").write_bytes(hashlib.sha256(payload).digest() + payload)
        assert Checkpoint(Path("a.pt"), "key", Interruption()).load() is None
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
    network, _, _ = fit(checkpoint=Checkpoint(tmp_path / "a.pt", "key", Interruption()))
    assert same(network, fit()[0])
    assert "warning: no checkpoint" in capsys.readouterr().err


def test_due_after_an_epoch_unless_that_is_dear_and_within_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(checkpoints, "monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path / "a.pt", "key", Interruption())
    made = []

    def offer(seconds: float, is_epoch_done: bool) -> bool:
        nonlocal now
        now = 1000 + seconds
        before = len(made)
        checkpoint.offer(lambda: made.append(1) or {}, is_epoch_done)
        return len(made) > before

    assert not offer(29, is_epoch_done=False)
    assert offer(29, is_epoch_done=True)
    checkpoint.cost = 2.0
    assert not offer(29 + 29, is_epoch_done=True), "saving every 29 s would cost more than 2 %"
    assert offer(29 + 101, is_epoch_done=True)
    assert offer(29 + 101 + 31, is_epoch_done=False)


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


def test_the_key_tells_code_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "batches.py"
    keys = []
    for text in ("one", "another"):
        file.write_text(text)
        monkeypatch.setattr("lab.training.batches.__file__", str(file))
        keys.append(key_of({}, {}, []))
    assert keys[0] != keys[1]


def test_scratch_lies_beside_the_project_also_for_a_temporary_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / ".dvc/tmp/exps/standalone/tmpabc"
    temporary.mkdir(parents=True)
    for folder in (tmp_path, temporary):
        monkeypatch.chdir(folder)
        assert scratch_folder() == tmp_path / "scratch"
    monkeypatch.setenv("AL_LAB_SCRATCH", "/shared/scratch")
    assert scratch_folder() == Path("/shared/scratch")
    monkeypatch.setenv("AL_LAB_SCRATCH", "scratch")
    with pytest.raises(BadInput, match="AL_LAB_SCRATCH = 'scratch': must be an absolute path"):
        scratch_folder()


def test_training_that_goes_on_counts_the_seconds_before(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a.pt", "key", Interruption())
    fit(checkpoint=checkpoint)
    state = checkpoint.load()
    assert state["spent"][0] > 0
    checkpoint.save({**state, "spent": (1000.0, 7.0)})
    seconds = []
    fit(checkpoint=checkpoint, on_end=seconds.append)
    (spent,) = seconds
    assert 1000 < spent.training < 1060
    assert spent.compiling == 7


def test_a_signal_on_a_full_disk_says_that_training_is_lost(tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_text("")
    with pytest.raises(Interrupted, match="training up to now is lost"):
        fit(checkpoint=Checkpoint(tmp_path / "no-folder" / "a.pt", "key", StopAfter(2)))
