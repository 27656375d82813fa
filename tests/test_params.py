"""params.yaml: read as DVC reads it, and refused before any work where it is wrong."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import parse_yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from lab import choices, params
from lab.cycles import pairs
from lab.errors import BadInput
from lab.process import check
from lab.training import optimizers
from tests.conftest import ROOT

TEXT = (ROOT / "params.yaml").read_text()
SHIPPED = params.parse(TEXT)


def changed(values: dict, key: str, value: object) -> dict:
    """A copy with one key changed or added. key: dotted."""
    values = copy.deepcopy(values)
    block = values
    *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    for part in path:
        block = block[part]
    block[last] = value
    return values


def refusal_of(values: dict) -> list[str]:
    """The lines by which the check refuses them."""
    with pytest.raises(ValueError) as refusal:
        check.check(values)
    return str(refusal.value).splitlines()


def seen_by(read, text: str) -> str:
    """What a reader makes of YAML. As text, in which NaN equals itself and 1 is not 1.0."""
    try:
        return repr(read(text))
    except Exception:
        return "refused"


def seen_by_dvc(text: str) -> str:
    return seen_by(lambda text: parse_yaml(text, "params.yaml"), text)


# Words and numbers that YAML 1.1, YAML 1.2 and people read differently.
NUMBERS = "012 0o10 0x1F 0b11 1:30 1:30.5 190:20:30 5e-05 5E-5 1e3 -2e+1 .5e1 1. .5 . e5 1e 1_000 1_0.5 +1 -0"
WORDS = "yes No on off y n true True TRUE null Null ~ -.inf .NaN nan inf 2001-01-01 2001-12-14T21:59:43Z 2001-13-45"
SIGNS = """'012' "5e-05" = << [1,2] [1 {a} {a:1} &x *x % @ ` |"""
TAGS = ["!!int 3", "!!float 3", "!!python/name:os.system", "{a: 1}", "a: 1", "", "# 5"]


@pytest.mark.parametrize("scalar", [*NUMBERS.split(), *WORDS.split(), *SIGNS.split(), *TAGS])
def test_scalars_are_read_as_dvc_reads_them(scalar: str) -> None:
    assert seen_by(params.parse, f"key: {scalar}") == seen_by_dvc(f"key: {scalar}")


@given(
    st.one_of(
        st.from_regex(r"\A[-+]?[0-9_]{0,4}[.:]?[0-9_]{0,4}([eE][-+]?[0-9]{1,3})?\Z"),
        st.from_regex(r"\A[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9:.]{1,12}Z?)?\Z"),
        st.text(alphabet="0189eExobnulyTtrfs+-._:~ '\"#&*!|>[]{},%@`<=", max_size=8),
        st.text(max_size=6),
    )
)
def test_any_scalar_is_read_as_dvc_reads_it(scalar: str) -> None:
    assert seen_by(params.parse, f"key: {scalar}") == seen_by_dvc(f"key: {scalar}")


@given(st.text(alphabet="ab01: \n-[]{},'#&*!", max_size=20))
def test_whatever_cannot_be_read_is_a_bad_input(text: str) -> None:
    try:
        params.parse(text)
    except BadInput as error:
        assert str(error).startswith("params.yaml")


