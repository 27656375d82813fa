"""An image that people are asked to label, and what they answer."""

from pathlib import Path
from typing import NamedTuple

from lab.data.answers import Answer


class Asked(NamedTuple):
    """An image of a batch.

    Args:
        image: path below the data set's folder.
        file: on disk.
        md5: of the file.
        predicted: the class that the network predicts, and its probability ``confidence``; None to show none.
        score: acquisition score.
        answers: how many there are already: more than none where people disagree, or skipped it.
    """

    image: str
    file: Path
    md5: str
    predicted: str | None = None
    confidence: float | None = None
    score: float | None = None
    answers: int = 0


class Found(NamedTuple):
    """An answer, and where it stands. The MD5 of an answer is empty where a table does not have it."""

    where: str
    answer: Answer
