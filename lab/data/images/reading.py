"""From listed image files to a data set; what cannot be used is listed, and refused or left out."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np

from lab.data import pixels
from lab.data.dataset import UNKNOWN, Dataset, Source, Split
from lab.data.files import write_text
from lab.data.images import table
from lab.data.images.decode import Stored, decode
from lab.data.images.table import File
from lab.errors import BadInput
from lab.host import Host

SHOWN = 20  # faults in a message; a file has them all


def read(raw: Path, host: Host, root: Path, image_size: int, faults: str) -> Dataset:
    """Decode what ``table.write`` listed.

    Args:
        root: the folder that its paths lie in.
        faults: ``refuse`` or ``skip`` images and classes that cannot be used.

    Raises:
        BadInput: there are some, and they are refused; or fewer than two classes are left.
        Interrupted: a signal asked to stop; what is decoded is kept.
    """
    files, classes = table.read(raw)
    side = pixels.stored(image_size)
    stored, unusable = decode(root, files, side, host)
    unusable |= {row: fault for row, fault in _in_both(files) if row not in unusable}
    left = [row for row in range(len(files)) if row not in unusable]
    counts = Counter((files[row].label, files[row].split) for row in left)
    # Nobody can say which classes images have that nobody has labelled.
    is_labelled = any(file.label for file in files)
    kept = [name for name in classes if not is_labelled or (counts[name, "train"] and counts[name, "test"])]
    said = [f"{root / files[row].path}: {fault}" for row, fault in sorted(unusable.items())]
    said += [
        f"class {name!r}: {counts[name, 'train']} training and {counts[name, 'test']} test images are left, "
        "and it needs one of each; add images, or change the test split"
        for name in classes
        if name not in kept
    ]
    _tell(said, faults, host)
    if len(kept) < 2:
        raise BadInput(f"{root}: {len(kept)} classes are left, and a classifier needs two")
    number = {name: label for label, name in enumerate(kept)} | ({} if is_labelled else {"": UNKNOWN})
    splits, sources = [], []
    for split in ("train", "test"):
        rows = [row for row in left if files[row].split == split and files[row].label in number]
        # Class after class, as they are listed, equal scores would all go to the first one.
        rows.sort(key=lambda row: files[row].md5)
        images = Stored(stored, side, np.array(rows, dtype=np.int64))
        # It gives slices as an array does, which is all that is asked of it here.
        splits.append(Split(cast(np.ndarray, images), np.array([number[files[row].label] for row in rows], np.int64)))
        sources.append([Source(files[row].path, files[row].md5) for row in rows])
    return Dataset(splits[0], splits[1], kept, image_size, (sources[0], sources[1]))


def _in_both(files: list[File]) -> Iterator[tuple[int, str]]:
    """Training images whose content a test image has too: the test would be of what was learnt by heart."""
    tested = {file.md5: file.path for file in files if file.split == "test" and file.md5}
    for row, file in enumerate(files):
        if file.split == "train" and file.md5 in tested:
            yield row, f"has the content of the test image {tested[file.md5]}"


def _tell(said: list[str], faults: str, host: Host) -> None:
    listed = host.scratch / "unusable_images.txt"
    # That of an earlier run says nothing about these images.
    listed.unlink(missing_ok=True)
    if not said:
        return
    write_text(listed, "\n".join(said) + "\n")
    lines = [*said[:SHOWN], *([f"… and {len(said) - SHOWN:,} more"] if len(said) > SHOWN else []), f"all in {listed}"]
    if faults == "refuse":
        cure = (
            "mend or remove them, then list them again with `dvc repro --force --single-item download`; "
            "or leave them out with faults: skip in the data set's block"
        )
        raise BadInput("\n  ".join([f"{len(said):,} images or classes cannot be used; {cure}:", *lines]))
    print("\n  ".join([f"{len(said):,} images or classes are left out:", *lines]))