@pytest.mark.parametrize("text", ["5e-05", "5E-5", "1e3", "-2e+1", "5.0e-05", ".5", "0.1"])
def test_floats_are_those_of_yaml_1_2(text: str) -> None:
    value = params.parse(f"lr: {text}")["lr"]
    assert isinstance(value, float)
    assert value == float(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_prints_is_read_back(value: float) -> None:
    assert math.isclose(params.parse(f"lr: {value!r}")["lr"], value, rel_tol=0)


@pytest.mark.parametrize("text", ["seed: 0\nseed: 1", "a:\n  b: 1\n  b: 1", "{a: 1, a: 2}"])
def test_a_key_that_stands_there_twice_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"^params\.yaml, line [123]: [abs]\w* has a value already; remove one$"):
        params.parse(text)
    assert seen_by_dvc(text) == "refused"


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "5", "a: 2001-13-45"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"params\.yaml"):
        params.parse(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    for name in ("latin.yaml", "missing.yaml"):
        with pytest.raises(BadInput, match=f"{name}: cannot be read"):
            params.read(tmp_path / name)


def test_load_follows_the_chosen_names(laboratory: Path) -> None:
    settings = params.load(lr="optimizers.{optim}.lr", labels="protocols.{protocol}.query.labels")
    assert vars(settings) == {"lr": 0.1, "labels": 5}


def test_the_shipped_params_are_accepted_and_the_paper_s() -> None:
    check.check(SHIPPED)
    chosen = {"optim": "sgd", "arch": "resnet18", "strategy": "loss_prediction", "protocol": "paper"}
    chosen |= {"dataset": "cifar10", "schedule": "steps", "initialisation": "fresh", "validation": 0, "networks": []}
    chosen |= {"cold_start_strategy": "random", "allow_oracle": False}
    assert {key: SHIPPED[key] for key in chosen} == chosen
    paper = SHIPPED["protocols"]["paper"]
    assert SHIPPED["cycles"] == pairs(10)
    assert paper["cold_start"] + 9 * paper["query"]["labels"] == 10_000
    training = paper["training"]
    assert (training["epochs"], training["batch_size"], training["min_updates"]) == (200, 128, 0)
    assert SHIPPED["schedules"]["steps"] == {"shape": "steps", "drop_at": 0.8, "factor": 0.1}
    assert SHIPPED["initialisations"]["fresh"] == {"start": "fresh"}
    assert paper["loss_prediction"]["detach_at"] == 0.6


@pytest.mark.parametrize("key", check.FILES)
def test_the_comments_name_every_choice(key: str) -> None:
    comment = re.search(rf"^{key}:.*#(.*(?:\n +#.*)*)$", TEXT, re.MULTILINE)[1]
    assert all(re.search(rf"\b{name}\b", comment) for name in choices.names(check.FILES[key]))


NO_SUCH_OPTIM = (
    "optim = 'sdg': choose from sgd, adam, adamw, rmsprop, adam_then_sgd, sgd_tuned, adam_tuned, adam_then_sgd_tuned "
    "(did you mean sgd?)"
)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim", "sdg", NO_SUCH_OPTIM),
        ("arch", "resnet19", "arch = 'resnet19': choose from resnet18, resnet34, resnet50 (did you mean resnet18?)"),
        ("strategy", "entropie", "typiclust (did you mean entropy?)"),
        ("protocol", "full", "protocol = 'full': choose from paper, cpu, cpu_study, two_cores, demo"),
        ("dataset", "cifar100", "dataset = 'cifar100': choose from cifar10, digits, cells (did you mean cifar10?)"),
        ("learning_rate", 0.1, "learning_rate = 0.1: no such key; choose from optim, arch,"),
        ("protocols.paper.training.batch_size", 0, "protocols.paper.training.batch_size = 0: must be 2 or more"),
        ("protocols.paper.training.batch_size", 1, "protocols.paper.training.batch_size = 1: must be 2 or more"),
        ("protocols.paper.training.epochs", 1.5, "protocols.paper.training.epochs = 1.5: must be a whole number"),
        ("protocols.paper.training.flip", "yes", "protocols.paper.training.flip = 'yes': must be true or false"),
        (
            "protocols.paper.training.min_update",
            9,
            "min_update = 9: no such key; choose from epochs, batch_size, min_updates, crop_padding, flip "
            "(did you mean min_updates?)",
        ),
        ("protocols.paper.training.min_updates", -1, "protocols.paper.training.min_updates = -1: must be 0 or more"),
        ("protocols.paper.loss_prediction.margin", math.nan, "protocols.paper.loss_prediction.margin = nan: "),
        ("protocols.paper.loss_prediction.weight", math.inf, "protocols.paper.loss_prediction.weight = inf: "),
        ("protocols.paper.loss_prediction.detach_at", -0.1, "protocols.paper.loss_prediction.detach_at = -0.1: "),
        ("protocols.paper.numerics.precision", "float16", "precision = 'float16': choose from float32, bfloat16"),
        ("protocols.paper.cold_start", -5, "protocols.paper.cold_start = -5: "),
        (
            "protocols.paper.query.pool_subset",
            999,
            "protocols.paper.query.pool_subset = 999: smaller than query.labels = 1000",
        ),
        ("protocols.paper.query.labels", 6000, "a budget of 55,000 labels (cold_start and query.labels: 1,000 + 6,000"),
        ("protocols.paper.query.labels", [1000, 6001], "a budget of 50,008 labels"),
        ("protocols.paper.query.labels", 0, "protocols.paper.query.labels = 0: must be 1 or more"),
        (
            "protocols.paper.query.labels",
            "9",
            "protocols.paper.query.labels = '9': must be a number: remove the quotes",
        ),
        ("protocols.paper.query.labels", None, "protocols.paper.query.labels = None: must be a whole number"),
        ("protocols.paper.query.labels", [], "protocols.paper.query.labels = []: must be a list of 1 or more"),
        ("protocols.paper.query.labels", [9, 0], "protocols.paper.query.labels.1 = 0: must be 1 or more"),
        (
            "protocols.paper.query",
            {"labels": [9, 30], "pool_subset": 29},
            "pool_subset = 29: smaller than query.labels =",
        ),
        ("validation", -1, "validation = -1: must be 0 or more"),
        ("validation", 40_001, "images, of which validation holds out 40,001"),
        ("networks", 3, "networks = 3: must be a list, as in [3]"),
        ("networks", [0, 10], "networks[1] = 10: choose from the cycles, 0 to 9"),
        ("networks", [-1], "networks.0 = -1: must be 0 or more"),
        ("schedule", "cosin", "schedule = 'cosin': choose from steps, cosine, constant (did you mean cosine?)"),
        ("schedules.steps.drop_at", 0, "schedules.steps.drop_at = 0: must be greater than 0.0"),
        ("schedules.steps.drop_at", 1, "schedules.steps.drop_at = 1: must be less than 1.0"),
        ("schedules.steps.factor", 1.5, "schedules.steps.factor = 1.5: must be 1.0 or less"),
        ("schedules.steps.drop", 1, "schedules.steps.drop = 1: no such key; choose from shape, drop_at, factor (did"),
        ("schedules.cosine.warm_up", "x", "schedules.cosine.warm_up = 'x': must be a number"),
        ("schedules.cosine.warm_up", 1, "schedules.cosine.warm_up = 1: must be less than 1.0"),
        ("schedules.mine", {"shape": "cosine"}, "schedules.mine.warm_up: missing"),
        (
            "schedules.mine",
            {"shape": "cosin"},
            "mine.shape = 'cosin': choose from steps, cosine, constant (did you mean",
        ),
        ("schedules.mine", {"drop_at": 0.5}, "schedules.mine.shape: missing; choose from steps, cosine, constant"),
        ("schedules.mine", 0.5, "schedules.mine = 0.5: must be a block of keys and values"),
        (
            "initialisation",
            "frsh",
            "initialisation = 'frsh': choose from fresh, same, continue, shrink_and_perturb (did",
        ),
        ("initialisations.mine", {"start": "new"}, "mine.start = 'new': choose from fresh, same, file, previous"),
        ("initialisations.mine", {}, "initialisations.mine.start: missing; choose from fresh, same, file, previous"),
        ("initialisations.fresh.epochs", 5, "initialisations.fresh.epochs = 5: no such key; choose from start"),
        ("initialisations.continue.epochs", 0, "initialisations.continue.epochs = 0: must be 1 or more"),
        ("initialisations.continue.shrink", 1.1, "initialisations.continue.shrink = 1.1: must be 1.0 or less"),
        ("initialisations.continue.noise", -1, "initialisations.continue.noise = -1: must be 0.0 or more"),
        ("initialisations.continue.noise", math.nan, "initialisations.continue.noise = nan: must be"),
        ("protocols.paper.target_accuracy", 85, "protocols.paper.target_accuracy = 85: "),
        ("seed", -1, "seed = -1: "),
        ("seed", True, "seed = True: "),
        ("seed", 2**32, "seed = 4294967296: "),
        ("cycles", [], "cycles = []: must be a list of 1 or more"),
        ("cycles", 3, "cycles = 3: must be a list; `python -m lab.cycles 3` prints it"),
        ("cycles", {"0": [0, 1]}, "cycles = {'0': "),
        ("cycles.3.1", 5, "cycles[3] = [3, 5]: must be [3, 4]; `python -m lab.cycles 10` prints the list"),
        ("cycles.0.0", 1, "cycles[0] = [1, 1]: must be [0, 1]"),
        ("cycles.0", [0, 1, 2], "cycles.0 = [0, 1, 2]: must be a list of 2"),
        ("arch", 18, "arch = 18: must be a string: quote it, as in '18'"),
        ("protocols.mine", {}, "protocols.mine.cold_start: missing"),
        ("optimizers.sgd.class", "Sgd", "optimizers.sgd.class = 'Sgd': choose from "),
        ("optimizers.sgd.class", "NAdm", "(did you mean NAdam?)"),
        ("optimizers.sgd.class", "LBFGS", "optimizers.sgd.class = 'LBFGS': choose from"),
        ("optimizers.sgd.class", "SparseAdam", "optimizers.sgd.class = 'SparseAdam': choose from"),
        ("optimizers.sgd.class", "Optimizer", "optimizers.sgd.class = 'Optimizer': choose from"),
        ("optimizers.sgd.class", ["SGD"], "optimizers.sgd.class = ['SGD']: "),
        ("optimizers.mine", {"lr": 0.1}, "optimizers.mine.class: missing; choose from "),
        ("optimizers.mine", {"class": "Adam"}, "optimizers.mine.lr: missing"),
        ("optimizers.mine", 0.1, "optimizers.mine = 0.1: must be a block of keys and values"),
        ("optimizers.adam.momentum", 0.9, "optimizers.adam.momentum = 0.9: no such key; choose from class, lr, betas,"),
        ("optimizers.adam.beta", 0.9, "(did you mean betas?)"),
        ("optimizers.adam.foreach", True, "optimizers.adam.foreach = True: no such key; choose from"),
        ("optimizers.adam.maximize", True, "optimizers.adam.maximize = True: no such key; choose from"),
        ("optimizers.sgd.lr", -0.1, "optimizers.sgd.lr = -0.1: must be greater than 0"),
        ("optimizers.sgd.lr", 0, "optimizers.sgd.lr = 0: must be greater than 0"),
        ("optimizers.sgd.lr", math.nan, "optimizers.sgd.lr = nan: must be a number"),
        ("optimizers.sgd.lr", math.inf, "optimizers.sgd.lr = inf: must be a number"),
        ("optimizers.sgd.lr", 10**400, "optimizers.sgd.lr = 1000"),
        ("optimizers.sgd.lr", True, "optimizers.sgd.lr = True: must be a number"),
        ("optimizers.sgd.lr", None, "optimizers.sgd.lr = None: must be a number"),
        ("optimizers.sgd.lr", [0.1], "optimizers.sgd.lr = [0.1]: must be a number"),
        ("optimizers.sgd.lr", "5e-05", "optimizers.sgd.lr = '5e-05': must be a number: remove the quotes"),
        ("optimizers.sgd.nesterov", 1, "optimizers.sgd.nesterov = 1: must be true or false"),
        ("optimizers.sgd.momentum", 0, "SGD refuses it: Nesterov momentum requires"),
        ("optimizers.sgd.weight_decay", -1, "SGD refuses it: Invalid weight_decay value: -1"),
        (
            "optimizers.adam.betas",
            [0.9],
            "optimizers.adam.betas = [0.9]: must be a list of 2 numbers, as in [0.9, 0.999]",
        ),
        ("optimizers.adam.betas", [0.9, "x"], "optimizers.adam.betas = [0.9, 'x']: must be a list of 2 numbers"),
        ("optimizers.adam.betas", [0.9, math.nan], "optimizers.adam.betas = [0.9, nan]: must be a list of 2 numbers"),
        ("optimizers.adam.betas", [0.9, 1.5], "Adam refuses it: Invalid beta parameter at index 1: 1.5"),
    ],
)
def test_refusals_name_key_value_and_choices(key: str, value: object, message: str) -> None:
    assert any(message in line for line in refusal_of(changed(SHIPPED, key, value)))


