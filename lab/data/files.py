"""Write files whole: to a temporary name first, then moved into place."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

PART = 2**23  # bytes that an array is read and written in


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that is either absent or complete afterwards, whenever the process dies.

    It has a temporary name beside ``path`` until all of it is on disk; an error leaves nothing of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Write the parts one after the other."""
    with replaced(path) as file:
        for part in parts:
            file.write(part)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    write_bytes(path, text.encode())


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file, as np.save does, but for its error on a full disk, which does not say so.

    Args:
        array: or what gives slices as one does, with a shape and a dtype; a part of it is held at a time.
    """
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    with replaced(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts_of(array):
            file.write(np.ascontiguousarray(part).data)


def parts_of(array: np.ndarray) -> Iterator[np.ndarray]:
    """Slices of an array along its first axis, of some megabytes each; of a single number that alone."""
    if not array.shape:
        array = array.reshape(1)
    step = max(1, PART // (array.dtype.itemsize * math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def write_json(path: Path, values: dict | list) -> None:
    """Write JSON, keys in the order given; a NaN is refused, as JSON has none.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")
