"""Faster ways to the same numbers: rounding, folding, compiling and the fallbacks from them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lab.model import resnet
from lab.model.convolution import Convolution, by_matmul
from lab.model.loss_prediction import LossPrediction
from lab.training import device as devices
from lab.training.batches import Normaliser
from lab.training.learner import Learner, Shape
from lab.training.prediction import Predictions
from tests.conftest import ROOT
from tests.test_model import ARCHITECTURES, network_of
from tests.test_training import CPU, STATISTICS, fit, images, narrow, same


@given(
    count=st.integers(1, 4),
    channels=st.integers(1, 5),
    outgoing=st.integers(1, 5),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    has_bias=st.booleans(),
)
def test_product_of_matrices_is_the_convolution_with_its_gradients(
    count: int, channels: int, outgoing: int, height: int, width: int, has_bias: bool
) -> None:
    def run(convolve):
        generator = torch.Generator().manual_seed(count)
        x = torch.randn(count, channels, height, width, generator=generator, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(outgoing, channels, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        bias = torch.arange(outgoing, dtype=torch.float64) if has_bias else None
        y = convolve(x, weight, bias)
        (y * torch.arange(y.numel()).view(y.shape)).sum().backward()
        return y, x.grad, weight.grad

    for ours, theirs in zip(run(by_matmul), run(lambda x, w, b: F.conv2d(x, w, b, padding=1)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("size", "stride", "pixels"), [(3, 1, 4), (3, 1, 8), (3, 2, 8), (1, 1, 4)])
def test_a_rounded_convolution_is_that_of_rounded_inputs(size: int, stride: int, pixels: int) -> None:
    convolution = Convolution(6, 5, size, stride, torch.bfloat16)
    x = torch.randn(2, 6, pixels, pixels)
    y = convolution(x)
    assert y.dtype == torch.float32
    exact = F.conv2d(x.bfloat16().double(), convolution.weight.bfloat16().double(), stride=stride, padding=size // 2)
    # One rounding to 8 bits at the end: half a unit is 2^-9 of the value.
    torch.testing.assert_close(y.double(), exact, rtol=2**-8, atol=1e-3)
    assert not torch.equal(y.double(), exact)


def test_only_small_images_in_bfloat16_go_by_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr("lab.model.convolution.by_matmul", lambda *given: taken.append(1) or by_matmul(*given))
    for precision, pixels in ((torch.bfloat16, 4), (torch.bfloat16, 8), (torch.float32, 4)):
        Convolution(4, 4, 3, 1, precision)(torch.randn(1, 4, pixels, pixels))
    assert taken == [1]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_folding_keeps_the_function(arch: str) -> None:
    network = network_of(arch, 8)
    network.train()
    for _ in range(3):
        network(torch.randn(8, 3, 32, 32) * 2 + 1)
    network.eval()
    x = torch.randn(4, 3, 32, 32)
    folded = resnet.folded(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    with torch.inference_mode():
        (logits, features), (expected, expected_features) = folded(x), network(x)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4)
    for feature, other in zip(features, expected_features, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-3, atol=1e-4)


def test_folding_in_bfloat16_ranks_the_pool_alike() -> None:
    exact = narrow()
    fit(model=exact, epochs=3)
    rounded = exact._replace(network=network_of("resnet18", 4, torch.bfloat16))
    rounded.network.load_state_dict(exact.network.state_dict())
    pool = images(300).images

    def score(model: Learner) -> Predictions:
        return model.for_scoring().predict(pool, np.arange(300), lambda count: None)

    expected, coarse = score(exact), score(rounded)
    assert coarse.predicted_loss.dtype == coarse.logits.dtype == np.float32
    assert np.corrcoef(expected.predicted_loss, coarse.predicted_loss)[0, 1] > 0.99
    # The module itself is in float32: in bfloat16 its scores would be full of ties.
    assert len(np.unique(coarse.predicted_loss)) > 290


@pytest.mark.parametrize("has_units", [True, False])
def test_bfloat16_falls_back_where_there_are_no_units(
    has_units: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_units)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    expected = torch.bfloat16 if has_units else torch.float32
    assert devices.precision_of("bfloat16", CPU) == expected
    assert devices.precision_of("float32", CPU) == torch.float32
    assert ("precision: float32" in capsys.readouterr().out) != has_units


def test_a_gpu_that_would_emulate_bfloat16_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert devices.precision_of("bfloat16", torch.device("cuda")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert devices.precision_of("bfloat16", torch.device("cuda")) == torch.bfloat16


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    assert not devices.can_compile(CPU)
    assert "not compiled: this machine has no no-such-compiler\n" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    assert not devices.can_compile(CPU)
    assert "no /nowhere/Python.h" in capsys.readouterr().out


def test_training_in_bfloat16_learns_and_repeats() -> None:
    network, _, epochs = fit(precision=torch.bfloat16, epochs=8, lr=0.01)
    assert sum(epoch.loss for epoch in epochs[4:]) < sum(epoch.loss for epoch in epochs[:4])
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert same(network, fit(precision=torch.bfloat16, epochs=8, lr=0.01)[0])


class Small(nn.Module):
    """A network that compiles in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.stage_channels = [4]
        self.conv, self.norm = Convolution(3, 4, 3, 2, torch.float32), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        feature = torch.relu_(self.norm(self.conv(x)))
        return self.fc(feature.mean(dim=(2, 3))), [feature]


def small() -> Learner:
    """A learner that compiles in seconds, always with the same initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Small()
        module = LossPrediction(network.stage_channels, 8)
        return Learner(network, module, Normaliser(STATISTICS, CPU), CPU, Shape("small", 4, 8))


@pytest.mark.skipif(not devices.can_compile(CPU), reason="no C++ compiler")
def test_compiled_training_is_the_same_up_to_rounding_and_repeats() -> None:
    ends = []

    def train(is_compiled: bool) -> tuple[nn.Module, list]:
        # Two whole batches and a smaller last one; the module is detached half-way.
        settings = {"count": 10, "epochs": 4, "detach_at": 0.5, "is_compiled": is_compiled}
        network, _, epochs = fit(model=small(), **settings, on_end=ends.append)
        return network, epochs

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled, epochs = train(True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1, "the detachment compiles nothing anew"
    eager, expected = train(False)
    # running statistics included
    for ours, theirs in zip(compiled.state_dict().values(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert [epoch.loss for epoch in epochs] == pytest.approx([epoch.loss for epoch in expected], rel=1e-3)
    assert same(compiled, train(True)[0])
    assert [0 < spent.compiling < spent.seconds for spent in ends] == [True, False, True]


def test_a_pool_on_disk_does_not_become_resident(tmp_path: Path) -> None:
    # In a process of its own, whose peak is of this alone. 120 MB on disk, of which a batch is held at a time.
    np.lib.format.open_memmap(tmp_path / "pool.npy", "w+", np.uint8, (40_000, 32, 32, 3)).flush()
    script = f"""
import numpy as np, torch
from lab.process.memory import peak_resident_mb
from lab.training.prediction import predict
network = torch.nn.Module()
network.forward = lambda images: (images.mean(dim=(1, 2, 3))[:, None], [])
normalise = lambda images: images.float()
pool = np.load({str(tmp_path / "pool.npy")!r}, mmap_mode="r")
run = lambda count: predict(network, None, pool, np.arange(count), normalise, torch.device("cpu"), lambda n: None)
run(1_000)
before = peak_resident_mb()
assert len(run(40_000).logits) == 40_000
print(peak_resident_mb() - before)
"""
    grown = float(subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True))
    assert grown < 30, "MB, of a file of 123"
