"""ResNet-50 (He et al., 2016, table 1): 23.5 million parameters at width 64 with ten classes."""

import torch

from lab.model.resnet import Bottleneck, ResNet


def build(classes: int, width: int, precision: torch.dtype, is_large: bool) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), classes, width, precision, is_large)
