"""ResNet-18, -34 and -50 (He et al., 2016) of torchvision's blocks, with the stem for 32×32 images.

The stem is a 3×3 convolution of stride 1 and no max-pool, so that the four stages work on 32, 16, 8
and 4 pixels. At width 64 the rest is torchvision's ResNet, parameter for parameter.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

ARCHITECTURES = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """A residual network that also hands out what each of its four stages computes.

    Args:
        arch: a name of ``ARCHITECTURES``.
        classes: length of the output.
        width: channels of the first stage's blocks, doubled at each stage; 64 in the paper.
    """

    def __init__(self, arch: str, classes: int, width: int = 64) -> None:
        super().__init__()
        block, depths = ARCHITECTURES[arch]
        self.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        planes = [width * 2**stage for stage in range(4)]
        self.stage_channels = [count * block.expansion for count in planes]
        incoming = [width, *self.stage_channels[:-1]]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, depth, channels, count, stride)
            for depth, channels, count, stride in zip(depths, incoming, planes, (1, 2, 2, 2), strict=True)
        )
        self.fc = nn.Linear(self.stage_channels[-1], classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """images: float (n, 3, 32, 32), normalised.

        Returns:
            logits (n, classes), and the outputs of the four stages, (n, channels, size, size) each.
        """
        x = self.relu(self.bn1(self.conv1(images)))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return self.fc(x.mean(dim=(2, 3))), features


def _stage(block: type, depth: int, channels: int, planes: int, stride: int) -> nn.Sequential:
    outgoing = planes * block.expansion
    shortcut = None
    if stride != 1 or channels != outgoing:
        # Every second pixel, as torchvision takes by a 1×1 convolution of stride 2. oneDNN's kernel for
        # that writes out of bounds below 16 channels in channels-last memory (seen with torch 2.15).
        subsample = {"subsample": nn.AvgPool2d(1, stride)} if stride != 1 else {}
        # The names "0" and "1" are torchvision's.
        shortcut = nn.Sequential(
            OrderedDict({**subsample, "0": conv1x1(channels, outgoing), "1": nn.BatchNorm2d(outgoing)})
        )
    first = block(channels, planes, stride, shortcut)
    return nn.Sequential(first, *(block(outgoing, planes) for _ in range(depth - 1)))


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def build(arch: str, classes: int, width: int, seed: int) -> ResNet:
    """A freshly initialised network; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(arch, classes, width)
