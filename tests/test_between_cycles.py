"""What a cycle's training begins with, how long it goes on, and the network that it leaves as a file."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from lab.data import carried, prepared
from lab.errors import Interrupted
from lab.training import weights
from lab.training.learner import Learner
from lab.training.prediction import Predictions
from stages import cycle, network
from tests.conftest import TEST_SIZE, RecordingHost, read_params
from tests.test_cycle import change, change_protocol, outputs, results, run
from tests.test_training import narrow

State = dict[str, Tensor]


class Training(NamedTuple):
    """before, after: all weights and running statistics."""

    before: State
    after: State
    epochs: int


@pytest.fixture
def trainings(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Each training of a test, in the order in which they end."""
    seen, fit = [], Learner.fit

    def watched(self: Learner, batches: object, optimizer: dict, recipe: object, *rest: object, **named: object):
        before = self.state()
        trained = fit(self, batches, optimizer, recipe, *rest, **named)
        seen.append(Training(before, self.state(), recipe.epochs))
        return trained

    monkeypatch.setattr(Learner, "fit", watched)
    return seen


def initialise(**block: object) -> None:
    change(initialisation="mine", initialisations={"mine": block})


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_fresh_weights_are_drawn_anew_and_carried_to_no_cycle(trainings: list[Training]) -> None:
    nothing = carried.path_of(0).read_bytes()
    run(0)
    run(1)
    first, second = trainings
    assert not torch.equal(first.before["network.conv1.weight"], second.before["network.conv1.weight"])
    assert not torch.equal(first.before["module.head.weight"], second.before["module.head.weight"])
    for number in (1, 2):
        assert weights.read_state(carried.path_of(number)) == {}
        assert carried.path_of(number).read_bytes() == nothing
    assert len(nothing) < 50


def test_the_same_weights_begin_every_cycle(trainings: list[Training]) -> None:
    run(0)
    initialise(start="same")
    run(0)
    run(1)
    fresh, first, second = trainings
    assert equal(first.before, fresh.before)
    assert equal(second.before, first.before)
    assert not equal(second.after, first.after), "it trains on other images"
    assert weights.read_state(carried.path_of(1)) == {}


def test_a_cycle_continues_with_the_weights_of_the_one_before_and_epochs_of_its_own(trainings: list[Training]) -> None:
    change_protocol("training", epochs=2)
    initialise(start="previous", epochs=3, shrink=1.0, noise=0.0)
    for number in range(3):
        run(number)
    assert [training.epochs for training in trainings] == [2, 3, 3]
    assert [results(number)["training_images"] for number in range(3)] == [2 * 6, 3 * 11, 3 * 16]
    for before, after in pairwise(trainings):
        assert equal(after.before, before.after)
        assert not equal(after.after, after.before)
    assert any(name.endswith("running_mean") for name in trainings[1].before), "the batch norm's statistics too"


def test_weights_are_shrunk_and_perturbed(trainings: list[Training]) -> None:
    initialise(start="previous", epochs=1, shrink=0.4, noise=0.02)
    for number in (0, 1, 1, 2):
        run(number)
    first, second, again, third = trainings
    assert equal(second.before, again.before), "the same seed draws the same noise"
    trained = {name for part in ("network", "module") for name in parameters(part)}
    assert set(first.after) - trained, "running statistics"
    noises = []
    for before, after in ((first, second), (again, third)):
        noise = {name: after.before[name] - 0.4 * before.after[name] for name in trained}
        drawn = torch.cat([values.flatten() for values in noise.values()])
        # 50,000 draws: five standard errors of mean and deviation
        assert len(drawn) > 40_000
        assert drawn.mean().item() == pytest.approx(0, abs=5 * 0.02 / len(drawn) ** 0.5)
        assert drawn.std().item() == pytest.approx(0.02, abs=5 * 0.02 / (2 * len(drawn)) ** 0.5)
        assert all(torch.equal(after.before[name], before.after[name]) for name in set(first.after) - trained)
        noises.append(noise)
    one, other = noises
    name = "network.layer1.0.conv1.weight"
    assert (one[name] - other[name]).std() > 0.02, "each cycle draws anew"
    assert (one[name] - one["network.layer1.0.conv2.weight"]).std() > 0.02, "each weight has noise of its own"


def parameters(part: str) -> list[str]:
    return [f"{part}.{name}" for name, _ in getattr(narrow(), part).named_parameters()]


def test_another_seed_draws_other_noise() -> None:
    model, state = narrow(), narrow().state()
    noises = []
    for seed in (0, 1):
        model.load(state, shrink=0.0, noise=1.0, seed=seed)
        noises.append(model.state()["network.conv1.weight"])
    assert not torch.equal(*noises)


def test_shrinking_without_noise_by_hand() -> None:
    model, state = narrow(), narrow().state()
    model.load(state, shrink=0.5)
    assert {*parameters("network"), *parameters("module")} < state.keys()
    for name, value in model.state().items():
        is_trained = name in parameters("network") + parameters("module")
        assert torch.equal(value, 0.5 * state[name] if is_trained else state[name])


