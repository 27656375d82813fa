"""Weights that others trained: loaded without running code, the head replaced, anything else refused."""

import hashlib
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from lab.data import history
from lab.data.prepared import Statistics
from lab.errors import BadInput
from lab.training import learner, published, weights
from lab.training.learner import Learner
from stages import cycle
from tests.conftest import RecordingHost, read_params, write_params

HALF = np.full(3, 0.5, np.float32)
LAYERS = "bn1, conv1, layer1, layer2, layer3, layer4 are loaded, fc begin anew"


def model_of(pixels: int | None = 96, width: int = 64, arch: str = "resnet18") -> Learner:
    return learner.build(
        learner.Shape(arch, width, 8), Statistics(HALF, HALF, ["a", "b", "c"], pixels), torch.device("cpu")
    )


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(model: Learner, path: Path, sha256: str | None = None) -> str:
    return published.load(model, str(path), sha256 or sha256_of(path)[:8])


def refusal(path: Path, model: Learner | None = None, sha256: str | None = None) -> str:
    with pytest.raises(BadInput) as refused:
        load(model or model_of(), path, sha256)
    return str(refused.value)


@pytest.fixture(scope="module")
def resnet18() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.resnet18()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("beside", [False, True])
def test_files_as_they_are_published(tmp_path: Path, resnet18: torch.nn.Module, name: str, beside: bool) -> None:
    state, path = resnet18.state_dict(), tmp_path / name
    if name.endswith("pth"):
        torch.save({"state_dict": state, "epoch": 90} if beside else state, path)
    else:
        save_file(state, path)
    model = model_of()
    head = {name: value.clone() for name, value in model.network.fc.state_dict().items()}
    assert load(model, path) == f"weights of {path}: {LAYERS}"
    found = model.network.state_dict()
    for key, value in state.items():
        assert torch.equal(found[key], head[key[3:]] if key.startswith("fc.") else value), key


def test_the_stem_of_small_images_begins_anew(tmp_path: Path, resnet18: torch.nn.Module) -> None:
    save_file(resnet18.state_dict(), tmp_path / "a.safetensors")
    model = model_of(pixels=32)
    stem = model.network.conv1.weight.clone()
    said = load(model, tmp_path / "a.safetensors")
    assert said.endswith(": bn1, layer1, layer2, layer3, layer4 are loaded, conv1, fc begin anew")
    assert torch.equal(model.network.conv1.weight, stem)
    assert torch.equal(model.network.layer4[1].conv2.weight, resnet18.layer4[1].conv2.weight)


def test_a_network_that_was_kept(tmp_path: Path) -> None:
    kept, model = model_of(width=4), model_of(width=4)
    torch.nn.init.ones_(kept.network.layer1[0].conv1.weight)
    weights.write(tmp_path / "a.safetensors", kept)
    assert load(model, tmp_path / "a.safetensors").endswith(LAYERS)
    assert (model.network.layer1[0].conv1.weight == 1).all()


def test_weights_of_another_network(tmp_path: Path, resnet18: torch.nn.Module) -> None:
    path = tmp_path / "a.pth"
    torch.save(resnet18.state_dict(), path)
    begins = f"{path}: fits another network than arch = "
    assert refusal(path, model_of(width=16)) == (
        f"{begins}'resnet18' of width 16: conv1.weight has (64, 3, 7, 7), and (16, 3, 7, 7) is needed; "
        "choose another arch or width"
    )
    said = refusal(path, model_of(arch="resnet34"))
    assert said.startswith(
        f"{begins}'resnet34' of width 64: layer1.2.conv1.weight is not in it, and (64, 64, 3, 3) is "
    )
    torch.save(models.resnet34().state_dict(), path)
    assert refusal(path) == f"{begins}'resnet18', which has no layer1.2.conv1.weight"
    torch.save({"weight": torch.zeros(3)}, path)
    assert "conv1.weight is not in it" in refusal(path)


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def test_files_that_would_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1), "more": Evil()}, tmp_path / "a.pth")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(Evil()))
    for name in ("a.pth", "b.pkl"):
        said = (
            f"{tmp_path / name}: loading it would run code, for it holds more than tensors; convert it to safetensors"
        )
        assert refusal(tmp_path / name) == said
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_truncated_file(tmp_path: Path, resnet18: torch.nn.Module, name: str) -> None:
    path = tmp_path / name
    (torch.save if name.endswith("pth") else save_file)(resnet18.state_dict(), path)
    before = sha256_of(path)
    path.write_bytes(path.read_bytes()[:1_000_000])
    said = refusal(path, sha256=before[:8])
    assert said.startswith(f"{path}: its SHA-256 begins with {sha256_of(path)[:8]}, and {before[:8]} is named: it is ")
    assert refusal(path).startswith(f"{path}: no weights, or truncated (")
    path.write_bytes(b"")
    assert re.match(f"{re.escape(str(path))}: (no weights, or truncated|loading it would)", refusal(path))
    path.unlink()
    assert refusal(path, sha256="0" * 8) == f"{path}: cannot be read, no such file or directory"


def test_a_cycle_starts_from_a_file(laboratory: Path, capsys: pytest.CaptureFixture) -> None:
    path = laboratory / "a.safetensors"
    kept = learner.build(
        learner.Shape("resnet18", 4, None), Statistics(HALF, HALF, ["a", "b"], None), torch.device("cpu"), seed=5
    )
    weights.write(path, kept)
    values = read_params()
    cycle.main(RecordingHost(), "0")
    anew = history.read(1)
    block = {"start": "file", "path": "a.safetensors", "sha256": sha256_of(path)}
    write_params({**values, "initialisation": "mine", "initialisations": {"mine": block}})
    capsys.readouterr()
    cycle.main(RecordingHost(), "0")
    assert f"weights of {path}: {LAYERS}" in capsys.readouterr().out
    assert history.read(1) != anew
    before = json.dumps(history.read(1))
    block["sha256"] = "0" * 64
    write_params({**values, "initialisation": "mine", "initialisations": {"mine": block}})
    with pytest.raises(BadInput, match="is truncated or another file"):
        cycle.main(RecordingHost(), "0")
    assert json.dumps(history.read(1)) == before, "no output is touched"
