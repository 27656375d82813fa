"""What a dry run says that a study will cost: first what is known, and only then what has to be measured."""

import csv
from pathlib import Path

import pytest
import yaml

from lab.study import estimate, forecast, plan
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

    def seconds_of(arm: plan.Arm) -> list[float]:
        shown.append(capsys.readouterr().out)
        return [3600.0] * len(arm.params["cycles"])

    monkeypatch.setattr(estimate, "seconds_of", seconds_of)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    forecast.show(arms, jobs=2)
    # 10 cycles of 1,000 to 10,000 labels, 200 epochs; 10,000 test images and the rest of the pool are scored
    row = next(line.split() for line in shown[0].splitlines() if line.startswith("resnet18-sgd-s0"))
    assert row == ["resnet18-sgd-s0", "10,000", "11,000,000", "545,000"]
    assert shown[0].splitlines()[61].split() == ["all", "660,000,000", "32,700,000"]
    assert "On one NVIDIA H100: about 9.1 hours (resnet18, resnet34, resnet50 expected, not measured)\n" in shown[0]
    assert (
        "On one NVIDIA A100: about 14.6 hours (resnet18 published, not measured here; "
        "resnet34, resnet50 expected, not measured)\n" in shown[0]
    )
    last = "".join(shown[1:]) + capsys.readouterr().out
    assert "measuring the speed of this machine: 3 of 3 networks" in last
    row = next(line.split() for line in last.splitlines() if line.startswith("resnet50-adam "))
    assert row == ["resnet50-adam", "5", f"{11_545_000 / 36_000:,.0f}", "10.00"]
    assert "Here, 2 at once: about 300.0 hours" in last


@pytest.mark.parametrize("setting", ["protocols.paper.width", "protocols.paper.training.batch_size"])
def test_no_gpu_is_named_for_networks_that_its_speed_is_not_about(tmp_path: Path, setting: str) -> None:
    (line,) = forecast.on_gpus(arms_of(tmp_path, arms={setting: [32]}))
    assert line == "On a GPU: not known; studies/gpus.csv is about width 64 and batches of 128 or more"


def test_every_speed_of_a_gpu_says_how_it_is_known() -> None:
    with open(forecast.GPUS, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["basis"] for row in rows} <= {"measured", "published, not measured here", "expected, not measured"}
    assert all(row["source"] and float(row["images_per_second"]) > 0 for row in rows)
