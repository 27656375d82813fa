"""Take the labels that people gave into the lineage; files without rows where nobody is asked."""

from lab import params
from lab.data import answered, answers, prepared
from lab.data.answered import AUDIT
from lab.data.answers import NO_CLASS, SKIP
from lab.data.dataset import UNFIT
from lab.errors import BadInput, nearest
from lab.host import Host
from lab.query import oracle


def main(host: Host) -> None:
    """Write data/answered/audit.csv, and data/answered/<n>.csv for each cycle.

    Raises:
        BadInput: an answer is about no image of the data set or about one with another content, or is no class.
    """
    settings = params.load(oracle="oracle", cycles="cycles")
    names = [str(cycle) for cycle, _ in settings.cycles]
    if settings.oracle == oracle.HIDDEN:
        for name in (AUDIT, *names):
            answered.write([], name)
        return
    answered.write(decided(AUDIT, "test"), AUDIT)
    until_now: list[tuple[int, int]] = []
    for name in names:
        until_now += decided(name, "train")
        answered.write(until_now, name)
    print(f"labels of {len(until_now):,} training images, given by people")


def decided(batch: str, split: str) -> list[tuple[int, int]]:
    """Index and label of each image of a batch that people decided.

    Args:
        split: which images the batch is of, ``train`` or ``test``.
    """
    classes, path = prepared.read_statistics().classes, answers.path_of(batch)
    number = {name: label for label, name in enumerate(classes)} | {NO_CLASS: UNFIT}
    index = {source: position for position, source in enumerate(prepared.read_sources(split))}
    of_image = {source.name: position for source, position in index.items()}
    given = answers.read(path)
    for line, answer in enumerate(given, start=2):
        if answer.label not in (*number, SKIP):
            choices = f"choose from {', '.join(classes)}, {SKIP}, {NO_CLASS}{nearest(answer.label, classes)}"
            raise BadInput(f"{path}, line {line}: {answer.label!r} is no class; {choices}")
        if answer.image not in of_image:
            raise BadInput(
                f"{path}, line {line}: {answer.image!r} is no image of the {split} set{nearest(answer.image, of_image)}"
            )
        if (answer.image, answer.md5) not in index:
            raise BadInput(
                f"{path}, line {line}: {answer.image} has changed since it was asked about; bring the image back, or "
                "remove the line to have it asked about again"
            )
    return [(of_image[image], number[label]) for image, label in answers.decide(given).items()]
