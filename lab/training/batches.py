"""Batches of the labelled set: shuffled, cropped and mirrored where the images lie, without a copy on disk."""

from collections.abc import Iterator
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from lab.data.prepared import Rows, Statistics

# Width by height of random crops (Szegedy et al., 2015, section 6).
RATIOS = (3 / 4, 4 / 3)


class Normaliser:
    """uint8 (n, side, side, 3) to normalised float32 (n, 3, pixels, pixels), channels last in memory.

    Of images that were prepared with a margin for crops, the centre is taken.
    """

    def __init__(self, statistics: Statistics, device: torch.device) -> None:
        self.statistics = statistics
        self.mean = torch.from_numpy(statistics.mean).to(device)
        self.std = torch.from_numpy(statistics.std).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = self.statistics.pixels or images.shape[1]
        margin = (images.shape[1] - pixels) // 2
        centre = images[:, margin : margin + pixels, margin : margin + pixels]
        return ((centre / 255 - self.mean) / self.std).permute(0, 3, 1, 2)


class TrainingBatches:
    """The labelled images on a device, handed out in a new order with new crops at each epoch.

    A crop is a window of the image's own size out of the image with a black border of ``padding``
    pixels, as in the common recipe for CIFAR-10 (He et al., 2016, section 4.2). With ``smallest_crop`` it is
    a part of random area and shape that is resized, as for ImageNet (Szegedy et al., 2015, section 6).

    Args:
        images: uint8 (n, side, side, 3); rows of a memory map are read batch by batch.
        labels: int64 (n,).
        padding: width of the border, in pixels.
        flip: mirror half of the images, left to right.
        smallest_crop: the least share of an image's area, or None for windows of a padded image.
        pixels: of a side of resized crops.
    """

    def __init__(
        self,
        images: Tensor | Rows,
        labels: Tensor,
        batch_size: int,
        padding: int,
        flip: bool,
        smallest_crop: float | None = None,
        pixels: int | None = None,
    ) -> None:
        self.padding = padding if smallest_crop is None else 0
        self.images = images if isinstance(images, Rows) else self._padded(images)
        self.labels = labels
        self.size = pixels or images.shape[1]
        self.batch_size = batch_size
        self.flip = flip
        self.smallest_crop = smallest_crop

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once: uint8 images (b, pixels, pixels, 3) and labels (b,); the last batch can be smaller."""
        # All draws at once and on the CPU: the same on every device, and one transfer an epoch.
        generator = torch.Generator().manual_seed(seed)
        count, device = len(self.labels), self.labels.device
        order = torch.randperm(count, generator=generator).to(device)
        corner = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator).to(device)
        mirrored = (torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0)).to(device)
        rows, columns = corner + torch.arange(self.size, device=device)
        columns = torch.where(mirrored, columns.flip(1), columns)
        parts = None if self.smallest_crop is None else _parts(count, self.smallest_crop, generator).to(device)
        for batch in torch.arange(count, device=device).split(self.batch_size):
            chosen = order[batch]
            images, each = self.images, chosen
            if isinstance(images, Rows):
                images = self._padded(torch.from_numpy(images[chosen.cpu().numpy()]).to(device))
                each = torch.arange(len(chosen), device=device)
            if parts is None:
                crops = images[each[:, None, None], rows[batch][:, :, None], columns[batch][:, None, :]]
            else:
                crops = _resized(images[each], self.size, parts[:, batch], mirrored[batch])
            yield crops, self.labels[chosen]

    def _padded(self, images: Tensor) -> Tensor:
        return F.pad(images, (0, 0, self.padding, self.padding, self.padding, self.padding))


def _parts(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Random parts of images: left, top, width and height as shares of a side, float32 (4, count).

    The area is uniform from ``smallest`` to 1, the logarithm of width by height uniform in RATIOS; a side that would
    be longer than the image's is cut off.
    """
    area, shape, left, top = torch.rand(4, count, generator=generator)
    area = smallest + (1 - smallest) * area
    ratio = torch.exp(log(RATIOS[0]) + (log(RATIOS[1]) - log(RATIOS[0])) * shape)
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    return torch.stack([left * (1 - width), top * (1 - height), width, height])


def _resized(images: Tensor, pixels: int, parts: Tensor, mirrored: Tensor) -> Tensor:
    """Parts of images as ``_parts`` draws them, resized to ``pixels`` and rounded to uint8."""
    left, top, width, height = parts
    nothing = torch.zeros_like(left)
    # From the crop's coordinates, −1 … 1, to the image's.
    across = torch.where(mirrored[:, 0], -width, width)
    rows = [across, nothing, 2 * left + width - 1, nothing, height, 2 * top + height - 1]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), [len(images), 3, pixels, pixels], align_corners=False)
    crops = F.grid_sample(images.permute(0, 3, 1, 2).float(), grid, padding_mode="border", align_corners=False)
    return crops.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