@pytest.mark.parametrize(
    ("block", "like"),
    [
        ("optimizers", "sgd"),
        ("protocols", "demo"),
        ("schedules", "steps"),
        ("initialisations", "fresh"),
        ("datasets", "digits"),
    ],
)
def test_a_name_that_dvc_cannot_look_up_is_refused(block: str, like: str) -> None:
    values = changed(SHIPPED, block, SHIPPED[block] | {"my.own": SHIPPED[block][like]})
    assert refusal_of(values) == [f"{block}.my.own: a name may have only letters, digits, _ and -; rename it"]


@pytest.mark.parametrize(
    ("key", "share", "epochs", "happens"),
    # 1,000 labels are eight updates an epoch
    [
        ("schedules.steps.drop_at", 0.95, 1, "the learning rate would never drop"),
        ("schedules.steps.drop_at", 0.02, 3, "the learning rate would drop before the first"),
        ("schedules.cosine.warm_up", 0.05, 1, "the learning rate would not warm up"),
        ("schedules.cosine.warm_up", 0.99, 6, "the learning rate would never fall"),
        ("protocols.paper.loss_prediction.detach_at", 0.95, 1, "the module would never be detached"),
        ("protocols.paper.loss_prediction.detach_at", 0.01, 6, "the module would be detached from the start"),
        ("optimizers.hybrid.phases.adam.until_share", 0.02, 3, "this phase would have none"),
        ("optimizers.hybrid.phases.adam.until_share", 0.99, 6, "the next would have none"),
    ],
)
def test_a_share_of_training_that_is_rounded_away_names_both_keys(
    key: str, share: float, epochs: int, happens: str
) -> None:
    phases = {"adam": {"class": "Adam", "lr": 0.1, "until_share": 0.5}, "sgd": {"class": "SGD", "lr": 0.1}}
    chosen = {
        "optimizers.hybrid": {"phases": phases},
        "optim": "hybrid",
        "schedule": key.split(".")[1] if key.startswith("schedules") else "constant",
        key: share,
    }

    def with_(**changes: object) -> dict:
        values = SHIPPED
        for name, value in {**chosen, **changes}.items():
            values = changed(values, name, value)
        return values

    check.check(with_())
    short = {"protocols.paper.training.epochs": epochs}
    during = f"of the {8 * epochs} updates of a cycle with protocols.paper.training.epochs = {epochs}"
    cure = "choose more epochs or another share"
    assert refusal_of(with_(**short)) == [f"{key} = {share}: {during}, {happens}; {cure}"]
    check.check(with_(**short, **{"protocols.paper.training.min_updates": 1600}))

    # A cycle that continues has epochs of its own: the second one, of 16 updates each.
    check.check(with_(initialisation="continue"))
    short = {"initialisation": "continue", "initialisations.continue.epochs": 1}
    check.check(with_(**short, cycles=[[0, 1]]))
    if math.ceil(16 * share - 0.5) in (0, 16):
        (line,) = refusal_of(with_(**short))
        assert line.startswith(
            f"{key} = {share}: of the 16 updates of a cycle with initialisations.continue.epochs = 1,"
        )
    else:
        check.check(with_(**short))


