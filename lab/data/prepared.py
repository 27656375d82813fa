"""The prepared data set on disk: arrays that can be memory-mapped, and the channel statistics."""

import csv
import hashlib
import io
import json
import mmap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lab.data.dataset import Augmentation, Dataset, Source, Split
from lab.data.files import parts_of, write_array, write_json, write_text

FOLDER = Path("data/prepared")
AS_THEY_ARE = Augmentation()


class Statistics(NamedTuple):
    """What a network has to know of its images.

    mean, std: of the training images, per channel, on the scale 0 … 1; float32 (3,). pixels: of a side as the network
    sees them; None for all of the images'.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    classes: list[str]
    pixels: int | None = None
    augmentation: Augmentation = AS_THEY_ARE


def write(dataset: Dataset, folder: Path = FOLDER, augmentation: Augmentation = AS_THEY_ARE) -> None:
    """Write images, labels and statistics. Raises ValueError where images and labels do not match."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        if len(split.images) != len(split.labels):
            raise ValueError(f"{name}: {len(split.images)} images but {len(split.labels)} labels")
        write_array(folder / f"{name}_images.npy", split.images)
        write_array(folder / f"{name}_labels.npy", split.labels)
    for name, sources in zip(("train", "test"), dataset.sources or (), strict=False):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(sources)
        write_text(folder / f"{name}_sources.csv", text.getvalue())
    mean, std = channel_statistics(dataset.train.images)
    write_json(
        folder / "statistics.json",
        {
            "mean": mean.tolist(),
            "std": std.tolist(),
            "classes": dataset.classes,
            "pixels": dataset.pixels,
            "augmentation": augmentation._asdict(),
        },
    )


class Rows:
    """Rows of memory-mapped images, which stay on disk until they are asked for.

    Args:
        images: uint8 (pool, side, side, 3), memory-mapped.
        indices: int64 (n,), of the rows.
    """

    def __init__(self, images: np.memmap, indices: NDArray[np.int64]) -> None:
        self.images, self.indices = images, indices
        self.shape, self.dtype = (len(indices), *images.shape[1:]), images.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        rows = self.images[self.indices[chosen]]
        forget(self.images)
        return rows


def forget(images: NDArray) -> None:
    """Give back the pages of a memory map that were read, which would stay with this process: the pool in the end."""
    if isinstance(images, np.memmap):
        images._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # it is private


def read_split(name: str, folder: Path = FOLDER) -> Split:
    """``train`` or ``test``. The images stay on disk, memory-mapped; the labels are read."""
    return Split(
        np.load(folder / f"{name}_images.npy", mmap_mode="r"),
        np.load(folder / f"{name}_labels.npy"),
    )


def read_sources(name: str, folder: Path = FOLDER) -> list[Source]:
    """Where each image of ``train`` or ``test`` comes from; where it was no file, the one that ``drawn`` makes."""
    path = folder / f"{name}_sources.csv"
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            return [Source(*row) for row in csv.reader(file)]
    images = read_split(name, folder).images
    return [
        Source(f"{name}/{index:05d}.bmp", hashlib.md5(drawn(image)).hexdigest()) for index, image in enumerate(images)
    ]


def drawn(image: NDArray[np.uint8]) -> bytes:
    """An image as a BMP file. image: uint8 (height, width, 3)."""
    # Imported where it is used: stages that draw nothing do without.
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "BMP")
    return content.getvalue()


def read_statistics(folder: Path = FOLDER) -> Statistics:
    values = json.loads((folder / "statistics.json").read_text())
    return Statistics(
        np.asarray(values["mean"], dtype=np.float32),
        np.asarray(values["std"], dtype=np.float32),
        values["classes"],
        values["pixels"],
        Augmentation(**values["augmentation"]),
    )


def channel_statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over all pixels, on the scale 0 … 1.

    From a histogram of the 256 levels: exact, and without a float copy of the images.

    Args:
        images: uint8 (n, height, width, channels).

    Returns:
        mean and std, float64 (channels,) each.
    """
    levels = np.arange(256) / 255
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for part in parts_of(images):
        counts += [np.bincount(part[..., channel].ravel(), minlength=256) for channel in range(images.shape[-1])]
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(axis=1)
    return mean, np.sqrt(variance)
