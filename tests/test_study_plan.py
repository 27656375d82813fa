"""Study files: which arms they make, and which they refuse."""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import BadInput
from lab.study import estimate, plan
from tests.conftest import ROOT

PARAMS = (ROOT / "params.yaml").read_text()


def arms_of(tmp_path: Path, **study: object) -> list[plan.Arm]:
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"dataset": "digits", **study}, sort_keys=False))
    return plan.read(path, PARAMS)


@pytest.mark.parametrize(
    ("name", "arms", "first"),
    [
        ("paper", 180, "resnet18-sgd-s0"),
        ("answer", 42, "two_cores-resnet18-sgd_tuned-s1"),
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
    triples = {(arm.params["arch"], arm.params["optim"], arm.params["strategy"]) for arm in found}
    assert len(triples) == 36
    assert {strategy for *_, strategy in triples} == {"loss_prediction", "random", "random_without_module"}
    assert [arm.labels for arm in found[:1]] == [[1000 * number for number in range(1, 11)]]


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
    assert words[::2] == ["-S"] * 8
    assert "optimizers.adam.betas=[0.5, 0.9]" in words
    assert "protocols.demo.query.pool_subset=null" in words
    assert "cycles=[[0, 1], [1, 2]]" in words


@settings(max_examples=20)
@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=4, unique=True))
def test_every_name_is_one_that_git_takes(tmp_path: Path, rates: list[float]) -> None:
    arms = arms_of(tmp_path, protocol="demo", seeds=[0], arms={"optim": ["sgd"], "optimizers.sgd.lr": rates})
    assert len({arm.name for arm in arms}) == len(rates)
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]+", arm.name) and ".." not in arm.name for arm in arms)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"seeds": [0], "arms": {"optim": ["sgd"]}}, "protocol: missing"),
        ({"protocol": "demo", "seeds": [], "arms": {"optim": ["sgd"]}}, "seeds = []: "),
        ({"protocol": "demo", "seeds": [0], "arms": {}}, "arms = {}: must be a block of 1 or more keys"),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"optim": "sgd"}},
            "arms.optim = 'sgd': must be a list, as in [sgd]",
        ),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"optim": ["sgd"]}, "jobs": 2},
            "jobs = 2: no such key; choose from",
        ),
        ({"protocol": "demo", "dataset": "digit", "seeds": [0], "arms": {"optim": ["sgd"]}}, "(did you mean digits?)"),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"optim": ["sdg"]}},
            "demo-resnet18-sdg-s0: optim = 'sdg': choose from",
        ),
        ({"protocol": "none", "seeds": [0], "arms": {"optim": ["sgd"]}}, "protocol = 'none': choose from"),
        ({"protocol": "demo", "seeds": [0], "arms": {"optimizers.sdg.lr": [1.0]}}, "optimizers.sdg"),
        ({"protocol": "demo", "seeds": [0], "arms": {"optimizer": ["sgd"]}}, "optimizer"),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"strategy": ["entropie"]}, "crossed": ["optim"]},
            "strategy = 'entropie': choose from",
        ),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"strategy": [None]}, "crossed": ["optim"]},
            "strategy = None: must be a string",
        ),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"optimizers.sgd.lr": [date(2001, 1, 1), 0.1]}},
            "optimizers.sgd.lr = datetime.date(2001, 1, 1)",
        ),
        ({"protocol": "demo", "seeds": [0], "arms": {"seed": [5]}}, "arms.seed: set seeds instead, for all arms"),
        ({"protocol": "demo", "seeds": [0], "arms": {"cycles": [2]}}, "arms.cycles: set cycles instead, for all arms"),
        ({"protocol": "demo", "seeds": [0, 0], "arms": {"optim": ["sgd"]}}, "2 arms have this name"),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"optim": ["sgd", "adam"], "optimizers.adam.lr": [0.1, 0.2]}},
            "arms.optimizers.adam.lr: demo-resnet18-sgd-lr0.1-s0 and demo-resnet18-sgd-lr0.2-s0 are the same run",
        ),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"protocols.paper.width": [8, 16]}},
            "arms.protocols.paper.width: demo-resnet18-sgd-width8-s0 and demo-resnet18-sgd-width16-s0 are the same run",
        ),
        (
            {"protocol": "demo", "seeds": [0], "arms": {"protocols.demo.target_accuracy": [0.8, 0.9]}},
            "arms.protocols.demo.target_accuracy: demo-resnet18-sgd-target_accuracy0.8-s0 and ",
        ),
        (
            {
                "protocol": "demo",
                "seeds": [0],
                "arms": {
                    "strategy": ["random", "random_without_module"],
                    "protocols.demo.loss_prediction.weight": [1.0, 0.5],
                },
            },
            "arms.protocols.demo.loss_prediction.weight: demo-resnet18-sgd-random_without_module-weight1.0-s0 and "
            "demo-resnet18-sgd-random_without_module-weight0.5-s0 are the same run",
        ),
    ],
)
def test_refusals_name_arm_key_and_value(tmp_path: Path, study: dict, message: str) -> None:
    with pytest.raises(BadInput, match="is refused, nothing was run") as refusal:
        arms_of(tmp_path, **study)
    assert message in str(refusal.value)