def test_a_share_of_one_is_never_and_of_none_at_once() -> None:
    values = changed(changed(SHIPPED, "protocols.paper.training.epochs", 1), "schedule", "constant")
    for share in (0, 1, 0.0, 1.0):
        check.check(changed(values, "protocols.paper.loss_prediction.detach_at", share))
    without = changed(changed(values, "schedule", "cosine"), "schedules.cosine.warm_up", 0)
    check.check(changed(without, "protocols.paper.loss_prediction.detach_at", 1))


ADAM, SGD = {"class": "Adam", "lr": 0.1}, {"class": "SGD", "lr": 0.1}


BOTH = {"until_labels": 5, "until_share": 0.5}
ALL_BUT_ONE = "phases: all but one must have until_labels, or all but one until_share; "


@pytest.mark.parametrize("optimizers_too", [True, False])
@pytest.mark.parametrize(
    ("phases", "refusal"),
    [
        ({}, "phases = {}: must be a block of two phases or more"),
        ({"a": SGD}, "phases = {'a': {'class': 'SGD', 'lr': 0.1}}: must be a block of two phases or more"),
        ([SGD, SGD], "phases = [{'class': 'SGD', 'lr': 0.1}, {'class': 'SGD', 'lr': 0.1}]: must be a block of two"),
        ("sgd", "phases = 'sgd': must be a block of two phases or more"),
        ({"a": SGD, "b": "sgd"}, "phases.b = 'sgd': must be a block of keys and values"),
        ({"a.b": SGD, "c": SGD}, "phases.a.b: a name may have only letters, digits, _ and -; rename it"),
        ({1: SGD, "c": SGD}, "phases.1: a name may have only letters, digits, _ and -; rename it"),
        ({"a": SGD, "b": SGD}, f"{ALL_BUT_ONE}a has neither, b has neither"),
        (
            {"a": SGD | {"until_share": 0.5}} | {"b": SGD | {"until_share": 0.6}},
            f"{ALL_BUT_ONE}a has until_share, b has",
        ),
        ({"a": SGD | BOTH, "b": SGD}, f"{ALL_BUT_ONE}a has until_labels and until_share, b has neither"),
        (
            {"a": SGD | {"until_labels": 5}, "b": SGD | {"until_share": 0.5}, "c": SGD},
            f"{ALL_BUT_ONE}a has until_labels, b has until_share, c has neither",
        ),
        (
            {"a": SGD | {"until_labels": 5}, "b": SGD, "c": SGD},
            f"{ALL_BUT_ONE}a has until_labels, b has neither, c has",
        ),
        *(
            ({"a": SGD | {"until_labels": end}, "b": SGD}, f"phases.a.until_labels = {end!r}: must be a whole number")
            for end in (0, -5, 0.5, True, "9", None, [9])
        ),
        *(
            ({"a": SGD | {"until_share": end}, "b": SGD}, f"phases.a.until_share = {end!r}: must be a share between 0")
            for end in (0, 1, 1.5, True, "0.5", None, math.nan)
        ),
        (
            {"a": SGD | {"until_labels": 9}, "b": SGD, "c": SGD | {"until_labels": 9}},
            "phases.c.until_labels = 9: another phase ends there too",
        ),
        (
            {"a": SGD | {"until_share": 0.5}, "b": SGD | {"until_share": 0.5}, "c": SGD},
            "phases.b.until_share = 0.5: another phase ends there too",
        ),
    ],
)
def test_phases_that_do_not_follow_each_other_are_refused(phases: object, refusal: str, optimizers_too: bool) -> None:
    values = changed(changed(SHIPPED, "optimizers.mine", {"phases": phases}), "optim", "mine")
    with pytest.raises(ValueError) as error:
        check.check(values, optimizers=optimizers_too)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"optimizers.mine.{refusal}")


