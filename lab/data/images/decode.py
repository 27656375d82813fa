"""Decode image files into one array on disk, all cores at once; what is decoded outlives a kill."""

import hashlib
import os
import shutil
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lab.data.images.cores import on_all_cores
from lab.data.images.table import File
from lab.errors import BadInput, reason
from lab.host import Host

# An image whose shorter side has less than this share of the prepared one is mostly made up by resizing.
LEAST_SHARE = 1 / 4
# Images between two marks of what is done.
MARKED = 256
WAITING, DONE = 0, 1


class Unusable(Exception):
    """An image that cannot be used. The message says why."""


@dataclass(frozen=True)
class Stored:
    """Some rows of the images on disk, which are read slice by slice and never held as a whole.

    file: uint8 images of side × side pixels, one after the other. rows: int64 (n,), in any order.
    """

    file: Path
    side: int
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), self.side, self.side, 3

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        # Mapped anew each time: pages that were read would stay with this process.
        images = np.memmap(self.file, np.uint8, "r").reshape(-1, self.side, self.side, 3)
        return images[self.rows[part]]


def decode(root: Path, files: list[File], side: int, host: Host) -> tuple[Path, dict[int, str]]:
    """Decode all files that no earlier run has decoded.

    Returns:
        The file of images, one row a file, as ``Stored`` reads it; and why a row is unusable, by its number.

    Raises:
        BadInput: a file has another content than when the table was made.
        Interrupted: a signal asked to stop; what is decoded is kept.
    """
    made_by = PIL.__version__, Path(__file__).read_bytes()
    key = hashlib.sha256(repr((side, files, made_by)).encode()).hexdigest()[:16]
    folder = host.scratch / f"images-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    size, unusable = side * side * 3, {}
    with ExitStack() as stack:
        # Of large images, which are refused in other words.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        images, marks = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644) for name in ("images.bin", "decoded.bin")
        )
        for file in (images, marks):
            stack.callback(os.close, file)
        os.ftruncate(images, len(files) * size)
        os.ftruncate(marks, len(files))
        mark = np.frombuffer(os.pread(marks, len(files), 0), np.uint8).copy()

        def work(row: int) -> str | None:
            try:
                os.pwrite(images, load(root, files[row], side).data, row * size)
            except Unusable as fault:
                return str(fault)
            return None

        bar = host.progress("decoding", len(files), "images")
        bar.update(int(mark.sum()))
        waiting = np.flatnonzero(mark == WAITING).tolist()
        for number, (row, fault) in enumerate(zip(waiting, on_all_cores(work, waiting), strict=True), start=1):
            if fault is None:
                mark[row] = DONE
            else:
                unusable[row] = fault
            bar.update()
            if number % MARKED == 0 or number == len(waiting):
                os.fdatasync(images)
                os.pwrite(marks, mark.data, 0)
                host.check(f"decoded images are kept in {folder}, the next run goes on from there")
    host.when_safe(lambda: shutil.rmtree(folder, ignore_errors=True))
    return folder / "images.bin", unusable


def load(root: Path, file: File, side: int) -> NDArray[np.uint8]:
    """Decode an image: its shorter side resized to ``side``, its centre cropped. Returns uint8 (side, side, 3).

    Raises:
        Unusable: it is no image, is empty or broken, or too large or too small.
        BadInput: the content is not that of the table.
    """
    try:
        content = (root / file.path).read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read, {reason(error)}") from error
    if hashlib.md5(content).hexdigest() != file.md5:
        raise BadInput(
            f"{root / file.path}: changed since the files were listed; list them again with "
            "`dvc repro --force --single-item download`"
        )
    if not content:
        raise Unusable("empty")
    try:
        image = Image.open(BytesIO(content))
        width, height = image.size
        if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
            raise Unusable(f"{width:,} × {height:,} pixels, more than can be decoded safely; make it smaller")
        if min(width, height) < LEAST_SHARE * side:
            raise Unusable(f"{width} × {height} pixels, and each side needs {ceil(LEAST_SHARE * side)}")
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise Unusable(f"pixels of mode {image.mode}; save it with 8 bits a channel")
        # Pillow opens colours of 16 bits as of 8, and only what its decoder is told gives them away.
        if any(";16" in str(tile.args) for tile in getattr(image, "tile", [])):
            raise Unusable("16 bits a channel; save it with 8")
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.ascontiguousarray(ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR))
    except Image.DecompressionBombError as error:
        raise Unusable("more pixels than can be decoded safely; make it smaller") from error
    except Image.UnidentifiedImageError as error:
        raise Unusable("no image that Pillow can read") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # whatever a decoder finds in broken files
        raise Unusable(f"broken, {error}") from error
