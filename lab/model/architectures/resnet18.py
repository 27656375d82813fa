"""ResNet-18 (He et al., 2016, table 1): 11.2 million parameters at width 64 with ten classes."""

import torch

from lab.model.resnet import BasicBlock, ResNet


def build(classes: int, width: int, precision: torch.dtype, is_large: bool) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), classes, width, precision, is_large)