@pytest.mark.parametrize(
    ("first", "second", "refusal"),
    [
        (
            {"until_labels": 9, "beta": 1},
            {},
            "phases.a.beta = 1: no such key; choose from class, until_labels, until_sh",
        ),
        (
            {"until_label": 9},
            {},
            "phases.a.until_label = 9: no such key; choose from class, until_labels, until_share, lr",
        ),
        ({"until_labels": 9, "lr": "0.1"}, {}, "phases.a.lr = '0.1': must be a number: remove the quotes"),
        ({"until_labels": 9}, {"nesterov": True}, "phases.b.nesterov = True: SGD refuses it: Nesterov momentum"),
        ({"until_labels": 9}, {"class": "SDG"}, "phases.b.class = 'SDG': choose from"),
    ],
)
def test_the_arguments_of_each_phase_are_checked(first: dict, second: dict, refusal: str) -> None:
    lines = refusal_of(changed(SHIPPED, "optimizers.mine", {"phases": {"a": ADAM | first, "b": SGD | second}}))
    assert any(line.startswith(f"optimizers.mine.{refusal}") for line in lines)


def test_nothing_stands_beside_phases() -> None:
    phases = {"a": ADAM | {"until_labels": 9}, "b": SGD}
    check.check(changed(SHIPPED, "optimizers.mine", {"phases": phases}))
    assert refusal_of(changed(SHIPPED, "optimizers.mine", {"phases": phases, "lr": 0.1})) == [
        "optimizers.mine.lr = 0.1: with phases, it belongs in each of them"
    ]


