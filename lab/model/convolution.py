"""A convolution that computes in the precision it is given, by the faster of two ways."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Convolution(nn.Conv2d):
    """A convolution that runs in ``precision``: its inputs, weights and output, and their gradients, are rounded to it.

    The convolutions alone are rounded: its sums, batch norm, additions and losses stay in float32, which
    scatters the accuracy less than bfloat16 throughout.

    Args:
        channels, outgoing: of input and output.
        size: of the kernel, 1, 3 or 7; the border is padded so that stride 1 keeps the image's size.
        stride: 1 or 2.
        precision: torch.float32 or torch.bfloat16.
    """

    def __init__(self, channels: int, outgoing: int, size: int, stride: int, precision: torch.dtype) -> None:
        super().__init__(channels, outgoing, size, stride, padding=size // 2, bias=False)
        self.precision = precision

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 or bfloat16 (n, channels, height, width). Returns (n, outgoing, …) of the same dtype."""
        rounded, weight = x.to(self.precision), self.weight.to(self.precision)
        bias = None if self.bias is None else self.bias.to(self.precision)
        if self._pays_as_matmul(x):
            return by_matmul(rounded, weight, bias).to(x.dtype)
        return F.conv2d(rounded, weight, bias, self.stride, self.padding).to(x.dtype)

    def _pays_as_matmul(self, x: Tensor) -> bool:
        # oneDNN's weight gradient in bfloat16 is slow on images of 4×4 pixels, where the matrix is small.
        return (
            self.precision == torch.bfloat16
            and x.device.type == "cpu"
            and (self.kernel_size, self.stride) == ((3, 3), (1, 1))
            and x.shape[-1] <= 4
        )


def by_matmul(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 3×3 convolution of stride 1 and padding 1 as one product of matrices.

    Args:
        x: (n, channels, height, width), channels last in memory.
        weight: (outgoing, channels, 3, 3).
        bias: (outgoing,) or None.

    Returns:
        (n, outgoing, height, width), channels last in memory: F.conv2d's result up to rounding.
    """
    count, channels, height, width = x.shape
    bordered = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = [bordered[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    patches = torch.cat(windows, dim=3).view(count * height * width, 9 * channels)
    flat = F.linear(patches, weight.permute(0, 2, 3, 1).reshape(-1, 9 * channels), bias)
    return flat.view(count, height, width, -1).permute(0, 3, 1, 2)
