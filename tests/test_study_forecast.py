"""What a dry run says that a study will cost: first what is known, and only then what has to be measured."""

import csv
from argparse import Namespace
from pathlib import Path

import pytest
import yaml

from lab.study import __main__ as study
from lab.study import estimate, experiments, forecast, plan
from tests.conftest import ROOT

PAPER = {
    "protocol": "paper",
    "dataset": "cifar10",
    "seeds": [0, 1, 2, 3, 4],
    "arms": {"arch": ["resnet18", "resnet34", "resnet50"], "optim": ["sgd", "adam", "adamw", "rmsprop"]},
}


def arms_of(folder: Path, **changes: object) -> list[plan.Arm]:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(PAPER | changes, sort_keys=False))
    return plan.read(path, (ROOT / "params.yaml").read_text())


def test_what_is_known_is_shown_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arms = arms_of(tmp_path)
    shown = []

    def speed_of(network: estimate.Network) -> estimate.Speed:
        if network not in measured:
            shown.append(capsys.readouterr().out)
        measured.append(network)
        # 11,000,000 images of training and 565,000 of scoring in ten hours
        return estimate.Speed(36_000 / 11_565_000, 36_000 / 11_565_000)

    measured: list[estimate.Network] = []
    monkeypatch.setattr(estimate, "speed_of", speed_of)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forecast.show(arms, jobs=2)
    # 10 cycles of 1,000 to 10,000 labels, 200 epochs; 10,000 test images, 2,000 of the stop set, the rest of the pool
    row = next(line.split() for line in shown[0].splitlines() if line.startswith("resnet18-sgd-s0"))
    assert row == ["resnet18-sgd-s0", "10,000", "11,000,000", "565,000"]
    assert shown[0].splitlines()[61].split() == ["all", "660,000,000", "33,900,000"]
    assert "On one NVIDIA H100: about 9.1 hours (resnet18, resnet34, resnet50 expected, not measured)\n" in shown[0]
    assert (
        "On one NVIDIA A100: about 14.6 hours (resnet18 published, not measured here; "
        "resnet34, resnet50 expected, not measured)\n" in shown[0]
    )
    last = "".join(shown[1:]) + capsys.readouterr().out
    assert "Measuring 3 networks on this machine. To skip it, press Ctrl-C: nothing is lost" in shown[0]
    assert "measuring the speed of this machine: 3 of 3 networks" in last
    row = next(line.split() for line in last.splitlines() if line.startswith("resnet50-adam "))
    assert row == ["resnet50-adam", "5", f"{11_565_000 / 36_000:,.0f}", "10.00"]
    assert "Here, 2 at once: about 300.0 hours" in last


def test_ctrl_c_skips_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(network: estimate.Network) -> estimate.Speed:
        raise KeyboardInterrupt

    monkeypatch.setattr(estimate, "speed_of", interrupted)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forecast.show(arms_of(tmp_path), jobs=2)
    assert capsys.readouterr().out.endswith("\nnot measured: the hours on this machine are not known\n")


def test_arms_are_measured_once_where_their_networks_cost_the_same(tmp_path: Path) -> None:
    arms = arms_of(
        tmp_path,
        arms={
            "arch": ["resnet18"],
            "optim": ["sgd", "adam"],
            "strategy": ["loss_prediction", "random_without_module"],
            "protocols.paper.training.epochs": [100, 200],
            "protocols.paper.training.batch_size": [64, 128],
        },
    )
    assert {network.batch_size for network in map(estimate.network_of, arms)} == {64, 128}
    assert len(set(map(estimate.network_of, arms))) == 2


def test_a_measured_speed_is_that_of_training_and_of_scoring() -> None:
    speed = estimate.speed_of(estimate.Network("resnet18", 4, 8, "float32", 16))
    assert 0 < speed.forward < speed.training


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        (
            "M params.yaml\n?? lab/data/sets/digits.py",
            "warning: the estimate counts what is not committed, and a run would refuse: "
            "params.yaml, lab/data/sets/digits.py\n",
        ),
        ("", ""),
    ],
)
def test_a_dry_run_names_what_is_not_committed(
    changed: str, warning: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    git = experiments.git
    status = lambda *arguments, **options: changed if arguments[0] == "status" else git(*arguments, **options)  # noqa: E731
    monkeypatch.setattr(experiments, "git", status)
    monkeypatch.setattr(forecast, "show", lambda arms, jobs: print(f"{len(arms)} arms"))
    study._run(Namespace(study=Path("studies/digits/study.yaml"), slurm=None, dry_run=True, jobs=1))
    assert capsys.readouterr() == ("12 arms\n", warning)


@pytest.mark.parametrize("setting", ["protocols.paper.width", "protocols.paper.training.batch_size"])
def test_no_gpu_is_named_for_networks_that_its_speed_is_not_about(tmp_path: Path, setting: str) -> None:
    (line,) = forecast.on_gpus(arms_of(tmp_path, arms={setting: [32]}))
    assert line == "On a GPU: not known; studies/gpus.csv is about width 64 and batches of 128 or more"


def test_every_speed_of_a_gpu_says_how_it_is_known() -> None:
    with open(forecast.GPUS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["basis"] for row in rows} <= {"measured", "published, not measured here", "expected, not measured"}
    assert all(row["source"] and float(row["images_per_second"]) > 0 for row in rows)