def test_phases_may_stand_in_any_order() -> None:
    phases = {"late": SGD, "second": SGD | {"until_share": 0.7}, "first": ADAM | {"until_share": 0.3}}
    check.check(changed(SHIPPED, "optimizers.mine", {"phases": phases}))


def test_an_optimizer_without_phases_ends_with_training() -> None:
    (line,) = refusal_of(changed(SHIPPED, "optimizers.sgd.until_labels", 9))
    assert line.startswith("optimizers.sgd.until_labels = 9: no such key; choose from class, lr, ")


RUN = {"dataset": "cifar10", "strategy": "random", "sets": [f"{number:032x}" for number in range(11)]}


@pytest.mark.parametrize(
    ("strategy", "changes", "refusal"),
    [
        (
            "replay",
            {"sets": []},
            "replay.sets = []: strategy = 'replay' needs a run to replay; start it with `dvc exp run",
        ),
        ("replay", {"sets": ["x"]}, "replay.sets.0 = 'x': must match ^[0-9a-f]{32}$"),
        (
            "replay",
            {"dataset": "digits"},
            "replay.dataset = 'digits': the run that is replayed chose from it; set dataset",
        ),
        (
            "replay",
            {"sets": RUN["sets"][:10]},
            "replay.sets: the run that is replayed has 9 cycles, fewer than these 10; `python -m lab.cycles 9` prints",
        ),
        ("replay", {"strategy": "randm"}, "replay.strategy = 'randm': choose from badge, bald,"),
        (
            "random",
            {"dataset": "digit"},
            "replay.dataset = 'digit': choose from cifar10, digits, cells (did you mean digits?)",
        ),
        ("random", {"strategy": "randm"}, "replay.strategy = 'randm': choose from badge, bald,"),
        ("replay", {"strategy": None}, "replay.strategy = None: choose from badge, bald,"),
        (
            "replay",
            {"strategy": "random_without_module"},
            "strategy = 'replay': the run that is replayed trained no module; choose replay_without_module",
        ),
        (
            "replay_without_module",
            {},
            "strategy = 'replay_without_module': the run that is replayed trained the module; choose replay",
        ),
    ],
)
def test_a_run_that_cannot_be_replayed_is_refused(strategy: str, changes: dict, refusal: str) -> None:
    values = changed(changed(SHIPPED, "strategy", strategy), "replay", RUN | changes)
    (line,) = refusal_of(values)
    assert line.startswith(refusal)


