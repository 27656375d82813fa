"""Take in what people answered: checked as a whole, then on disk, and only then a new cycle."""

import csv
import getpass
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from dvc.utils.serialize import modify_yaml

from lab.campaign import label_studio
from lab.campaign.batches import Batch, Campaign
from lab.data import answers
from lab.data.answered import AUDIT
from lab.data.answers import NO_CLASS, SKIP, Answer
from lab.data.images.lines import lines_of
from lab.errors import BadInput, nearest
from lab.params import PARAMS_FILE

SHOWN = 20  # faults in a message


class Found(NamedTuple):
    """An answer, and where it stands. md5: empty where the file does not have it."""

    where: str
    answer: Answer


class Change(NamedTuple):
    """A decision that another one replaces."""

    batch: str
    image: str
    before: str
    after: str | None


def read(path: Path, campaign: str, by: str | None) -> list[Found]:
    """The answers of a table as ``folder`` writes it, or of an export of Label Studio (JSON or JSON-MIN).

    Args:
        by: who filled in the table; the user who runs this, where None.

    Raises:
        BadInput: the file is neither.
    """
    if path.suffix.lower() == ".json":
        given = label_studio.answers(path.read_bytes(), path, campaign)
        return [Found(f"{path}, {answer.image}", answer) for answer in given]
    rows = list(csv.reader(lines_of(path)))
    names = [name.strip() for name in rows[0]] if rows else []
    for name in ("image", "label"):
        if name not in names:
            raise BadInput(f"{path}, line 1: no column {name!r}; it must have image and label")
    # Of the file, so that taking it again gives the same.
    time = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    found = []
    for line, row in enumerate(rows[1:], start=2):
        where = f"{path}, line {line}"
        if not any(row):
            continue
        if len(row) != len(names):
            raise BadInput(f"{where}: {len(row)} values, and the first line has {len(names)}; is the file whole?")
        cells = {name: value.strip() for name, value in zip(names, row, strict=True)}
        if cells["label"]:
            person = cells.get("by") or by or getpass.getuser()
            when = cells.get("at") or time
            answer = Answer(cells["image"], cells.get("md5", ""), cells["label"], person, when, "table")
            found.append(Found(where, answer))
    return found


def take(campaign: Campaign, found: Iterable[Found]) -> tuple[int, list[Change]]:
    """Keep the answers in the files of their batches, and those that were given about the same images before.

    Returns:
        How many are new, and the decisions that change.

    Raises:
        BadInput: an answer is refused; then none is kept.
    """
    batch_of = {one.image: (batch, one) for batch in campaign.batches for one in batch.asked}
    # An image may have been asked about before, in a chain that was run again since.
    earlier = {answer for path in answers.FOLDER.glob("*.csv") for answer in answers.read(path)}
    new = {
        batch.name: set(batch.given) | {one for one in earlier if (one.image, one.md5) in asked}
        for batch in campaign.batches
        for asked in [{(one.image, one.md5) for one in batch.asked}]
    }
    faults = []
    for where, answer in found:
        if answer.image not in batch_of:
            again = "; run `dvc repro` first" if campaign.done < campaign.listed and not campaign.waiting else ""
            faults.append(f"{where}: {answer.image!r} was not asked about{nearest(answer.image, batch_of)}{again}")
            continue
        batch, asked = batch_of[answer.image]
        if answer.label not in (*campaign.classes, SKIP, NO_CLASS):
            choices = f"choose from {', '.join(campaign.classes)}, {SKIP}, {NO_CLASS}"
            faults.append(f"{where}: {answer.label!r} is no class; {choices}{nearest(answer.label, campaign.classes)}")
        elif answer.md5 not in ("", asked.md5):
            faults.append(f"{where}: {answer.image} has changed since it was asked about; ask about it again")
        else:
            new[batch.name].add(answer._replace(md5=asked.md5))
    if faults:
        more = [f"… and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
        raise BadInput("\n  ".join([f"{len(faults):,} answers are refused, none was taken:", *faults[:SHOWN], *more]))
    count, changes = 0, []
    for batch in campaign.batches:
        kept = _without_repetitions(new[batch.name])
        if added := kept - set(batch.given):
            answers.write(kept, answers.path_of(batch.name))
            count += len(added)
            changes += _changes(batch, kept)
    return count, changes


def _without_repetitions(given: Iterable[Answer]) -> set[Answer]:
    """Without answers that say what the same person had said of the image before."""
    kept: set[Answer] = set()
    last: dict[tuple[str, str], str] = {}
    for answer in sorted(given, key=lambda answer: (answer.at, answer)):
        key = answer.image, answer.by
        if last.get(key) != answer.label:
            kept.add(answer)
        last[key] = answer.label
    return kept


def _changes(batch: Batch, kept: Iterable[Answer]) -> list[Change]:
    before, after = answers.decide(batch.given), answers.decide(kept)
    changed = [image for image in before if after.get(image) != before[image]]
    return [Change(batch.name, image, before[image], after.get(image)) for image in changed]


def stale(changes: list[Change]) -> int | None:
    """The first cycle that other decisions make stale, or None."""
    return min((0 if change.batch == AUDIT else int(change.batch) for change in changes), default=None)


def add_a_cycle(campaign: Campaign) -> bool:
    """List the next cycle in params.yaml, if all that was asked is decided and all listed cycles are done."""
    if campaign.waiting or campaign.done < campaign.listed:
        return False
    with modify_yaml(str(PARAMS_FILE)) as values:
        values["cycles"].append([campaign.listed, campaign.listed + 1])
    return True
