"""An image that people are asked to label."""

from pathlib import Path
from typing import NamedTuple


class Asked(NamedTuple):
    """An image of a batch.

    Args:
        image: path below the data set's folder.
        file: on disk.
        md5: of the file.
        predicted: the class that the network predicts, and its probability ``confidence``; None to show none.
        score: acquisition score.
    """

    image: str
    file: Path
    md5: str
    predicted: str | None
    confidence: float | None
    score: float | None
