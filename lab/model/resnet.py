"""Residual networks (He et al., 2016), with a stem for small images and one for large ones.

For small ones the stem is a 3×3 convolution of stride 1 and no max-pool, so that the four stages work on
32, 16, 8 and 4 pixels of 32. For large ones it is that of ImageNet, a 7×7 convolution of stride 2 and a
max-pool, for 56, 28, 14 and 7 of 224. At width 64 the rest is torchvision's ResNet: same parameters, same
names, same function.
"""

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from lab.model.convolution import Convolution


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al., 2016, figure 5, left)."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int, precision: torch.dtype) -> None:
        super().__init__()
        self.conv1 = Convolution(channels, planes, 3, stride, precision)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = Convolution(planes, planes, 3, 1, precision)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _shortcut(channels, planes, stride, precision)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return torch.relu_(out)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions beside a shortcut (figure 5, right); the 3×3 has the stride, as in torchvision."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int, precision: torch.dtype) -> None:
        super().__init__()
        outgoing = planes * self.expansion
        self.conv1 = Convolution(channels, planes, 1, 1, precision)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = Convolution(planes, planes, 3, stride, precision)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = Convolution(planes, outgoing, 1, 1, precision)
        self.bn3 = nn.BatchNorm2d(outgoing)
        self.downsample = _shortcut(channels, outgoing, stride, precision)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = torch.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.downsample(x)
        return torch.relu_(out)


def _shortcut(channels: int, outgoing: int, stride: int, precision: torch.dtype) -> nn.Module:
    if stride == 1 and channels == outgoing:
        return nn.Identity()
    # Every second pixel, as torchvision takes by a 1×1 convolution of stride 2. oneDNN's kernel for
    # that writes out of bounds below 16 channels in channels-last memory (seen with torch 2.15).
    subsample = {"subsample": nn.AvgPool2d(1, stride)} if stride != 1 else {}
    # The names "0" and "1" are torchvision's.
    return nn.Sequential(
        OrderedDict({**subsample, "0": Convolution(channels, outgoing, 1, 1, precision), "1": nn.BatchNorm2d(outgoing)})
    )


class ResNet(nn.Module):
    """A residual network that also hands out what each of its four stages computes.

    Args:
        block: ``BasicBlock`` or ``Bottleneck``.
        depths: blocks of each of the four stages.
        classes: length of the output.
        width: channels of the first stage's blocks, doubled at each stage; 64 in the paper.
        precision: of the convolutions, torch.float32 or torch.bfloat16.
        is_large: whether images are, and the stem is ImageNet's.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        classes: int,
        width: int,
        precision: torch.dtype,
        is_large: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = Convolution(3, width, 7, 2, precision) if is_large else Convolution(3, width, 3, 1, precision)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if is_large else nn.Identity()
        planes = [width * 2**stage for stage in range(4)]
        self.stage_channels = [count * block.expansion for count in planes]
        incoming = [width, *self.stage_channels[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                block(channels, count, stride, precision),
                *(block(count * block.expansion, count, 1, precision) for _ in range(depth - 1)),
            )
            for depth, channels, count, stride in zip(depths, incoming, planes, (1, 2, 2, 2), strict=True)
        )
        self.fc = nn.Linear(self.stage_channels[-1], classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """images: float (n, 3, size, size), normalised.

        Returns:
            logits (n, classes), float32, and the outputs of the four stages, (n, channels, size, size) each.
        """
        # bfloat16 throughout where the weights are (``folded``), else float32 between the convolutions
        x = self.maxpool(torch.relu_(self.bn1(self.conv1(images.to(self.conv1.weight.dtype)))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return self.fc(x.mean(dim=(2, 3), dtype=torch.float32)), features


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(network: ResNet, size: int) -> int:
    """Floating-point operations to classify one image: two a multiply-add, of convolutions and the linear layer.

    Args:
        size: pixels of a side of the image.
    """
    device = network.fc.weight.device
    was_training = network.training
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size, device=device))
    network.train(was_training)
    return counter.get_total_flops()


def folded(network: ResNet) -> ResNet:
    """A copy for prediction: each batch norm is folded into the convolution before it.

    Its weights are kept in the convolutions' precision, in which all of its stages then compute; the
    logits are float32 again. The running statistics are those of this moment.
    """
    copy = deepcopy(network).eval()
    for part in copy.modules():
        for convolution, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
            if isinstance(getattr(part, norm, None), nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(getattr(part, convolution), getattr(part, norm))
                setattr(part, convolution, fused.to(fused.precision, memory_format=torch.channels_last))
                setattr(part, norm, nn.Identity())
    return copy
