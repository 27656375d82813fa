"""Study files: which arms they make, and which they refuse."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.process.ending import BadInput
from lab.study import estimate, plan
from tests.conftest import ROOT

PARAMS = (ROOT / "params.yaml").read_text()


def arms_of(tmp_path: Path, **study: object) -> list[plan.Arm]:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return plan.read(path, PARAMS)


@pytest.mark.parametrize(
    ("name", "arms", "first"),
    [
        ("paper", 60, "resnet18-sgd-s0"),
        ("cpu", 24, "cpu_study-resnet18-sgd-s0"),
        ("digits", 12, "demo-resnet18-sgd-s1"),
    ],
)
def test_studies_that_are_shipped(name: str, arms: int, first: str) -> None:
    found = plan.read(ROOT / "studies" / name / "study.yaml", PARAMS)
    assert len(found) == arms
    assert found[0].name == first
    assert all(arm.params["seed"] == arm.params["cold_start_seed"] == arm.seed for arm in found)


def test_the_papers_grid_has_every_pair() -> None:
    found = plan.read(ROOT / "studies/paper/study.yaml", PARAMS)
    pairs = {(arm.params["arch"], arm.params["optim"]) for arm in found}
    assert len(pairs) == 12
    assert [estimate.labels_of(arm) for arm in found[:1]] == [[1000 * number for number in range(1, 11)]]


def test_names_say_what_the_arms_vary(tmp_path: Path) -> None:
    arms = arms_of(
        tmp_path,
        protocol="demo",
        seeds=[7],
        arms={
            "arch": ["resnet18"],
            "optim": ["sgd"],
            "strategy": ["loss_prediction", "random"],
            "optimizers.sgd.lr": [0.1, 0.05],
            "protocols.demo.width": [4],
        },
    )
    assert [arm.group for arm in arms] == [
        "resnet18-sgd-lr0.1",
        "resnet18-sgd-lr0.05",
        "resnet18-sgd-random-lr0.1",
        "resnet18-sgd-random-lr0.05",
    ]
    assert [arm.name for arm in arms] == [f"demo-{arm.group}-s7" for arm in arms]
    assert [arm.params["optimizers"]["sgd"]["lr"] for arm in arms] == [0.1, 0.05, 0.1, 0.05]
    assert {arm.params["protocols"]["demo"]["width"] for arm in arms} == {4}


def test_a_strategy_that_all_arms_have_is_said_too(tmp_path: Path) -> None:
    # No arm that queries at random may pass for one of loss prediction.
    (arm,) = arms_of(tmp_path, protocol="demo", seeds=[0], arms={"strategy": ["random"]})
    assert arm.group == "resnet18-sgd-random"


def test_options_are_typed_as_dvc_reads_them(tmp_path: Path) -> None:
    (arm,) = arms_of(
        tmp_path,
        protocol="demo",
        seeds=[0],
        cycles=2,
        arms={"optimizers.adam.betas": [[0.5, 0.9]], "protocols.demo.query.pool_subset": [None], "optim": ["adam"]},
    )
    words = arm.options
    assert words[::2] == ["-S"] * 7
    assert "optimizers.adam.betas=[0.5, 0.9]" in words
    assert "protocols.demo.query.pool_subset=null" in words
    assert "cycles=[{this: 0, next: 1}, {this: 1, next: 2}]" in words


@settings(max_examples=20)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=4, unique=True))
def test_every_name_is_one_that_git_takes(tmp_path: Path, rates: list[float]) -> None:
    arms = arms_of(tmp_path, protocol="demo", seeds=[0], arms={"optim": ["sgd"], "optimizers.sgd.lr": rates})
    assert len({arm.name for arm in arms}) == len(rates)
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]+", arm.name) and ".." not in arm.name for arm in arms)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"seeds": [0], "arms": {"optim": ["sgd"]}}, "protocol: Field required"),
        ({"protocol": "demo", "seeds": [], "arms": {"optim": ["sgd"]}}, "seeds: "),
        ({"protocol": "demo", "seeds": [0], "arms": {}}, "arms: "),
        ({"protocol": "demo", "seeds": [0], "arms": {"optim": "sgd"}}, "arms.optim: "),
        ({"protocol": "demo", "seeds": [0], "arms": {"optim": ["sgd"]}, "jobs": 2}, "jobs: "),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"optim": ["sdg"]}},
            "demo-resnet18-sdg-s0: optim = 'sdg': choose from",
        ),
        ({"protocol": "none", "seeds": [0], "arms": {"optim": ["sgd"]}}, "protocol = 'none': choose from"),
        ({"protocol": "demo", "seeds": [0], "arms": {"optimizers.sdg.lr": [1.0]}}, "optimizers.sdg"),
        ({"protocol": "demo", "seeds": [0], "arms": {"optimizer": ["sgd"]}}, "optimizer"),
        ({"protocol": "demo", "seeds": [0], "arms": {"seed": [5]}}, "arms.seed: stands under seeds"),
        ({"protocol": "demo", "seeds": [0], "arms": {"cycles": [2]}}, "arms.cycles: stands under cycles"),
        ({"protocol": "demo", "seeds": [0, 0], "arms": {"optim": ["sgd"]}}, "2 arms have this name"),
    ],
)
def test_refusals_name_arm_key_and_value(tmp_path: Path, study: dict, message: str) -> None:
    with pytest.raises(BadInput, match="is refused, nothing was run") as refusal:
        arms_of(tmp_path, **study)
    assert message in str(refusal.value)


def test_numbers_are_read_as_in_params(tmp_path: Path) -> None:
    # YAML 1.1 would read a string here
    path = tmp_path / "study.yaml"
    path.write_text("protocol: demo\nseeds: [0]\narms:\n  optimizers.sgd.lr: [5e-4]\n")
    (arm,) = plan.read(path, PARAMS)
    assert arm.params["optimizers"]["sgd"]["lr"] == 5e-4


def test_a_key_within_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"arms.optim.lr: optim of params.yaml is no block"):
        arms_of(tmp_path, protocol="demo", seeds=[0], arms={"optim.lr": [5]})


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        plan.read(tmp_path / "none.yaml", PARAMS)


def test_passes_by_hand(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, protocol="cpu", seeds=[0], cycles=2, arms={"strategy": ["loss_prediction", "random"]})
    # 24 epochs; 10,000 test images; a random 5,000 of the pool are scored, by loss prediction alone
    assert estimate.passes_of(arms[0]) == [(2400, 15_000), (4800, 15_000)]
    assert estimate.passes_of(arms[1]) == [(2400, 10_000), (4800, 10_000)]