def test_a_run_that_can_be_replayed_is_accepted() -> None:
    check.check(changed(changed(SHIPPED, "strategy", "replay"), "replay", RUN))
    fewer = changed(changed(SHIPPED, "strategy", "replay"), "replay", RUN)
    check.check(changed(fewer, "cycles", pairs(3)))
    without = changed(changed(SHIPPED, "strategy", "replay_without_module"), "replay", RUN)
    check.check(changed(without, "replay.strategy", "random_without_module"))
    check.check(changed(SHIPPED, "replay", {**RUN, "dataset": "digits"}))  # nobody replays it


def test_an_optimizer_is_four_lines_more() -> None:
    lines = "\n  nadam:\n    class: NAdam\n    lr: 0.002\n    momentum_decay: 0.004\n"
    text = TEXT.replace("\nschedules:", lines + "\nschedules:").replace("optim: sgd", "optim: nadam")
    check.check(params.parse(text))


@pytest.mark.parametrize("name", optimizers.classes())
def test_every_optimizer_is_accepted_with_its_defaults_left_out_or_written_out(name: str) -> None:
    written = {
        key: [*value] if isinstance(value, tuple) else value for key, value in optimizers.arguments(name).items()
    }
    for settings in ({"lr": 0.001}, written):
        check.check(changed(SHIPPED, "optimizers.mine", {"class": name, **settings}))


