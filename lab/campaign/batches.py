"""The batches of a campaign: which images people are asked about, and what they have said."""

from collections import Counter
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

from lab import params
from lab.campaign.asked import Asked
from lab.data import answered, answers, details, labelled, prepared
from lab.data.answered import AUDIT
from lab.data.answers import Answer
from lab.data.dataset import Source
from lab.data.location import located
from lab.errors import BadInput
from lab.query import oracle
from stages.answers import Known, given_until

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
    """name: of the data set. known: test and training images. batches: up to the first cycle that is to be run.

    listed: cycles in params.yaml. done: those that are finished with the current answers and params.
    """

    name: str
    known: tuple[Known, Known]
    batches: list[Batch]
    listed: int
    done: int

    @property
    def classes(self) -> list[str]:
        return self.known[0].classes

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
    stages = params.read(LOCK)["stages"] if LOCK.exists() else {}
    if not all(_holds(stages.get(name, {}), {}) for name in ("prepare", "cold_start")):
        raise BadInput(f"the first images of {settings.dataset} are not chosen yet: run `dvc repro cold_start`")
    root = located(settings.block.path) if hasattr(settings.block, "path") else None
    if root is not None and settings.block.source == "csv":
        root = root.parent
    classes, listed = prepared.read_statistics().classes, len(settings.cycles)
    test, train = (prepared.read_sources(split) for split in ("test", "train"))
    known = Known(test, classes, "test"), Known(train, classes, "train")
    done = sum(1 for _ in _done(stages, settings.dataset, listed, known))
    asked = {AUDIT: [_asked(source, root, AUDIT) for source in test]}
    for number in range(done + 1):
        asked[str(number)] = list(_acquired(number, train, root, classes))
    batches = []
    for name, images in asked.items():
        earlier = [AUDIT] if name == AUDIT else [str(number) for number in range(int(name) + 1)]
        # A set: an answer stands in two files where its image came to another batch.
        given = {one for lines in given_until(settings.dataset, earlier).values() for one in lines}
        count = Counter(one.image for one in given)
        names = {one.image for one in images}
        counted = [one._replace(answers=count[one.image]) for one in images]
        batches.append(Batch(name, counted, [one for one in given if one.image in names]))
    return Campaign(settings.dataset, known, batches, listed, done)


def _done(stages: dict, dataset: str, listed: int, known: tuple[Known, Known]) -> Iterator[int]:
    """The cycles that were run with the current params, images and answers, up to the first that was not."""
    test, train = known
    audit = answered.text_of(test.rows(given_until(dataset, [AUDIT])))
    for cycle in range(listed):
        until_now = given_until(dataset, [str(number) for number in range(cycle + 1)])
        texts = {
            str(answered.path_of(AUDIT)): audit,
            str(answered.path_of(str(cycle))): answered.text_of(train.rows(until_now)),
        }
        if not _holds(stages.get(f"cycle@{cycle}", {}), texts):
            return
        yield cycle


def _holds(stage: dict, texts: dict[str, str]) -> bool:
    """Whether a stage was run with the current params and files, and its files are there.

    Args:
        stage: its entry in dvc.lock.
        texts: of files that the stage of answers would write now. Folders are left to DVC.
    """
    if not stage:
        return False
    current = params.current()
    for key, value in stage.get("params", {}).get(str(params.PARAMS_FILE), {}).items():
        found: Any = current
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found != value:
            return False
    files = [item for item in (*stage.get("deps", []), *stage.get("outs", [])) if not item["md5"].endswith(".dir")]
    for item in files:
        path = Path(item["path"])
        content = texts[item["path"]].encode() if item["path"] in texts else path.read_bytes() if path.exists() else b""
        if md5(content).hexdigest() != item["md5"]:
            return False
    return True


def _acquired(number: int, train: list[Source], root: Path | None, classes: list[str]) -> Iterator[Asked]:
    """The images that a cycle is the first to train on, in the order of acquisition."""
    pool = labelled.read(labelled.path_of(number))
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
    return Asked(source.name, file, source.md5)
