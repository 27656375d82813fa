"""The benchmark's two sides work, and take turns."""

import os
from collections.abc import Iterator
from contextlib import chdir
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from bench import baseline, machine, overhead, parity, scale, speed, tricks
from bench import ours as bench_ours
from lab.data.sets.cifar10 import VARIABLE
from lab.model import convolution
from lab.process import memory
from lab.training import device as devices
from lab.training import learner, optimizers
from lab.training.train import Recipe
from tests.test_training import CPU, STATISTICS

needs_cifar = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} names no CIFAR-10")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@needs_cifar
@pytest.mark.soak
@pytest.mark.parametrize("task", speed.TASKS)
def test_two_sides_take_turns(task: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    machine.cifar()
    job = speed.Job(task, "resnet18", 64, torch.float32, is_compiled=False)
    row = speed.compare(job, alternations=1, seconds=0)
    assert row["usual"] > 0
    assert row["lowest"] <= row["ratio"] <= row["highest"]
    assert row["ours"] / row["usual"] == pytest.approx(row["ratio"])
    assert row["our_mb"] > 100


@needs_cifar
@pytest.mark.soak
def test_both_loops_learn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = parity.accuracies(0, width=4, epochs=2, precision=torch.float32, is_compiled=False)
    assert result["usual"] > 0.1
    assert result["ours"] > 0.1


@pytest.mark.parametrize("task", ["training", "scoring"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_tensors_of_the_usual_loop_are_contiguous(arch: str, task: str) -> None:
    model = learner.build(learner.Shape(arch, 8, 8), STATISTICS, CPU)
    shapes, strangers = [], []

    def watch(part: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        shapes.append(out.shape)
        strangers.extend(tensor.shape for tensor in (*given, out, part.weight) if not tensor.is_contiguous())

    for part in model.network.modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
            part.register_forward_hook(watch)
    images = TensorDataset(torch.rand(4, 3, 32, 32), torch.arange(4))
    if task == "training":
        recipe = Recipe(1, {"shape": "constant"}, margin=1.0, weight=1.0, detach_at=1.0)
        baseline.train(model, images, recipe, 4, lambda count: None)
        assert all(weight.grad.is_contiguous() for weight in model.network.parameters())
    else:
        baseline.score(model, images, 4, lambda count: None)
    assert len(shapes) == sum(isinstance(part, nn.Conv2d | nn.BatchNorm2d) for part in model.network.modules())
    assert strangers == []


def test_operations_are_counted_as_published() -> None:
    # ResNet-18 with the CIFAR stem: 0.56 G multiply-adds forward; training is three times that.
    assert speed.flops("resnet18", 64, is_training=False) == pytest.approx(1.11e9, rel=0.02)
    assert speed.flops("resnet18", 64, is_training=True) == pytest.approx(3.33e9, rel=0.02)
    network, module, *_ = learner.build(learner.Shape("resnet18", 64, 128), STATISTICS, CPU)
    with FlopCounterMode(display=False) as counter:
        logits, features = network(torch.randn(2, 3, 32, 32))
        (logits.sum() + module(features).sum()).backward()
    assert speed.flops("resnet18", 64, is_training=True) == pytest.approx(counter.get_total_flops() / 2, rel=0.02)


def test_all_batches_of_training_are_whole() -> None:
    assert speed.LABELS % speed.BATCH_SIZE == 0


def test_a_table_is_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench").mkdir()
    machine.publish("name", "Title", pd.DataFrame({"a": [1], "b": ["x"]}), ["a note"])
    lines = (tmp_path / "bench/results/name.md").read_text().splitlines()
    assert lines == ["# Title", "", "| a | b |", "| --- | --- |", "| 1 | x |", "", "- a note"]


@pytest.fixture
def patched() -> Iterator[None]:
    yield
    patch.stopall()


@pytest.mark.usefixtures("patched")
def test_without_a_trick_our_side_does_without() -> None:
    def model() -> learner.Learner:
        return learner.build(learner.Shape("resnet18", 16, 8, torch.bfloat16), STATISTICS, CPU)

    def is_channels_last(tensor: Tensor) -> bool:
        return tensor.is_contiguous(memory_format=torch.channels_last)

    def products(model: learner.Learner) -> bool:
        with patch("lab.model.convolution.by_matmul", wraps=convolution.by_matmul) as by_matmul:
            model.network(torch.rand(2, 3, 32, 32))
        return by_matmul.called

    def facts() -> dict[str, bool]:
        ours = model()
        weight = ours.network.layer1[0].conv1.weight
        images = ours.normalise(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
        return {
            "channels-last": is_channels_last(weight) and is_channels_last(images),
            "one pass": optimizers.build(bench_ours.SGD, [weight]).param_groups[0]["fused"],
            "products": products(ours),
            "folded": isinstance(ours.for_scoring().network.bn1, nn.Identity),
        }

    switches = {
        "channels-last": tricks._contiguous,
        "one pass": tricks._unfused,
        "products": tricks._by_convolution,
        "folded": tricks._unfolded,
    }
    assert all(facts().values())
    for name, do_without in switches.items():
        do_without()
        assert {key for key, value in facts().items() if not value} == {name}
        patch.stopall()
    others = {tricks._from_loader, tricks._given_back, None}
    assert {trick.do_without for trick in tricks.TRICKS} == {*switches.values(), *others}


@pytest.mark.usefixtures("patched")
def test_our_side_alone_keeps_the_memory_that_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(memory, "keep_freed", lambda: done.append("kept"))
    monkeypatch.setattr(devices, "choose", lambda: 1 / 0)  # what comes next
    job = speed.Job("training", "resnet18", 16, torch.float32, is_compiled=False)
    for is_ours, expected in [(True, ["kept"]), (False, [])]:
        done.clear()
        with pytest.raises(ZeroDivisionError):
            speed.work(None, is_ours, job)
        assert done == expected
    with pytest.raises(ZeroDivisionError):
        tricks.work(None, tricks._given_back, job)
    assert done == []


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_trick_is_measured_where_its_two_sides_differ(
    is_compiled: bool, kind: str, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []

    def compare(job: speed.Job, turns: int, seconds: float, without: partial) -> dict:
        jobs.append((job, without.keywords))
        return {"ratio": 1.25, "lowest": 1.1, "highest": 2}

    monkeypatch.setattr(speed, "compare", compare)
    job = speed.Job("", "resnet18", 16, precision, is_compiled)
    cells = {trick.name: tricks.gain(trick, job, torch.device(kind)) for trick in tricks.TRICKS}
    nothing = {
        ("compiled training", not is_compiled),
        ("3×3 convolutions of 4×4 pixels as one product", (precision, kind) != (torch.bfloat16, "cpu")),
        ("batch norms folded, bfloat16 throughout", precision != torch.bfloat16),
        ("batch norms folded", precision != torch.float32),
    }
    assert {name for name, cell in cells.items() if cell == "–"} == {name for name, absent in nothing if absent}
    assert {cell for cell in cells.values() if cell != "–"} == {"**1.25** [1.10–2.00]"}
    for ours, without in jobs:
        differs = without["do_without"] or ours.is_compiled > without["job"].is_compiled
        assert differs and without["job"] == ours._replace(is_compiled=without["job"].is_compiled)
    uncompiled = [without["do_without"] for ours, without in jobs if not ours.is_compiled]
    assert tricks._contiguous in uncompiled
    assert len(uncompiled) == (1 if is_compiled else len(jobs))


@needs_cifar
@pytest.mark.soak
@pytest.mark.usefixtures("patched")
def test_without_the_gather_batches_come_from_a_loader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    machine.cifar()
    tricks._from_loader()
    batches = bench_ours._Batches(torch.zeros(8, 32, 32, 3, dtype=torch.uint8), torch.zeros(8), 4, 4, True)
    batches.on_batch = lambda count: None
    images, labels = next(batches.epoch(0))
    assert (images.shape, images.dtype, len(labels)) == ((4, 3, 32, 32), torch.float32, 4)
    assert images.std() > 0.1


def test_far_more_experiments_than_here_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "EXPERIMENTS", 3)
    found = []
    monkeypatch.setattr(scale, "_timed", lambda count, do: (f"{count}", found.append(do())))
    with chdir(tmp_path):
        scale.begin()
        rows = [*scale._references()]
    assert [count for _, count, _ in rows] == ["3", "3"]
    assert len(set(found[0].values())) == 3, "each has a commit of its own"


def test_the_parts_of_a_run_are_those_of_its_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dvc = tmp_path / "dvc"
    dvc.write_text(
        "#!/bin/sh\nsleep 0.2\necho \"Running stage 'check':\"\nsleep 0.1\n"
        "echo \"Running stage 'cycle@0':\"\nsleep 0.1\nprintf 'half\\r'\n"
        "echo \"Running stage 'cycle@1':\"\nsleep 0.2\necho \"Running stage 'cold_start':\"\n"
    )
    dvc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    stages = overhead._run(tmp_path)
    assert list(stages) == ["before the first stage", "check", "cycle", "cold_start"]
    # Each has its own sleeps at least: a machine that is busy adds to them.
    assert [stages["before the first stage"] >= 0.2, stages["check"] >= 0.1, stages["cycle"] >= 0.3] == [True] * 3


def test_runs_that_were_committed_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = tmp_path / "metrics/costs.csv"
    costs.parent.mkdir()
    costs.write_text("training_seconds,evaluation_seconds,query_seconds\n100,100,100\n")

    def run(clone: Path) -> dict[str, float]:
        with costs.open("a") as file:
            file.write("5,2,1\n6,2,1\n")
        return {"cycle": 20}

    monkeypatch.setattr(overhead, "_run", run)
    stages, seconds = overhead.measure(tmp_path)
    assert (stages, seconds) == ({"cycle": 20}, {"training": 11, "evaluation": 4, "query": 2})
