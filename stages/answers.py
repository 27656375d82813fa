"""Take the labels that people gave into the lineage; files without rows where nobody is asked."""

from pathlib import Path

from lab import params
from lab.data import answered, answers, prepared
from lab.data.answered import AUDIT
from lab.data.answers import NO_CLASS, SKIP, Answer
from lab.data.dataset import UNFIT, Source
from lab.errors import BadInput, nearest
from lab.host import Host
from lab.query import oracle


def main(host: Host) -> None:
    """Write data/answered/audit.csv, and data/answered/<n>.csv for each cycle.

    Raises:
        BadInput: an answer is about no image of the data set or about one with another content, or is no class.
    """
    settings = params.load(oracle="oracle", dataset="dataset", cycles="cycles")
    names = [str(cycle) for cycle, _ in settings.cycles]
    if settings.oracle == oracle.HIDDEN:
        for name in (AUDIT, *names):
            answered.write([], name)
        return
    classes = prepared.read_statistics().classes
    test, train = (Known(prepared.read_sources(split), classes, split) for split in ("test", "train"))
    answered.write(test.rows(given_until(settings.dataset, [AUDIT])), AUDIT)
    for number, name in enumerate(names, start=1):
        answered.write(train.rows(given_until(settings.dataset, names[:number])), name)


def given_until(dataset: str, batches: list[str]) -> dict[Path, list[Answer]]:
    """The answers of these batches, by their file."""
    return {path: answers.read(path) for path in (answers.path_of(dataset, batch) for batch in batches)}


class Known:
    """What answers are held against: the images of a split, ``train`` or ``test``, and the classes."""

    def __init__(self, sources: list[Source], classes: list[str], split: str) -> None:
        self.classes, self.split = classes, split
        self.md5 = {source.name: source.md5 for source in sources}
        self.index = {source.name: position for position, source in enumerate(sources)}
        self.number = {name: label for label, name in enumerate(classes)} | {NO_CLASS: UNFIT}

    def rows(self, given: dict[Path, list[Answer]]) -> list[tuple[int, int]]:
        """Index and label of each image that all these answers together decide.

        Raises:
            BadInput: an answer is refused.
        """
        for path, lines in given.items():
            for line, answer in enumerate(lines, start=2):
                if why := self.fault_of(answer):
                    raise BadInput(f"{path}, line {line}: {why}")
        decided = answers.decide({answer for lines in given.values() for answer in lines})
        return [(self.index[image], self.number[label]) for image, label in decided.items()]

    def fault_of(self, answer: Answer) -> str | None:
        """Why an answer cannot be taken, or None."""
        if answer.label not in (*self.number, SKIP):
            choices = f"choose from {', '.join(self.classes)}, {SKIP}, {NO_CLASS}"
            return f"{answer.label!r} is no class; {choices}{nearest(answer.label, self.classes)}"
        if answer.image not in self.index:
            return f"{answer.image!r} is no image of the {self.split} set"
        if answer.md5 != self.md5[answer.image]:
            return f"{answer.image} has changed since it was asked about; bring the image back"
        return None
