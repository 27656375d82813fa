"""Digits: 1,797 real handwritten digits of 8×8 pixels (UCI, 1998), which scikit-learn ships."""

from pathlib import Path

import numpy as np

from lab.data.dataset import Dataset, Split
from lab.data.files import write_array
from lab.host import Host

TRAINING_IMAGES = 1_297
TEST_IMAGES = 500
PIXELS = 16  # of a side
LEVELS = 16  # the darkest ink of a pixel
ENLARGEMENT = 2  # 8×8 to 16×16, so that four stages of a network have pixels to work on


def fetch(raw: Path, host: Host) -> None:
    """Write the images (float64 (1797, 8, 8), 0 … 16) and labels as scikit-learn gives them."""
    # Imported where it is used: the check, which asks for sizes alone, should not wait for scikit-learn.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    write_array(raw / "images.npy", bunch.images)
    write_array(raw / "labels.npy", bunch.target.astype(np.int64))


def read(raw: Path, host: Host) -> Dataset:
    """1,297 training and 500 test images, a fixed split with equal shares of each class."""
    from sklearn.model_selection import train_test_split

    ink = np.load(raw / "images.npy")
    labels = np.load(raw / "labels.npy")
    grey = np.rint(ink * (255 / LEVELS)).astype(np.uint8)
    images = grey.repeat(ENLARGEMENT, axis=1).repeat(ENLARGEMENT, axis=2)[..., None].repeat(3, axis=3)
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_IMAGES, stratify=labels, random_state=0)
    return Dataset(
        Split(images[train], labels[train]),
        Split(images[test], labels[test]),
        [str(digit) for digit in range(10)],
    )
