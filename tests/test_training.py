"""Training: what reaches the network and when, batches, optimizers, and what stops it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lab.data.prepared import Statistics
from lab.model import loss_prediction, resnet
from lab.training import optimizers
from lab.training.batches import Normaliser, TrainingBatches
from lab.training.checkpoint import Checkpoint
from lab.training.prediction import predict
from lab.training.train import Diverged, Epoch, train

CPU = torch.device("cpu")
STATISTICS = Statistics(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), [str(n) for n in range(10)])
SGD = SimpleNamespace(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 32, 32, 3), generator=draw, dtype=torch.uint8)
    return pixels, torch.randint(10, (count,), generator=draw)


def fit(
    with_module: bool = True,
    epochs: int = 2,
    detach_epoch: int = 1,
    lr_drop_epoch: int = 99,
    lr: float = 0.1,
    count: int = 9,
    batch_size: int = 4,
    on_start=lambda epoch, optimizer: None,
    network: torch.nn.Module | None = None,
    precision: torch.dtype = torch.float32,
    is_compiled: bool = False,
    optimizer: str = "sgd",
    checkpoint: Checkpoint | None = None,
    on_end=lambda spent: None,
) -> tuple[torch.nn.Module, loss_prediction.LossPrediction | None, list[Epoch]]:
    """Train a network, a narrow ResNet-18 by default; return it, the module and what each epoch reported."""
    network = network or resnet.build("resnet18", 10, 4, 0, precision)
    module = loss_prediction.build(network.stage_channels, 8, seed=0) if with_module else None
    parameters = [*network.parameters(), *(module.parameters() if module else ())]
    settings = SimpleNamespace(**{**vars(SGD), "lr": lr}) if optimizer == "sgd" else SimpleNamespace(lr=lr)
    optimizer = optimizers.build(optimizer, settings, parameters)
    seen = []

    def epoch_seed(epoch: int) -> int:
        on_start(epoch, optimizer)
        return epoch

    spent = train(
        network,
        module,
        optimizer,
        TrainingBatches(*images(count), batch_size, padding=4, flip=True),
        Normaliser(STATISTICS, CPU),
        SimpleNamespace(epochs=epochs, lr_drop_epoch=lr_drop_epoch, lr_drop_factor=0.1),
        SimpleNamespace(margin=1.0, weight=1.0, detach_epoch=detach_epoch),
        epoch_seed,
        seen.append,
        checkpoint,
        is_compiled=is_compiled,
    )
    on_end(spent)
    return network, module, seen


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_a_module_detached_from_the_start_leaves_the_network_alone() -> None:
    detached, module, _ = fit(detach_epoch=0)
    alone, _, _ = fit(with_module=False)
    assert same(detached, alone)
    assert not same(module, loss_prediction.build(detached.stage_channels, 8, seed=0)), "the module itself trains on"


def test_the_module_shapes_the_network_until_the_given_epoch() -> None:
    snapshots = {}
    for detach in (1, 2):
        network, _, _ = fit(epochs=2, detach_epoch=detach)
        first_epoch, _, _ = fit(epochs=1, detach_epoch=detach)
        snapshots[detach] = first_epoch, network
    alone, _, _ = fit(with_module=False, epochs=1)
    assert same(snapshots[1][0], snapshots[2][0]), "attached in the first epoch, both times"
    assert not same(snapshots[1][0], alone)
    assert not same(snapshots[1][1], snapshots[2][1]), "detached in the second epoch, once"


def test_learning_rate_drops_at_the_given_epoch() -> None:
    rates = {}
    fit(epochs=4, lr_drop_epoch=2, on_start=lambda e, optimizer: rates.update({e: optimizer.param_groups[0]["lr"]}))
    assert rates == pytest.approx({0: 0.1, 1: 0.1, 2: 0.01, 3: 0.01})


@pytest.mark.parametrize("count", [1, 4, 5, 7])
def test_last_batches_of_any_size_are_trained_on(count: int) -> None:
    _, _, (epoch,) = fit(epochs=1, count=count)
    assert np.isfinite(epoch.loss)
    assert 0 <= epoch.accuracy <= 1


def test_the_same_call_gives_the_same_bits() -> None:
    assert same(fit()[0], fit()[0])


def test_a_diverging_loss_stops_training() -> None:
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) in epoch \d+"):
        fit(lr=1e30, epochs=5)


def test_optimizers_have_the_settings_of_params_yaml() -> None:
    weight = [torch.nn.Parameter(torch.zeros(1))]
    built = optimizers.build("rmsprop", SimpleNamespace(lr=0.01, alpha=0.9, momentum=0.5, weight_decay=0.1), weight)
    assert isinstance(built, torch.optim.RMSprop)
    assert {key: built.defaults[key] for key in ("lr", "alpha", "momentum", "weight_decay")} == {
        "lr": 0.01,
        "alpha": 0.9,
        "momentum": 0.5,
        "weight_decay": 0.1,
    }


def test_nesterov_step_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = optimizers.build("sgd", SGD, [weight])
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    # gradient with decay g = 2 + 5e-4 · 1; the first Nesterov step is lr · (1 + momentum) · g
    assert weight.item() == pytest.approx(1 - 0.1 * 1.9 * 2.0005)


def test_normaliser_by_hand() -> None:
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    normalised = Normaliser(STATISTICS, CPU)(pixels)
    assert normalised.shape == (1, 3, 1, 1)
    assert normalised.flatten().tolist() == pytest.approx([-2.0, (128 / 255 - 0.5) / 0.25, 2.0], abs=1e-6)


def test_without_padding_and_flip_batches_are_the_images_in_another_order() -> None:
    pixels, _ = images(10)
    batches = list(TrainingBatches(pixels, torch.arange(10), 4, padding=0, flip=False).epoch(seed=3))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    order = torch.cat([labels for _, labels in batches])
    assert sorted(order.tolist()) == list(range(10))
    assert order.tolist() != list(range(10))
    assert torch.equal(torch.cat([crops for crops, _ in batches]), pixels[order])


def test_each_crop_is_a_window_of_its_own_image_mirrored_or_not() -> None:
    pixels, _ = images(200)
    bordered = np.pad(pixels.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)))
    corners, mirrored = set(), 0
    for crops, labels in TrainingBatches(pixels, torch.arange(200), 64, padding=2, flip=True).epoch(seed=0):
        for crop, image in zip(crops.numpy(), labels.tolist(), strict=True):
            matches = [
                (row, column, mirror)
                for row in range(5)
                for column in range(5)
                for mirror in (1, -1)
                if np.array_equal(crop[:, ::mirror], bordered[image, row : row + 32, column : column + 32])
            ]
            assert len(matches) == 1
            corners.add(matches[0][:2])
            mirrored += matches[0][2] == -1
    assert len(corners) == 25
    # 100 expected; five standard deviations are 35
    assert 65 < mirrored < 135


def test_epochs_differ_and_repeat_by_their_seed() -> None:
    batches = TrainingBatches(*images(8), 8, padding=4, flip=True)
    ((first, _),), ((second, _),), ((again, _),) = (list(batches.epoch(seed)) for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_an_image_is_scored_alike_whoever_is_beside_it() -> None:
    network, module, _ = fit()
    pool = images(9)[0].numpy()
    sizes = []

    def run(indices: list[int]):
        return predict(network, module, pool, np.array(indices), Normaliser(STATISTICS, CPU), CPU, sizes.append)

    together, alone = run([4, 0, 8]), run([8])
    assert together.logits.shape == (3, 10)
    np.testing.assert_allclose(together.logits[2], alone.logits[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together.predicted_loss[2], alone.predicted_loss[0], rtol=1e-4, atol=1e-5)
    assert sizes == [3, 1]


def test_prediction_streams_in_batches() -> None:
    network, _, _ = fit(with_module=False, epochs=1)
    pool = images(600)[0].numpy()
    sizes = []
    predictions = predict(network, None, pool, np.arange(600), Normaliser(STATISTICS, CPU), CPU, sizes.append)
    assert sizes == [250, 250, 100]
    assert predictions.logits.shape == (600, 10)
    assert predictions.predicted_loss is None
