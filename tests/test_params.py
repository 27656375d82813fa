"""params.yaml: read as DVC writes it, and refused before any work where it is wrong."""

import copy
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lab.data.sources import DATASETS

from lab import params
from lab.model.resnet import ARCHITECTURES
from lab.process import check
from lab.query.strategies import STRATEGIES
from lab.training.optimizers import OPTIMIZERS

SHIPPED = (Path(__file__).parent.parent / "params.yaml").read_text()


def changed(key: str, value: object) -> str:
    """The shipped params.yaml with one key changed, or added."""
    values = params.parse(SHIPPED)
    block = values
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in path:
        block = block[part]
    block[last] = value
    return yaml.safe_dump(values, sort_keys=False)


@pytest.mark.parametrize("text", ["5e-05", "5E-5", "1e3", "-2e+1", "5.0e-05", ".5e1", "0.1"])
def test_floats_are_those_of_yaml_1_2(text: str) -> None:
    value = params.parse(f"lr: {text}")["lr"]
    assert isinstance(value, float)
    assert value == float(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_prints_is_read_back(value: float) -> None:
    assert math.isclose(params.parse(f"lr: {value!r}")["lr"], value, rel_tol=0)


@pytest.mark.parametrize("text", ["'5e-05'", "e5", "resnet18", "1e", "10"])
def test_other_scalars_stay_what_they_are(text: str) -> None:
    assert params.parse(f"lr: {text}") == yaml.safe_load(f"lr: {text}")


def test_load_follows_the_chosen_names(laboratory: Path) -> None:
    settings = params.load(lr="optimizers.{optim}.lr", labels="protocols.{protocol}.query.labels")
    assert vars(settings) == {"lr": 0.1, "labels": 5}


def test_the_shipped_params_are_the_paper_s() -> None:
    shipped = check.check(SHIPPED)
    assert (shipped.optim, shipped.arch, shipped.strategy, shipped.protocol) == (
        "sgd",
        "resnet18",
        "loss_prediction",
        "paper",
    )
    paper = shipped.protocols["paper"]
    assert shipped.datasets["paper"] == "cifar10"
    assert paper.cold_start + 9 * paper.query.labels == 10_000
    assert (paper.training.epochs, paper.training.batch_size, paper.training.lr_drop_epoch) == (200, 128, 160)
    assert paper.loss_prediction.detach_epoch == 120


def test_choices_are_what_the_code_offers() -> None:
    fields = check.Params.model_fields
    assert fields["arch"].annotation.__args__ == tuple(ARCHITECTURES)
    assert fields["strategy"].annotation.__args__ == tuple(STRATEGIES)
    assert tuple(check.POOL_SIZES) == tuple(DATASETS)
    assert tuple(check.Optimizers.model_fields) == tuple(OPTIMIZERS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim", "sdg", "optim = 'sdg': choose from sgd, adam, adamw, rmsprop (did you mean sgd?)"),
        ("arch", "resnet19", "arch = 'resnet19': choose from 'resnet18', 'resnet34' or 'resnet50'"),
        ("strategy", "entropy", "strategy = 'entropy': choose from 'loss_prediction', 'random' or"),
        ("protocol", "full", "protocol = 'full': choose from paper, cpu, cpu_study, demo"),
        ("datasets.paper", "cifar100", "datasets.paper = 'cifar100': choose from 'cifar10' or 'digits'"),
        ("learning_rate", 0.1, "learning_rate = 0.1: choose from optim, arch,"),
        ("optimizers.adam.momentum", 0.9, "optimizers.adam.momentum = 0.9: choose from lr, betas, weight_decay"),
        ("optimizers.sgd.lr", -0.1, "optimizers.sgd.lr = -0.1: input should be greater than 0"),
        ("optimizers.sgd.lr", math.nan, "optimizers.sgd.lr = nan: input should be"),
        ("optimizers.sgd.momentum", 0, "optimizers.sgd.nesterov = True: needs a momentum above 0"),
        ("optimizers.adam.betas", [0.9], "optimizers.adam.betas = [0.9]: list should have at least 2 items"),
        ("protocols.paper.training.batch_size", 0, "protocols.paper.training.batch_size = 0: input should be greater"),
        ("protocols.paper.training.epochs", 1.5, "protocols.paper.training.epochs = 1.5: "),
        ("protocols.paper.training.flip", "yes", "protocols.paper.training.flip = 'yes': "),
        ("protocols.paper.cold_start", -5, "protocols.paper.cold_start = -5: "),
        ("protocols.paper.query.pool_subset", 999, "protocols.paper.query.pool_subset = 999: that many images cannot"),
        ("protocols.paper.query.labels", 6000, "a budget of 55,000 labels (cold_start 1,000 + 9 × query.labels 6,000)"),
        ("seed", -1, "seed = -1: "),
        ("seed", True, "seed = True: "),
        ("cycles", [], "cycles = []: "),
        ("cycles.3.next", 5, "cycles[3] = {this: 3, next: 5}: must be {this: 3, next: 4}"),
        ("cycles", {"0": {"this": 0, "next": 1}}, "cycles = {'0': "),
        ("protocols.mine", {}, "protocols.mine.cold_start: missing"),
    ],
)
def test_refusals_name_key_value_and_choices(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        check.check(changed(key, value))
    assert any(message in line for line in str(refusal.value).splitlines())


def test_a_quoted_number_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"optimizers\.sgd\.lr = '5e-05': must be a number, .*: remove the quotes"):
        check.check(SHIPPED.replace("lr: 0.1\n", "lr: '5e-05'\n"))
    assert check.check(SHIPPED.replace("lr: 0.1\n", "lr: 5e-05\n")).optimizers.sgd.lr == 5e-5


def leaves(values: object, path: tuple = ()):
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from leaves(value, (*path, key))
    else:
        yield path


WRONG = st.one_of(
    st.text(alphabet="abcxyz", min_size=1, max_size=6).filter(lambda text: text not in ("cpu", "sgd")),
    st.floats(max_value=-1e-9, allow_nan=False),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.just("x"), st.integers(), min_size=1),
)


@given(st.data())
def test_any_leaf_made_wrong_is_named(data: st.DataObject) -> None:
    values = params.parse(SHIPPED)
    path = data.draw(st.sampled_from(sorted(leaves(values), key=str)))
    broken = copy.deepcopy(values)
    block = broken
    for part in path[:-1]:
        block = block[part]
    block[path[-1]] = data.draw(WRONG)
    with pytest.raises(ValueError) as refusal:
        check.check(yaml.safe_dump(broken))
    assert str(path[-1]) in str(refusal.value)


def test_the_command_prints_the_refusal_and_stops(laboratory: Path, capsys: pytest.CaptureFixture) -> None:
    Path("params.yaml").write_text(changed("optim", "sdg"))
    with pytest.raises(SystemExit) as stop:
        check.main()
    assert stop.value.code == 2
    assert "params.yaml is refused, nothing was run:\n  optim = 'sdg'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "5"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml"):
        check.check(text)