def test_all_faults_are_named_at_once() -> None:
    values = changed(changed(changed(SHIPPED, "optim", "sdg"), "arch", "x"), "optimizers.sgd.lr", 0)
    assert [line.partition(" =")[0] for line in refusal_of(values)] == ["arch", "optim", "optimizers.sgd.lr"]


def test_without_optimizers_their_blocks_are_left_to_another_stage() -> None:
    check.check(changed(SHIPPED, "optimizers.sgd.lr", 0), optimizers=False)


def test_a_quoted_number_is_refused_with_the_cure() -> None:
    for line, quoted in (("lr: 0.1\n", "lr: '5e-05'\n"), ("margin: 1.0\n", "margin: '1.0'\n")):
        (key, value), text = quoted.strip().split(": "), TEXT.replace(line, quoted)
        (refusal, *_) = refusal_of(params.parse(text))
        assert f"{key} = {value}: must be a number: remove the quotes" in refusal
    check.check(params.parse(TEXT.replace("lr: 0.1\n", "lr: 5e-05\n")))


def test_a_word_in_place_of_a_number_has_no_quotes_to_remove() -> None:
    for key in ("optimizers.sgd.lr", "protocols.paper.loss_prediction.margin"):
        (line,) = refusal_of(changed(SHIPPED, key, "low"))
        assert line == f"{key} = 'low': must be a number"


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
    path = data.draw(st.sampled_from(sorted(leaves(SHIPPED), key=str)))
    value = data.draw(WRONG)
    # The one leaf that may be a list too.
    assume(path[-2:] != ("query", "labels") or not isinstance(value, list) or min(value, default=0) < 1)
    # And those that may be any text.
    assume(not {"path", "separator", "classes"} & {*path} or not isinstance(value, str))
    refusal = " ".join(refusal_of(changed(SHIPPED, ".".join(map(str, path)), value)))
    assert [part for part in path if isinstance(part, str)][-1] in refusal


def test_the_refusal_of_the_files_says_how_to_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / ".dvc/tmp/exps/standalone/tmpabc"
    temporary.mkdir(parents=True)
    for folder, advice in ((tmp_path, "`git checkout params.yaml`"), (temporary, None)):
        monkeypatch.chdir(folder)
        Path("params.yaml").write_text(TEXT.replace("optim: sgd", "optim: sdg"))
        with pytest.raises(ValueError) as refusal:
            check.check_files()
        heading, fault, *rest = str(refusal.value).splitlines()
        assert heading == "params.yaml is refused, nothing was run:"
        assert fault.startswith("  optim = 'sdg': ")
        assert [advice in line for line in rest] == ([True] if advice else [])


@pytest.mark.parametrize("key", ["networks", "replay.sets", "cycles"])
def test_a_list_that_was_set_is_emptied_again(tmp_path: Path, key: str) -> None:
    # DVC moves the comments of a list with its entries, and wrote a file that it could not read.
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    for value in ("[5,6]", "[7]", "[]", "[8]", "[]"):
        apply_overrides(path, [f"{key}={value}"])
        assert params.read(path) == changed(SHIPPED, key, json.loads(value))
