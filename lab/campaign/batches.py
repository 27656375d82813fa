"""The batches of a campaign: which images people are asked about, and what they have said."""

from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

from lab import params
from lab.campaign.asked import Asked
from lab.data import answered, answers, details, labelled, prepared
from lab.data.answered import AUDIT
from lab.data.answers import Answer
from lab.data.dataset import Source
from lab.data.location import located
from lab.errors import BadInput
from lab.query import oracle
from stages.answers import decided

FOLDER, LOCK = Path("data/batches"), Path("dvc.lock")


class Batch(NamedTuple):
    """name: ``audit``, or the number of the first cycle that trains on it. given: all answers about its images."""

    name: str
    asked: list[Asked]
    given: list[Answer]

    @property
    def waiting(self) -> list[Asked]:
        """The images that are not decided, ties among them."""
        decided = answers.decide(self.given)
        return [one for one in self.asked if one.image not in decided]


class Campaign(NamedTuple):
    """name: of the data set. listed: cycles in params.yaml. done: those that are finished with the answers of now."""

    name: str
    classes: list[str]
    batches: list[Batch]
    listed: int
    done: int

    @property
    def waiting(self) -> list[Batch]:
        return [batch for batch in self.batches if batch.waiting]


def read() -> Campaign:
    """The campaign of this workspace.

    Raises:
        BadInput: there is none, its images are not chosen yet, or an answer is refused.
    """
    settings = params.load(oracle="oracle", dataset="dataset", block="datasets.{dataset}", cycles="cycles")
    if settings.oracle != oracle.PEOPLE:
        raise BadInput(f"oracle = {settings.oracle!r}: nobody is asked; set oracle: people in {params.PARAMS_FILE}")
    if not labelled.path_of(0).exists():
        raise BadInput(f"no images of {settings.dataset} are chosen yet: run `dvc repro cold_start`")
    root = located(settings.block.path) if hasattr(settings.block, "path") else None
    done = sum(1 for _ in _done(len(settings.cycles)))
    train = prepared.read_sources("train")
    asked = {AUDIT: [_asked(source, root, AUDIT) for source in prepared.read_sources("test")]}
    for number in range(done + 1):
        asked[str(number)] = list(_acquired(number, train, root))
    batches = [Batch(name, images, answers.read(answers.path_of(name))) for name, images in asked.items()]
    return Campaign(settings.dataset, prepared.read_statistics().classes, batches, len(settings.cycles), done)


def _done(listed: int) -> Iterator[int]:
    """The cycles that were run on the labelled sets and the answers of now, from 0 to the first that was not."""
    stages = params.read(LOCK)["stages"] if LOCK.exists() else {}
    until_now: list[tuple[int, int]] = []
    audit = decided(AUDIT, "test")
    for cycle in range(listed):
        until_now += decided(str(cycle), "train")
        stage = stages.get(f"cycle@{cycle}", {})
        held = {item["path"]: item["md5"] for item in (*stage.get("deps", []), *stage.get("outs", []))}
        content = {
            str(answered.path_of(AUDIT)): answered.text_of(audit),
            str(answered.path_of(str(cycle))): answered.text_of(until_now),
        }
        for path in (labelled.path_of(cycle), labelled.path_of(cycle + 1), details.path_of(cycle)):
            content[str(path)] = path.read_text() if path.exists() else ""
        if any(held.get(path) != md5(text.encode()).hexdigest() for path, text in content.items()):
            return
        yield cycle


def _acquired(number: int, train: list[Source], root: Path | None) -> Iterator[Asked]:
    """The images that a cycle is the first to train on, in the order of acquisition."""
    pool, classes = labelled.read(labelled.path_of(number)), prepared.read_statistics().classes
    new = pool[pool["cycle"] == number]
    if number == 0:
        yield from (_asked(train[index], root, "0") for index in new["index"])
        return
    seen = details.read(number - 1)["asked"]
    for index, score, predicted, confidence in zip(
        new["index"], new["score"], seen["predicted"], seen["confidence"], strict=True
    ):
        about = {"predicted": classes[predicted], "confidence": confidence, "score": score}
        yield _asked(train[index], root, str(number))._replace(**about)


def _asked(source: Source, root: Path | None, batch: str) -> Asked:
    """root: of the data set's files; None where images are no files, and a picture of each is drawn."""
    file = root / source.name if root else FOLDER / batch / "drawn" / source.name
    return Asked(source.name, file, source.md5, None, None, None)
