"""The networks are torchvision's but for the stem, and the module and its loss are those of the paper."""

import pytest
import torch
import torchvision
from torch import nn

from lab import choices
from lab.model.loss_prediction import LossPrediction, ranking_loss
from lab.model.resnet import ResNet, count_flops, count_parameters
from lab.training import learner
from lab.training.learner import Shape
from tests.test_training import CPU, STATISTICS

# Weights, biases, and two a channel of each batch norm, counted by torchvision's own models with the
# first convolution at 3×3 and ten outputs.
PARAMETERS = {"resnet18": 11_173_962, "resnet34": 21_282_122, "resnet50": 23_520_842}
CHANNELS = {"resnet18": [64, 128, 256, 512], "resnet34": [64, 128, 256, 512], "resnet50": [256, 512, 1024, 2048]}


ARCHITECTURES = choices.names("model/architectures")


def network_of(arch: str, width: int, precision: torch.dtype = torch.float32) -> ResNet:
    return learner.build(Shape(arch, width, None, precision), STATISTICS, CPU).network


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_same_function_as_torchvision_with_the_stem_changed(arch: str) -> None:
    ours = network_of(arch, 64)
    theirs = getattr(torchvision.models, arch)(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ours.eval(), theirs.eval()
    with torch.inference_mode():
        # The sums of up to fifty layers are rounded in another order.
        torch.testing.assert_close(ours(images)[0], theirs(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_parameters_and_stage_outputs(arch: str) -> None:
    network = network_of(arch, 64)
    assert count_parameters(network) == PARAMETERS[arch]
    assert network.stage_channels == CHANNELS[arch]
    with torch.inference_mode():
        logits, features = network(torch.randn(1, 3, 32, 32))
    assert logits.shape == (1, 10)
    sizes = [(channels, size, size) for channels, size in zip(CHANNELS[arch], (32, 16, 8, 4), strict=True)]
    assert [tuple(feature.shape[1:]) for feature in features] == sizes


def test_flops_by_hand(capsys: pytest.CaptureFixture) -> None:
    # Two a multiply-add: 2 · kernel² · channels in · channels out · pixels, of ResNet-18 at width 2 on 8×8 pixels.
    # Stages of 8×8, 4×4, 2×2 and 1×1 pixels with 2, 4, 8 and 16 channels, four 3×3 convolutions each.
    stem = 2 * 9 * 3 * 2 * 64
    first = 4 * (2 * 9 * 2 * 2 * 64)
    # The first convolution of the others has half the channels coming in, and so has the 1×1 of the shortcut.
    others = sum(
        2 * 9 * (c // 2) * c * pixels + 3 * (2 * 9 * c * c * pixels) + 2 * (c // 2) * c * pixels
        for c, pixels in ((4, 16), (8, 4), (16, 1))
    )
    linear = 2 * 16 * 10
    network = network_of("resnet18", 2)
    assert count_flops(network, 8) == stem + first + others + linear
    assert network.training, "left as it was"
    assert capsys.readouterr() == ("", "")


def test_weights_are_drawn_as_torchvision_draws_them() -> None:
    network = network_of("resnet18", 64)
    for convolution in (network.conv1, network.layer4[1].conv2):
        fan_out = convolution.out_channels * 9
        assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def weights(seed: int, module_seed: int) -> tuple[dict, dict]:
    built = learner.build(Shape("resnet18", 4, 8), STATISTICS, CPU, seed=seed, module_seed=module_seed)
    return built.network.state_dict(), built.module.state_dict()


def equal(first: dict, second: dict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_seeds_and_nothing_else_determine_the_weights() -> None:
    network, module = weights(seed=1, module_seed=2)
    torch.rand(7)
    again, module_again = weights(seed=1, module_seed=2)
    assert equal(network, again)
    assert equal(module, module_again)


def test_network_and_module_have_a_seed_each() -> None:
    network, module = weights(seed=1, module_seed=2)
    same_network, other_module = weights(seed=1, module_seed=3)
    other_network, same_module = weights(seed=3, module_seed=2)
    assert equal(network, same_network)
    assert equal(module, same_module)
    assert not torch.equal(network["conv1.weight"], other_network["conv1.weight"])
    assert not torch.equal(module["head.weight"], other_module["head.weight"])
    without = learner.build(Shape("resnet18", 4, None), STATISTICS, CPU, seed=1, module_seed=2)
    assert without.module is None
    assert equal(network, without.network.state_dict())


def test_building_a_learner_draws_nothing_from_anybody_else() -> None:
    torch.manual_seed(5)
    weights(seed=1, module_seed=2)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)


def module_and_features() -> tuple[LossPrediction, list[torch.Tensor]]:
    """Two stages of 2 and 1 channels, a hidden unit each, and what one image gives them."""
    module = LossPrediction([2, 1], hidden=1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.stages[0].weight[:] = torch.tensor([[1.0, 2.0]])
        module.stages[1].weight[:] = -1.0
        module.head.weight[:] = torch.tensor([[10.0, 100.0]])
        module.head.bias[:] = 0.5
    first = torch.tensor([[[1.0, 3.0]], [[2.0, 4.0]]]).unsqueeze(0)
    second = torch.full((1, 1, 1, 1), 4.0)
    return module, [first.requires_grad_(), second.requires_grad_()]


@pytest.mark.parametrize("gate", [None, 0.0, 0.5, 1.0])
def test_module_by_hand_whatever_the_gate(gate: float | None) -> None:
    module, features = module_and_features()
    # channel means 2 and 3, so 1·2 + 2·3 = 8; the second stage's −1·4 is cut off by the ReLU: 10·8 + 100·0 + 0.5
    assert module(features, None if gate is None else torch.tensor(gate)).tolist() == [80.5]


def test_a_network_with_a_stage_more_is_refused() -> None:
    module, features = module_and_features()
    with pytest.raises(ValueError, match="zip"):
        module([*features, features[-1]])


@pytest.mark.parametrize(("gate", "share"), [(None, 1.0), (1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_the_gate_scales_what_the_network_learns_from_the_module(gate: float | None, share: float) -> None:
    module, (first, second) = module_and_features()
    module([first, second], None if gate is None else torch.tensor(gate)).sum().backward()
    # Of each of two pixels: head 10 · stage weight 1 or 2 · half of the mean. Behind the closed ReLU there is nothing.
    assert first.grad.tolist() == [[[[5 * share, 5 * share]], [[10 * share, 10 * share]]]]
    assert second.grad.tolist() == [[[[0.0]]]]
    # The module itself learns alike: head 10 · the means 2 and 3, the hidden units 8 and 0.
    assert module.stages[0].weight.grad.tolist() == [[20.0, 30.0]]
    assert module.head.weight.grad.tolist() == [[8.0, 0.0]]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_module_fits_each_architecture(arch: str) -> None:
    network, module, *_ = learner.build(Shape(arch, 8, 128), STATISTICS, CPU)
    _, features = network(torch.randn(3, 3, 32, 32))
    assert module(features).shape == (3,)
    assert count_parameters(module) == sum((c + 1) * 128 for c in network.stage_channels) + 4 * 128 + 1


def ranking(predicted: list[float], true: list[float], margin: float = 1.0) -> float:
    return ranking_loss(torch.tensor(predicted), torch.tensor(true), margin).item()


def test_ranking_loss_by_hand() -> None:
    # right order by more than the margin: no loss
    assert ranking([3.0, 1.0], [2.0, 1.0]) == 0
    # right order by 0.5: 1 − 0.5
    assert ranking([1.5, 1.0], [2.0, 1.0]) == pytest.approx(0.5)
    # wrong order by 2: 1 + 2
    assert ranking([1.0, 3.0], [2.0, 1.0]) == pytest.approx(3.0)
    # equal true losses count as "not greater", s = −1: 1 + (2 − 1)
    assert ranking([2.0, 1.0], [1.0, 1.0]) == pytest.approx(2.0)
    # pairs (first, third) and (second, fourth): 1 − 0.5 and 1 + 2, their mean
    assert ranking([1.5, 1.0, 1.0, 3.0], [2.0, 2.0, 1.0, 1.0]) == pytest.approx(1.75)
    assert ranking([1.5, 1.0], [2.0, 1.0], margin=0.25) == 0


def test_the_odd_image_has_no_partner() -> None:
    # pairs (0, 2) and (1, 3); the fifth image, however wrong, is left out
    even = ranking([1.5, 1.0, 1.0, 3.0], [2.0, 2.0, 1.0, 1.0])
    assert ranking([1.5, 1.0, 1.0, 3.0, 99.0], [2.0, 2.0, 1.0, 1.0, 0.0]) == even


def test_a_batch_of_one_image_costs_nothing_and_trains_nothing() -> None:
    predicted = torch.tensor([5.0], requires_grad=True)
    loss = ranking_loss(predicted, torch.tensor([1.0]), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad.tolist() == [0.0]


def test_ranking_loss_teaches_the_prediction_and_not_the_true_loss() -> None:
    predicted = torch.tensor([1.5, 1.0], requires_grad=True)
    true = torch.tensor([2.0, 1.0], requires_grad=True)
    ranking_loss(predicted, true, 1.0).backward()
    assert predicted.grad.tolist() == [-1.0, 1.0]
    assert true.grad is None


def test_gradient_of_the_ranking_loss_by_hand() -> None:
    predicted = torch.tensor([1.5, 1.0, 5.0, 1.0, 3.0, 2.0], requires_grad=True)
    ranking_loss(predicted, torch.tensor([2.0, 1.0, 2.0, 1.0, 2.0, 1.0]), 1.0).backward()
    # Pairs (0, 3): right by 0.5, less than the margin; (1, 4): right by 2; (2, 5): right by 3. A third of the first.
    assert predicted.grad.tolist() == pytest.approx([-1 / 3, 0, 0, 1 / 3, 0, 0])