def test_only_arms_that_repeat_another_are_refused(tmp_path: Path) -> None:
    study = {"protocol": "demo", "seeds": [0]}
    weights = {"protocols.demo.loss_prediction.weight": [1.0, 0.5]}
    assert len(arms_of(tmp_path, **study, arms={"strategy": ["random", "loss_prediction"], **weights})) == 4
    with pytest.raises(BadInput) as refusal:
        arms_of(tmp_path, **study, arms={"strategy": ["random", "random_without_module"], **weights})
    _, fault = str(refusal.value).splitlines()
    assert "random_without_module-weight0.5" in fault


@pytest.mark.parametrize(
    "study", ["'studies/paper/study.yaml'), text", "'studies/answer/search.yaml'), text, optimizers=False"]
)
def test_a_study_is_read_without_pytorch(study: str) -> None:
    code = "import sys; from pathlib import Path; from lab.study import plan; text = Path('params.yaml').read_text(); "
    code += f"plan.read(Path({study}); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"


def test_numbers_are_read_as_in_params(tmp_path: Path) -> None:
    # YAML 1.1 would read a string here
    path = tmp_path / "study.yaml"
    path.write_text("protocol: demo\ndataset: digits\nseeds: [0]\narms:\n  optimizers.sgd.lr: [5e-4]\n")
    (arm,) = plan.read(path, PARAMS)
    assert arm.params["optimizers"]["sgd"]["lr"] == 5e-4


def test_a_key_within_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"arms.optim.lr: optim of params.yaml is a value, and no block"):
        arms_of(tmp_path, protocol="demo", seeds=[0], arms={"optim.lr": [5]})


def test_a_value_for_all_arms_needs_no_reader(tmp_path: Path) -> None:
    arms = arms_of(tmp_path, protocol="demo", seeds=[0], arms={"optim": ["sgd", "adam"], "optimizers.sgd.lr": [0.05]})
    assert [arm.params["optimizers"]["sgd"]["lr"] for arm in arms] == [0.05, 0.05]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "study.yaml: holds no keys"),
        ("- 1", "must be a mapping"),
        ("protocol: [", "not YAML"),
        ("protocol: demo\nseeds: [0]\nseeds: [1]\n", "study.yaml, line 3: seeds has a value already; remove one"),
        ("protocol: demo\ndataset: digits\nseeds: ['0']\narms: {optim: [sgd]}\n", "seeds.0 = '0': must be a number"),
        (
            "protocol: 5\ndataset: digits\nseeds: [0]\narms: {optim: [sgd]}\n",
            "protocol = 5: must be a string: quote it",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_lines_that_name_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as refusal:
        plan.read(path, PARAMS)
    assert message in str(refusal.value)
    assert str(path) in str(refusal.value)


GOOD = {"protocol": "demo", "dataset": "digits", "seeds": [0], "arms": {"optim": ["sgd"]}, "cycles": 2}
OPTIONAL = ("cycles", "ceiling", "search", "analysis")
NOTHING = (("crossed", []), ("allow_oracle", False), ("allow_oracle", True))
WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(max_value=-1),
    st.floats(allow_nan=True),
    st.text("xyz", max_size=4),
    st.lists(st.one_of(st.integers(max_value=-1), st.text("xyz", min_size=1, max_size=3)), max_size=2),
    st.dictionaries(st.text("xyz", min_size=1, max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=200)
@given(
    key=st.sampled_from([*GOOD, *OPTIONAL, "arm", "epochs", "crossed", "allow_oracle", "measure"]),
    value=WRONG,
)
def test_any_wrong_value_is_refused_in_lines_or_does_what_it_says(tmp_path: Path, key: str, value: object) -> None:
    try:
        arms = arms_of(tmp_path, **{**GOOD, key: value})
    except BadInput as refusal:
        first, *faults = str(refusal).splitlines()
        assert "study.yaml" in first
        assert all(fault.startswith("  ") and "should " not in fault for fault in faults)
    else:
        assert (key in OPTIONAL and value is None) or (key, value) in NOTHING, "what may be left out"
        assert len(arms) == 1


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        plan.read(tmp_path / "none.yaml", PARAMS)


def test_passes_by_hand(tmp_path: Path) -> None:
    arms = arms_of(
        tmp_path,
        protocol="cpu",
        dataset="cifar10",
        seeds=[0],
        cycles=2,
        arms={"strategy": ["loss_prediction", "random"]},
    )
    # 24 epochs; 10,000 test images and 2,000 of the stop set; loss prediction alone scores a random 5,000 of the pool
    assert estimate.passes_of(arms[0]) == [(2400, 17_000), (4800, 17_000)]
    assert estimate.passes_of(arms[1]) == [(2400, 12_000), (4800, 12_000)]
