"""Batches of the labelled set: shuffled, cropped and mirrored where the images lie, without a copy on disk."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.data.prepared import Statistics


class Normaliser:
    """uint8 (n, height, width, 3) to normalised float32 (n, 3, height, width), channels last in memory."""

    def __init__(self, statistics: Statistics, device: torch.device) -> None:
        self.statistics = statistics
        self.mean = torch.from_numpy(statistics.mean).to(device)
        self.std = torch.from_numpy(statistics.std).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        return ((images / 255 - self.mean) / self.std).permute(0, 3, 1, 2)


class TrainingBatches:
    """The labelled images on a device, handed out in a new order with new crops at each epoch.

    A crop is a window of the image's own size out of the image with a black border of ``padding``
    pixels, as in the common recipe for CIFAR-10 (He et al., 2016, section 4.2).

    Args:
        images: uint8 (n, size, size, 3).
        labels: int64 (n,).
        padding: width of the border, in pixels.
        flip: mirror half of the images, left to right.
    """

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, padding: int, flip: bool) -> None:
        self.padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        self.labels = labels
        self.size = images.shape[1]
        self.batch_size = batch_size
        self.padding = padding
        self.flip = flip

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once: uint8 images (b, size, size, 3) and labels (b,); the last batch can be smaller."""
        # All draws at once and on the CPU: the same on every device, and one transfer an epoch.
        generator = torch.Generator().manual_seed(seed)
        count, device = len(self.labels), self.labels.device
        order = torch.randperm(count, generator=generator).to(device)
        corner = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator).to(device)
        mirrored = (torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0)).to(device)
        rows, columns = corner + torch.arange(self.size, device=device)
        columns = torch.where(mirrored, columns.flip(1), columns)
        for batch in torch.arange(count, device=device).split(self.batch_size):
            chosen = order[batch]
            yield (
                self.padded[chosen[:, None, None], rows[batch][:, :, None], columns[batch][:, None, :]],
                self.labels[chosen],
            )
