"""Training: what reaches the network and when, batches, optimizers, and what stops it."""

from time import perf_counter

import numpy as np
import pytest
import torch

from lab import params
from lab.data.dataset import Split
from lab.data.prepared import Statistics
from lab.errors import Diverged
from lab.model.loss_prediction import LossPrediction
from lab.model.resnet import ResNet
from lab.training import learner, optimizers
from lab.training.batches import Normaliser, TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.learner import Learner, Shape
from lab.training.schedule import epochs_of, factor_at
from lab.training.train import Epoch, Recipe
from tests.conftest import ROOT

CPU = torch.device("cpu")
STATISTICS = Statistics(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), [str(n) for n in range(10)])
SGD = {"class": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
PIXELS = 16


def images(count: int) -> Split:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (count, PIXELS, PIXELS, 3), dtype=np.uint8)
    return Split(pixels, draw.integers(0, 10, count))


def narrow(with_module: bool = True, precision: torch.dtype = torch.float32) -> Learner:
    """A ResNet-18 of width 4, always with the same initial weights."""
    return learner.build(Shape("resnet18", 4, 8 if with_module else None, precision), STATISTICS, CPU)


def fit(
    with_module: bool = True,
    epochs: int = 2,
    detach_at: float = 0.5,
    drop_at: float = 1.0,
    schedule: dict | None = None,
    lr: float = 0.1,
    count: int = 9,
    batch_size: int = 4,
    margin: float = 1.0,
    weight: float = 1.0,
    on_start=lambda epoch: None,
    model: Learner | None = None,
    precision: torch.dtype = torch.float32,
    is_compiled: bool = False,
    optimizer: dict | None = None,
    checkpoint: Checkpoint | None = None,
    on_end=lambda spent: None,
) -> tuple[ResNet, LossPrediction | None, list[Epoch]]:
    """Train a learner, a narrow one by default; return its network and module and what each epoch reported."""
    model = model or narrow(with_module, precision)
    seen = []

    def epoch_seed(epoch: int) -> int:
        on_start(epoch)
        return epoch

    spent = model.fit(
        model.batches(images(count), batch_size, padding=4, flip=True),
        optimizer or SGD | {"lr": lr},
        Recipe(epochs, schedule or {"shape": "steps", "drop_at": drop_at, "factor": 0.1}, margin, weight, detach_at),
        epoch_seed,
        seen.append,
        checkpoint,
        is_compiled=is_compiled,
    )
    on_end(spent)
    return model.network, model.module, seen


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_a_module_detached_from_the_start_leaves_the_network_alone() -> None:
    detached, module, _ = fit(detach_at=0.0)
    alone, _, _ = fit(with_module=False)
    assert same(detached, alone)
    assert not same(module, narrow().module), "the module itself trains on"


def test_the_module_shapes_the_network_until_the_given_share_of_training() -> None:
    after_one, after_two = {}, {}
    for detach_at in (0.5, 1.0):
        # Of two epochs: what the first one leaves is seen when the second one starts.
        model = narrow()

        def keep(epoch: int, model: Learner = model, detach_at: float = detach_at) -> None:
            if epoch == 1:
                after_one[detach_at] = {name: value.clone() for name, value in model.network.state_dict().items()}

        after_two[detach_at], _, _ = fit(epochs=2, detach_at=detach_at, model=model, on_start=keep)
    assert all(torch.equal(after_one[0.5][name], after_one[1.0][name]) for name in after_one[0.5])
    assert not same(after_two[0.5], after_two[1.0]), "detached in the second epoch, once"
    alone, _, _ = fit(with_module=False, epochs=1)
    assert not torch.equal(after_one[0.5]["conv1.weight"], alone.conv1.weight), (
        "attached in the first epoch, both times"
    )


