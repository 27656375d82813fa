"""Write files whole: to a temporary name first, then moved into place."""

import json
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file that is either absent or complete, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with open(part, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def write_json(path: Path, values: dict) -> None:
    """Write JSON, keys in the order given; a NaN is refused, as JSON has none.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")
