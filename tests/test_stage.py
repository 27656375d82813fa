"""What a stage finds before its work and leaves after it."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from lab.data.sets import cifar10
from lab.errors import BadInput, Interrupted
from lab.host import Host
from lab.process import check, costs, ending, stage, variables
from stages import download
from tests.conftest import ROOT

CURVE = Path("plots/curve.csv")
HISTORY = [{"cycle": 0, "labels": 10, "accuracy": 0.5}]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a function as the stage of a name in an empty folder, with params that pass the check."""
    monkeypatch.chdir(tmp_path)
    for name in (variables.SCRATCH, cifar10.VARIABLE, variables.WARM):
        monkeypatch.delenv(name, raising=False)
    for folder in ("metrics/history", "plots"):
        (tmp_path / folder).mkdir(parents=True)
    Path("params.yaml").write_text("dataset: digits\n")
    monkeypatch.setattr(check, "check_files", lambda *, optimizers: None, raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run_stage(main: Callable, name: str = "toy", *arguments: str) -> int:
        module = ModuleType(f"stages.{name}")
        module.main = main
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return stage.run(name, *arguments)

    yield run_stage
    for number, handler in handlers.items():
        signal.signal(number, handler)


def a_cycle(host: Host) -> None:
    """What a cycle leaves: its history, its costs, a checkpoint."""
    Path("metrics/history/1.json").write_text(json.dumps(HISTORY))
    Path("checkpoint").write_text("")
    host.record(training_seconds=2.0)
    host.record(query_seconds=1.0)
    host.when_safe(Path("checkpoint").unlink)


def logged() -> list[dict[str, str]]:
    if not costs.LOG.exists():
        return []
    with open(costs.LOG, newline="") as file:
        return list(csv.DictReader(file))


def test_a_stage_gets_a_host_and_its_arguments(run: Callable) -> None:
    got = []
    assert run(lambda *arguments: got.extend(arguments), "toy", "a", "b") == 0
    assert isinstance(got[0], Host)
    assert got[0].scratch == Path.cwd() / "scratch"
    assert got[1:] == ["a", "b"]


@pytest.mark.parametrize(("name", "expected"), [("check", True), ("cycle", True), ("prepare", False), ("plot", False)])
def test_optimizers_are_checked_where_pytorch_is_loaded_anyway(
    run: Callable, monkeypatch: pytest.MonkeyPatch, name: str, expected: bool
) -> None:
    asked = []
    monkeypatch.setattr(check, "check_files", lambda *, optimizers: asked.append(optimizers))
    assert run(lambda host, *_: None, name, "0") == 0
    assert asked == [expected]


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
@pytest.mark.parametrize(("name", "is_kept"), [("cycle", True), ("network", True), ("prepare", False)])
def test_a_stage_that_trains_keeps_the_memory_that_it_frees(tmp_path: Path, name: str, is_kept: bool) -> None:
    script = tmp_path / "allocate.py"
    script.write_text(f"""
import sys
from types import ModuleType
import torch
from lab.process import check, stage

def main(host, *arguments):
    def resident():
        (line,) = [line for line in open("/proc/self/status") if line.startswith("VmRSS:")]
        return int(line.split()[1]) / 1000
    before = resident()
    torch.ones(12_000_000)
    print(resident() - before)

sys.modules["stages.{name}"] = module = ModuleType("stages.{name}")
module.main = main
check.check_files = lambda *, optimizers: None
stage.run("{name}", "0")
""")
    printed = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    kept = float(printed.stdout)
    assert (kept > 40) == is_kept, f"{kept} of 48 MB are kept"


def test_refused_params_run_nothing(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def refuse(*, optimizers: bool) -> None:
        raise ValueError("lr = 0: must be greater than 0")

    monkeypatch.setattr(check, "check_files", refuse)
    assert run(lambda host: pytest.fail("it ran")) == 2
    assert capsys.readouterr().err == "lr = 0: must be greater than 0\n"
    assert not Path("scratch").exists()


@pytest.mark.parametrize(
    ("name", "variable", "is_refused"),
    [("check", variables.SCRATCH, True), ("plot", variables.WARM, True), ("cycle", cifar10.VARIABLE, False)],
)
def test_a_variable_that_the_stage_needs_is_checked_before_its_work(
    run: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    name: str,
    variable: str,
    is_refused: bool,
) -> None:
    monkeypatch.setenv(variable, "nonsense")
    worked = []
    assert run(lambda host, *_: worked.append(True), name, "0") == is_refused
    assert bool(worked) == (not is_refused)
    assert (f"error: {variable} = 'nonsense'" in capsys.readouterr().err) == is_refused


@pytest.mark.parametrize(("dataset", "is_refused"), [("cifar10", True), ("digits", False)])
def test_the_source_of_cifar10_is_checked_where_it_is_used(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, dataset: str, is_refused: bool
) -> None:
    monkeypatch.setenv(cifar10.VARIABLE, "nonsense")
    block = f"{{source: {dataset}, augmentation: {{}}}}"
    Path("params.yaml").write_text(f"dataset: {dataset}\ndatasets: {{{dataset}: {block}}}\n")
    assert run(download.main, "download") == is_refused
    assert Path("data/raw").exists() == (not is_refused)
    assert (f"error: {cifar10.VARIABLE} = 'nonsense'" in capsys.readouterr().err) == is_refused


def test_costs_are_logged_and_the_checkpoint_goes_once_outputs_are_safe(
    run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outputs_are_not_safe_yet(started: float) -> None:
        assert logged() == []
        assert Path("checkpoint").exists()

    monkeypatch.setattr(ending, "refuse_a_full_cache", outputs_are_not_safe_yet)
    assert run(lambda host, number: a_cycle(host), "cycle", "0") == 0
    (row,) = logged()
    assert (row["cycle"], row["training_seconds"], row["query_seconds"]) == ("0", "2.0", "1.0")
    assert float(row["peak_memory_mb"]) > 10
    assert not Path("checkpoint").exists()


@pytest.mark.parametrize("when", ["in the stage", "after it"])
def test_a_failure_keeps_the_checkpoint_and_logs_nothing(
    run: Callable, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def fail(*_: object) -> None:
        raise BadInput("full")

    if when == "after it":
        monkeypatch.setattr(ending, "refuse_a_full_cache", fail)

    def main(host: Host, number: str) -> None:
        a_cycle(host)
        if when == "in the stage":
            fail()

    assert run(main, "cycle", "0") == 1
    assert logged() == []
    assert Path("checkpoint").exists()


def test_a_removal_that_fails_is_a_warning(run: Callable, capsys: pytest.CaptureFixture) -> None:
    def main(host: Host, number: str) -> None:
        host.when_safe(Path("absent").unlink)
        a_cycle(host)

    assert run(main, "cycle", "0") == 0
    assert capsys.readouterr().err == "warning: absent: no such file or directory\n"
    assert not Path("checkpoint").exists(), "one failure keeps nothing else from being done"
    assert len(logged()) == 1


def test_a_log_that_cannot_be_written_is_a_warning(run: Callable, capsys: pytest.CaptureFixture) -> None:
    costs.LOG.mkdir()
    assert run(lambda host, number: a_cycle(host), "cycle", "0") == 0
    assert capsys.readouterr().err == "warning: metrics/costs.csv: is a directory\n"
    assert not Path("checkpoint").exists()


def test_a_cycle_does_not_show_the_results_of_an_earlier_run(run: Callable) -> None:
    stage.SUMMARY.write_text('{"accuracy": 0.9}')
    CURVE.write_text("cycle,labels,accuracy\n0,10,0.5\n1,20,0.9\n")
    stage.SHEET.write_bytes(b"")
    Path("plots/mine.csv").write_text("a\n1\n")
    shown = []

    def main(host: Host, number: str) -> None:
        shown.append(stage.SUMMARY.read_text())  # it may still be refused
        host.progress("training", 1, "epochs")
        shown.extend([stage.SUMMARY.read_text(), CURVE.read_text()])

    run(main, "cycle", "0")
    assert shown == ['{"accuracy": 0.9}', "{}\n", "cycle,labels,accuracy\n"]
    assert not stage.SHEET.exists()
    assert Path("plots/mine.csv").read_text() == "a\n1\n", "what the run did not make is left alone"


def test_what_shows_nothing_is_not_touched(run: Callable) -> None:
    CURVE.write_text("cycle,labels,accuracy\n")
    os.utime(CURVE, (0, 0))
    run(lambda host, *_: host.progress("training", 1, "epochs"), "cycle", "0")
    assert CURVE.stat().st_mtime == 0
    assert not stage.SUMMARY.exists()


@pytest.mark.parametrize("name", ["prepare", "summarise", "plot"])
def test_another_stage_leaves_the_results(run: Callable, name: str) -> None:
    stage.SUMMARY.write_text('{"accuracy": 0.9}')
    run(lambda host: None, name)
    assert stage.SUMMARY.read_text() == '{"accuracy": 0.9}'


def test_a_signal_waits_until_the_stage_asks(run: Callable, capsys: pytest.CaptureFixture) -> None:
    did = []

    def main(host: Host) -> None:
        assert not host.is_stopping
        os.kill(os.getpid(), signal.SIGTERM)
        assert host.is_stopping
        did.append("saved")
        host.check("training is kept")
        did.append("went on")

    assert run(main) == 128 + signal.SIGTERM
    assert did == ["saved"]
    assert capsys.readouterr().err == "error: stopped by SIGTERM: training is kept\n"


def test_checking_alone_makes_signals_wait(run: Callable) -> None:
    host = stage.StageHost(Path("scratch"))
    host.check("nothing")
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped by SIGINT: training is kept"):
        host.check("training is kept")


def test_an_interrupt_of_the_check_is_one_line(
    run: Callable, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.check, "check_files", interrupted)
    assert run(lambda host: pytest.fail("it went on")) == 130
    assert capsys.readouterr().err == "error: stopped by SIGINT: finished stages are kept\n"


def test_a_stage_that_keeps_nothing_is_stopped_at_once(run: Callable, capsys: pytest.CaptureFixture) -> None:
    # Tests that run in the background of a shell ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def main(host: Host) -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")

    assert run(main) == 130
    assert capsys.readouterr().err == "error: stopped by SIGINT: finished stages are kept\n"


def test_divergence_is_told_with_the_cycle(run: Callable, capsys: pytest.CaptureFixture) -> None:
    Path("params.yaml").write_text("optim: sgd\ndataset: digits\noptimizers: {sgd: {class: SGD, lr: 9.0}}\n")
    error = stage.ending.Diverged("the loss is inf in epoch 1")

    def main(host: Host, number: str) -> None:
        raise error

    assert run(main, "cycle", "3") == 1
    assert "epoch 1 of cycle 3, with optim = 'sgd' and optimizers.sgd.lr = 9.0" in capsys.readouterr().err


def test_the_tables_of_an_earlier_run_are_those_that_a_run_makes() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    made = [Path(name) for plot in stages["summarise"]["plots"] for name in plot]
    assert sorted(stage.TABLES) == sorted(made)
