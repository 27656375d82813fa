"""CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images of 32×32 pixels, 10 classes."""

import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile
from lzma import LZMAError
from pathlib import Path
from typing import IO

import numpy as np

from lab.data.dataset import Dataset, Split
from lab.data.files import replaced
from lab.errors import BadInput, reason
from lab.host import Host

TRAINING_IMAGES = 50_000
TEST_IMAGES = 10_000
PIXELS = 32  # of a side

# Names an archive or a folder already on disk: compute nodes have no internet.
VARIABLE = "AL_LAB_CIFAR10"

# Outside DVC's outputs, which are removed before a stage runs: fetched once, verified at each use.
ARCHIVE_FOLDER = Path("data/archive")


def fetch(raw: Path, host: Host) -> None:
    """Put the seven official files into ``raw/cifar-10-batches-py``, each with its published MD5.

    They come from the archive or folder that the environment variable AL_LAB_CIFAR10 names, else
    from the internet.

    Raises:
        BadInput: the source is absent, out of reach, broken, or holds other bytes than the official files.
    """
    named = named_source()
    # Imported here: loading torchvision takes seconds, and the other data sets do without it.
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    checksums = dict(CIFAR10.train_list + CIFAR10.test_list)
    checksums[CIFAR10.meta["filename"]] = CIFAR10.meta["md5"]
    source = named or _download()
    folder = raw / CIFAR10.base_folder
    try:
        bar = host.progress("CIFAR-10", len(checksums), "files")
        # Only these names are written: an archive from elsewhere cannot write outside the folder.
        for name, content in _files(source, folder.name):
            with content:
                if name not in checksums:
                    continue
                with replaced(folder / name) as file:
                    shutil.copyfileobj(content, file)
            bar.update()
            if not check_integrity(folder / name, checksums.pop(name)):
                raise BadInput(f"{source}: {name} is not the official file, its MD5 differs")
    except (tarfile.TarError, EOFError, BadGzipFile, LZMAError, zlib.error) as error:
        raise BadInput(f"{source}: broken or truncated ({error})") from error
    if checksums:
        raise BadInput(f"{source}: has no {', '.join(sorted(checksums))}")


def read(raw: Path, host: Host) -> Dataset:
    """The data set from the files that ``fetch`` left, whose checksums are verified once more."""
    from torchvision.datasets import CIFAR10

    train, test = (CIFAR10(raw, train=is_train) for is_train in (True, False))
    return Dataset(
        Split(train.data, np.asarray(train.targets, dtype=np.int64)),
        Split(test.data, np.asarray(test.targets, dtype=np.int64)),
        train.classes,
    )


def named_source() -> Path | None:
    """The archive or folder that AL_LAB_CIFAR10 names; None where it is to be downloaded.

    Raises:
        BadInput: it names nothing that can be read.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    source, fault = Path(value), ""
    try:
        if not source.is_absolute():
            fault = "not an absolute path"
        elif source.is_dir():
            os.listdir(source)
        elif source.is_file():
            source.open("rb").close()
        else:
            fault = "no such file or folder"
    except OSError as error:
        fault = f"cannot be read, {reason(error)}"
    if fault:
        raise BadInput(
            f"{VARIABLE} = {value!r}: {fault}; name an archive (cifar-10-python.tar.gz) or the folder "
            "cifar-10-batches-py by its absolute path, or unset the variable to download it"
        )
    return source


def _download() -> Path:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    try:
        download_url(CIFAR10.url, ARCHIVE_FOLDER, CIFAR10.filename, CIFAR10.tgz_md5)
    except RuntimeError as error:
        raise BadInput(f"{CIFAR10.url}: the download is broken, its MD5 differs; run again") from error
    except OSError as error:
        raise BadInput(
            f"{CIFAR10.url}: cannot be reached ({error}); without internet, name the archive or the unpacked "
            f"folder in the environment variable {VARIABLE}"
        ) from error
    return ARCHIVE_FOLDER / CIFAR10.filename


def _files(source: Path, folder: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file of an archive or a folder, which may hold them in ``folder``."""
    if source.is_dir():
        nested = source / folder
        for file in (nested if nested.is_dir() else source).iterdir():
            if file.is_file():
                yield file.name, file.open("rb")
        return
    with tarfile.open(source) as archive:
        for member in archive:
            if member.isfile() and (content := archive.extractfile(member)):
                yield Path(member.name).name, content