def plain_training(model: Learner, margin: float, weight: float) -> list[float]:
    """Four epochs as the paper tells them, written as plainly as can be. Returns the loss of each.

    The module is detached after two epochs, and the learning rate drops after three.
    """
    weights = [*model.network.parameters(), *model.module.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    pixels, labels = (torch.from_numpy(array) for array in images(20))
    losses_of_epochs = []
    model.network.train()
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.01 if epoch < 3 else 0.001
        total = 0.0
        for crops, targets in TrainingBatches(pixels, labels, batch_size=8, padding=4, flip=True).epoch(epoch):
            logits, features = model.network(((crops / 255 - 0.5) / 0.25).permute(0, 3, 1, 2))
            losses = [-torch.log_softmax(row, dim=0)[target] for row, target in zip(logits, targets, strict=True)]
            means = [feature.mean(dim=(2, 3)) for feature in features]
            if epoch >= 2:
                means = [mean.detach() for mean in means]
            hidden = [layer(mean).clamp(min=0) for layer, mean in zip(model.module.stages, means, strict=True)]
            predicted = model.module.head(torch.cat(hidden, dim=1))[:, 0]
            half = len(targets) // 2
            hinges = []
            for one, other in zip(range(half), range(half, 2 * half), strict=True):
                sign = 1 if losses[one].item() > losses[other].item() else -1
                hinges.append((margin - sign * (predicted[one] - predicted[other])).clamp(min=0))
            loss = sum(losses) / len(losses) + (weight * sum(hinges) / half if half else 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(targets)
        losses_of_epochs.append(total / len(labels))
    return losses_of_epochs


@pytest.mark.parametrize(("margin", "weight"), [(1.0, 1.0), (0.05, 1.0), (1.0, 0.5), (1.0, 0.0)])
def test_training_is_what_a_plain_loop_does(margin: float, weight: float) -> None:
    plain, ours = narrow(), narrow()
    expected = plain_training(plain, margin, weight)
    settings = {"lr": 0.01, "count": 20, "batch_size": 8, "margin": margin, "weight": weight}
    _, _, epochs = fit(model=ours, epochs=4, drop_at=0.75, detach_at=0.5, **settings)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert [epoch.loss for epoch in epochs] == pytest.approx(expected, rel=1e-3)
    for part, other in ((ours.network, plain.network), (ours.module, plain.module)):
        for one, two in zip(part.state_dict().values(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-2, atol=2e-3)


def first_loss(**settings: object) -> float:
    """The loss of one batch before any step."""
    _, _, (epoch,) = fit(epochs=1, count=8, batch_size=8, **settings)
    return epoch.loss


def test_the_weight_multiplies_the_ranking_loss() -> None:
    without, once, thrice = (first_loss(weight=weight) for weight in (0.0, 1.0, 3.0))
    assert without == pytest.approx(first_loss(with_module=False))
    assert once > without + 0.1
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)


def test_each_pair_costs_the_margin() -> None:
    # 10 is beyond the distance of any two predictions: every pair costs the margin, less that distance.
    assert first_loss(margin=11.0) - first_loss(margin=10.0) == pytest.approx(1, abs=1e-4)
    assert first_loss(margin=0.0) < first_loss(margin=1.0)


def test_training_accuracy_is_that_of_the_crops() -> None:
    pixels, labels = (torch.from_numpy(array) for array in images(8))
    ((crops, targets),) = TrainingBatches(pixels, labels, 8, padding=4, flip=True).epoch(0)
    guesses = narrow().network.train()(((crops / 255 - 0.5) / 0.25).permute(0, 3, 1, 2))[0].max(dim=1).indices
    _, _, (epoch,) = fit(epochs=1, count=8, batch_size=8)
    assert epoch.accuracy == (guesses == targets).sum().item() / 8


@pytest.mark.parametrize("part", ["network", "module"])
def test_training_moves_both_network_and_module(part: str) -> None:
    model, initial = narrow(), narrow()
    fit(model=model, epochs=1)
    before, after = (dict(getattr(one, part).named_parameters()) for one in (initial, model))
    # The ranking loss sees differences alone, in which the last bias cancels.
    assert {name for name in before if torch.equal(before[name], after[name])} <= {"head.bias"}


def rates(monkeypatch: pytest.MonkeyPatch, **settings: object) -> list[float]:
    """The learning rate of each update."""
    seen, step = [], torch.optim.SGD.step
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", lambda self: seen.append(self.param_groups[0]["lr"]) or step(self))
        fit(**settings)
    return seen


def test_learning_rate_drops_at_the_given_share_of_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    # three updates an epoch
    assert rates(monkeypatch, epochs=4, drop_at=0.5) == pytest.approx([0.1] * 6 + [0.01] * 6)
    assert rates(monkeypatch, epochs=3, drop_at=0.5) == pytest.approx([0.1] * 4 + [0.01] * 5), "its middle counts"
    assert rates(monkeypatch, epochs=3, drop_at=1.0) == pytest.approx([0.1] * 9)
    schedule = {"shape": "steps", "drop_at": 0.5, "factor": 0.3}
    assert rates(monkeypatch, epochs=2, schedule=schedule) == pytest.approx([0.1] * 3 + [0.03] * 3)


def test_learning_rates_of_a_cosine_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Eight updates, whose middles are at 1/16, 3/16 … 15/16 of training; the first quarter warms up.
    found = rates(monkeypatch, epochs=4, count=8, schedule={"shape": "cosine", "warm_up": 0.25})
    angles = [15, 45, 75, 105, 135, 165]  # degrees
    falling = [0.05 * (1 + np.cos(np.radians(angle))) for angle in angles]
    assert found == pytest.approx([0.1 * 1 / 4, 0.1 * 3 / 4, *falling])
    assert rates(monkeypatch, epochs=1, count=12, schedule={"shape": "cosine", "warm_up": 0.0}) == pytest.approx(
        [0.05 * (1 + np.sqrt(3) / 2), 0.05, 0.05 * (1 - np.sqrt(3) / 2)]
    )


def test_a_constant_learning_rate_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rates(monkeypatch, epochs=3, schedule={"shape": "constant"}) == [0.1] * 9


@pytest.mark.parametrize("name", ["steps", "cosine", "constant"])
def test_the_shipped_schedules_by_hand(name: str) -> None:
    schedule = params.read(ROOT / "params.yaml")["schedules"][name]
    # 200 epochs of 8 updates, each at its middle
    factors = [factor_at(schedule, (update + 0.5) / 1600) for update in range(1600)]
    if name == "steps":
        # as published: 160 of 200 epochs at the full rate, then a tenth of it
        assert factors == [1.0] * 160 * 8 + [0.1] * 40 * 8
    elif name == "constant":
        assert factors == [1.0] * 1600
    else:
        # 5 %, 80 updates, of warming up; between them and the end, a half
        assert factors[0] == pytest.approx(0.5 / 80)
        assert factors[:80] == sorted(factors[:80])
        assert factors[79] == pytest.approx(79.5 / 80)
        assert factors[80:] == sorted(factors[80:], reverse=True)
        assert (factors[839] + factors[840]) / 2 == pytest.approx(0.5)
        assert 0 < factors[-1] < 1e-5


def test_a_shape_without_a_rule_is_no_schedule() -> None:
    with pytest.raises(ValueError, match="shape = 'ramp': no schedule"):
        factor_at({"shape": "ramp"}, 0.5)


@pytest.mark.parametrize(
    ("epochs", "min_updates", "labels", "batch_size", "expected"),
    [
        (200, 0, 1000, 128, 200),
        (200, 1600, 1000, 128, 200),  # eight updates an epoch
        (200, 1601, 1000, 128, 201),
        (200, 10_000, 1000, 128, 1250),
        (200, 10_000, 10_000, 128, 200),  # 79 updates an epoch
        (1, 7, 3, 4, 7),
    ],
)
def test_few_labels_are_trained_on_for_more_epochs(
    epochs: int, min_updates: int, labels: int, batch_size: int, expected: int
) -> None:
    assert epochs_of(epochs, min_updates, labels, batch_size) == expected


ADAM_PHASE = {"class": "Adam", "lr": 0.003, "betas": [0.9, 0.999], "weight_decay": 0.01}
SGD_PHASE = {"class": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
# Of twelve updates the first five: the sixth has its middle at 5.5/12.
HYBRID = {"phases": {"sgd": SGD_PHASE, "adam": {**ADAM_PHASE, "until_share": 0.45}}}


def test_a_switch_within_training_is_what_a_plain_loop_does() -> None:
    plain, ours = narrow(with_module=False), narrow(with_module=False)
    weights = list(plain.network.parameters())
    adam = torch.optim.Adam(weights, lr=0.003, betas=(0.9, 0.999), weight_decay=0.01, fused=True)
    sgd = torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)
    batches = plain.batches(images(9), 4, padding=4, flip=True)
    plain.network.train()
    for update, (crops, targets) in enumerate(batch for epoch in range(4) for batch in batches.epoch(epoch)):
        optimizer = adam if update < 5 else sgd
        if update == 9:
            optimizer.param_groups[0]["lr"] = 0.05 * 0.1
        if update == 5:
            assert not sgd.state, "it begins without momenta"
        loss = torch.nn.functional.cross_entropy(plain.network(plain.normalise(crops))[0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fit(model=ours, epochs=4, drop_at=0.75, optimizer=HYBRID)
    assert same(ours.network, plain.network)


def test_no_momentum_is_taken_along_to_the_next_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {torch.optim.Adam: [], torch.optim.SGD: []}
    for kind, seen in states.items():
        step = kind.step
        monkeypatch.setattr(kind, "step", lambda self, seen=seen, step=step: seen.append(len(self.state)) or step(self))
    network, module, _ = fit(epochs=4, optimizer=HYBRID)
    count = len([*network.parameters(), *module.parameters()])
    assert states[torch.optim.Adam] == [0, *[count] * 4]
    assert states[torch.optim.SGD] == [0, *[count] * 6]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(1, "Adam"), (3000, "Adam"), (3001, "NAdam"), (5000, "NAdam"), (5001, "SGD"), (9**9, "SGD")],
)
def test_the_labels_of_a_cycle_choose_its_phase(labels: int, expected: str) -> None:
    second = {"class": "NAdam", "lr": 0.001, "until_labels": 5000}
    # in whatever order they stand
    block = {"phases": {"c": SGD_PHASE, "b": second, "a": {**ADAM_PHASE, "until_labels": 3000}}}
    ((until, optimizer),) = optimizers.phases_of(block, labels, [torch.nn.Parameter(torch.zeros(1))])
    assert type(optimizer).__name__ == expected
    assert until == 1.0


def test_the_shipped_hybrid_is_adam_then_sgd_as_shipped() -> None:
    blocks = params.read(ROOT / "params.yaml")["optimizers"]
    phases = blocks["adam_then_sgd"]["phases"]
    assert phases["adam"].pop("until_labels") == 3000
    assert phases == {"adam": blocks["adam"], "sgd": blocks["sgd"]}


def test_an_optimizer_without_phases_is_one_until_the_end() -> None:
    ((until, optimizer),) = optimizers.phases_of(SGD, 10, [torch.nn.Parameter(torch.zeros(1))])
    assert (until, type(optimizer)) == (1.0, torch.optim.SGD)


@pytest.mark.parametrize("count", [1, 4, 5, 7])
def test_last_batches_of_any_size_are_trained_on(count: int) -> None:
    _, _, (epoch,) = fit(epochs=1, count=count)
    assert np.isfinite(epoch.loss)
    assert 0 <= epoch.accuracy <= 1


def test_the_same_call_gives_the_same_bits() -> None:
    assert same(fit()[0], fit()[0])


def test_seconds_are_those_of_this_training() -> None:
    ends, begun = [], perf_counter()
    fit(on_end=ends.append)
    (trained,) = ends
    assert 0 < trained.seconds < perf_counter() - begun
    assert trained.compiling == 0


def test_a_diverging_loss_stops_training() -> None:
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) in epoch \d+"):
        fit(lr=1e30, epochs=5)


@pytest.mark.parametrize(
    "block",
    [
        {"class": "SGD", "lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        {"class": "Adam", "lr": 0.02, "betas": (0.8, 0.95), "eps": 0.1, "weight_decay": 0.1, "amsgrad": True},
        {"class": "AdamW", "lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1},
        {"class": "RMSprop", "lr": 0.02, "alpha": 0.9, "momentum": 0.5, "weight_decay": 0.1, "centered": True},
    ],
)
def test_optimizers_have_the_settings_of_params_yaml(block: dict) -> None:
    built = optimizers.build(block, [torch.nn.Parameter(torch.zeros(1))])
    assert type(built).__name__ == block["class"]
    (group,) = built.param_groups
    assert {"class": block["class"]} | {key: group[key] for key in block if key != "class"} == block


def test_nesterov_step_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = optimizers.build(SGD, [weight])
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    # gradient with decay g = 2 + 5e-4 · 1; the first Nesterov step is lr · (1 + momentum) · g
    assert weight.item() == pytest.approx(1 - 0.1 * 1.9 * 2.0005)


@pytest.mark.parametrize("name", optimizers.classes())
def test_every_optimizer_trains_with_its_default_settings(name: str) -> None:
    network, module, (epoch,) = fit(epochs=1, optimizer={"class": name, "lr": 0.001})
    assert np.isfinite(epoch.loss)
    initial = narrow()
    for after, before in zip(network.parameters(), initial.network.parameters(), strict=True):
        assert not torch.equal(after, before)
    assert not torch.equal(module.head.weight, initial.module.head.weight)


def test_normaliser_by_hand() -> None:
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    normalised = Normaliser(STATISTICS, CPU)(pixels)
    assert normalised.shape == (1, 3, 1, 1)
    assert normalised.flatten().tolist() == pytest.approx([-2.0, (128 / 255 - 0.5) / 0.25, 2.0], abs=1e-6)


def test_without_padding_and_flip_batches_are_the_images_in_another_order() -> None:
    pixels = torch.from_numpy(images(10).images)
    batches = list(TrainingBatches(pixels, torch.arange(10), 4, padding=0, flip=False).epoch(seed=3))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    order = torch.cat([labels for _, labels in batches])
    assert sorted(order.tolist()) == list(range(10))
    assert order.tolist() != list(range(10))
    assert torch.equal(torch.cat([crops for crops, _ in batches]), pixels[order])


def test_each_crop_is_a_window_of_its_own_image_mirrored_or_not() -> None:
    pixels = torch.from_numpy(images(200).images)
    bordered = np.pad(pixels.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)))
    corners, mirrored = set(), 0
    for crops, labels in TrainingBatches(pixels, torch.arange(200), 64, padding=2, flip=True).epoch(seed=0):
        for crop, image in zip(crops.numpy(), labels.tolist(), strict=True):
            matches = [
                (row, column, mirror)
                for row in range(5)
                for column in range(5)
                for mirror in (1, -1)
                if np.array_equal(crop[:, ::mirror], bordered[image, row : row + PIXELS, column : column + PIXELS])
            ]
            assert len(matches) == 1
            corners.add(matches[0][:2])
            mirrored += matches[0][2] == -1
    assert len(corners) == 25
    # 100 expected; five standard deviations are 35
    assert 65 < mirrored < 135


def test_epochs_differ_and_repeat_by_their_seed() -> None:
    batches = narrow().batches(images(8), 8, padding=4, flip=True)
    ((first, _),), ((second, _),), ((again, _),) = (list(batches.epoch(seed)) for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_an_image_is_scored_alike_whoever_is_beside_it() -> None:
    model, pool, sizes = narrow(), images(9).images, []
    fit(model=model)
    together, alone = (model.predict(pool, np.array(indices), sizes.append) for indices in ([4, 0, 8], [8]))
    assert together.logits.shape == (3, 10)
    np.testing.assert_allclose(together.logits[2], alone.logits[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together.predicted_loss[2], alone.predicted_loss[0], rtol=1e-4, atol=1e-5)
    assert sizes == [3, 1]


def test_prediction_streams_in_batches() -> None:
    sizes = []
    predictions = narrow(with_module=False).predict(images(600).images, np.arange(600), sizes.append)
    assert sizes == [250, 250, 100]
    assert predictions.logits.shape == (600, 10)
    assert predictions.predicted_loss is None
