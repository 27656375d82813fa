"""What pictures show of a cycle beside its results: a JSON file a cycle, of some kilobytes.

``classes``: their names. ``confusion``: images by their class, a row each, and by the predicted one. ``training``:
loss, accuracy and learning rate of each epoch. ``losses``: predicted and true, of some of the images that the cycle is
judged on. ``lowest``: index and score of the lowest-scored images that were not acquired. ``asked``: where
people are the oracle, the predicted class of each acquired image and its probability; else null.
"""

import json
from pathlib import Path

from lab.data.files import write_text
from lab.errors import BadInput


def path_of(cycle: int) -> Path:
    """The file of a cycle, counted from 0."""
    return Path(f"metrics/details/{cycle}.json")


def write(details: dict, cycle: int) -> None:
    """Write the details of a cycle, on one line."""
    write_text(path_of(cycle), json.dumps(details, allow_nan=False) + "\n")


def read(cycle: int) -> dict:
    """The details of a cycle.

    Raises:
        BadInput: the file cannot be read.
    """
    path = path_of(cycle)
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("no mapping")
        return found
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no details of cycle {cycle} ({error}); `dvc repro` computes them again") from error