def test_the_seed_of_a_run_is_that_of_its_noise(trainings: list[Training]) -> None:
    initialise(start="previous", epochs=1, shrink=0.0, noise=1.0)
    run(0)
    for seed in (0, 1):
        change(seed=seed)
        run(1)
    assert not torch.equal(*(training.before["network.conv1.weight"] for training in trainings[1:]))


def test_a_cycle_that_continues_is_resumed_to_the_same_bits(trainings: list[Training]) -> None:
    initialise(start="previous", epochs=3, shrink=0.9, noise=0.01)
    run(0)
    run(1)
    undisturbed = (*outputs(1), carried.path_of(2).read_bytes())
    with pytest.raises(Interrupted):
        cycle.main(RecordingHost(stop_after=6), "1")
    run(1)
    assert (*outputs(1), carried.path_of(2).read_bytes()) == undisturbed


def test_a_checkpoint_belongs_to_the_weights_that_training_began_with(
    trainings: list[Training], capsys: pytest.CaptureFixture
) -> None:
    initialise(start="previous", epochs=3, shrink=1.0, noise=0.0)
    run(0)
    with pytest.raises(Interrupted):
        cycle.main(RecordingHost(stop_after=6), "1")
    model = weights.read(carried.path_of(1))
    model.load(model.state(), shrink=0.5)
    weights.write(carried.path_of(1), model)
    run(1)
    assert "going on from the checkpoint" not in capsys.readouterr().out
    assert torch.equal(trainings[-1].before["network.conv1.weight"], model.state()["network.conv1.weight"])


def test_few_labels_are_trained_on_until_so_many_updates(trainings: list[Training]) -> None:
    change_protocol("training", min_updates=7)
    bars = [run(number).bars[0] for number in range(3)]
    # 6, 11 and 16 labels in batches of 4: two, three and four updates an epoch
    assert [training.epochs for training in trainings] == [4, 3, 2]
    assert [(bar.total, bar.done) for bar in bars] == [(4, 4), (3, 3), (2, 2)]
    assert [results(number)["training_images"] for number in range(3)] == [4 * 6, 3 * 11, 2 * 16]


def test_phases_follow_the_labels_of_the_cycles(laboratory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = read_params()["optimizers"]
    phases = {"a": {**blocks["adam"], "until_labels": 6}, "b": {**blocks["rmsprop"], "until_labels": 15}}
    phases["c"] = blocks["sgd"]
    change(optim="mine", optimizers={"mine": {"phases": phases}})
    stepped: list[str] = []
    for kind in (torch.optim.Adam, torch.optim.RMSprop, torch.optim.SGD):
        step = kind.step
        monkeypatch.setattr(kind, "step", lambda self, step=step: stepped.append(type(self).__name__) or step(self))
    for number, expected in enumerate(["Adam", "RMSprop", "SGD"]):
        stepped.clear()
        run(number)
        assert set(stepped) == {expected}


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[Predictions]:
    """What each cycle's network predicts for the test images."""
    seen, measure = [], cycle.measure
    monkeypatch.setattr(cycle, "measure", lambda *given: seen.append(given[0]) or measure(*given))
    return seen


@pytest.mark.parametrize("initialisation", ["fresh", "continue", "shrink_and_perturb"])
def test_a_network_on_file_is_the_one_that_its_cycle_tested(
    trainings: list[Training], tested: list[Predictions], initialisation: str
) -> None:
    change(initialisation=initialisation)
    run(0)
    run(1)
    network.main(RecordingHost(), "1")
    path = Path("data/networks/1.safetensors")
    _, of_cycle, once_more = trainings
    assert equal(once_more.after, of_cycle.after)
    model, test = weights.read(path), prepared.read_split("test")
    assert equal(model.state(), of_cycle.after)
    found = model.predict(test.images, np.arange(TEST_SIZE), lambda count: None)
    for one, other in zip(found, tested[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert results(1)["accuracy"] == (found.logits.argmax(axis=1) == test.labels).mean()
    if initialisation != "fresh":
        assert equal(weights.read_state(carried.path_of(2)), of_cycle.after)


def test_a_network_without_module_is_read_without(trainings: list[Training]) -> None:
    change(strategy="random_without_module")
    network.main(RecordingHost(), "0")
    model = weights.read(Path("data/networks/0.safetensors"))
    assert model.module is None
    assert equal(model.state(), trainings[0].after)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_network_is_read_as_it_was_built(tmp_path: Path, precision: torch.dtype) -> None:
    model = narrow(precision=precision)
    model.load(model.state(), shrink=0.5)  # other weights than those that it is built with
    weights.write(tmp_path / "a.safetensors", model)
    found = weights.read(tmp_path / "a.safetensors")
    assert found.shape == model.shape
    assert equal(found.state(), model.state())
    for one, other in zip(found.normalise.statistics, model.normalise.statistics, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    path, contents = tmp_path / "a.safetensors", set()
    for _ in range(20):
        weights.write(path, narrow(), cycle=3, seed=0)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safe_open(path, framework="pt") as file:
        assert '"about": {"cycle": 3, "seed": 0}' in "".join(file.metadata().values())
