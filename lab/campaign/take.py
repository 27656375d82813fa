"""Take in what people answered: checked as a whole, then on disk, and only then a new cycle."""

import csv
import getpass
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import NamedTuple

from lab import params
from lab.campaign import label_studio
from lab.campaign.asked import Found
from lab.campaign.batches import FOLDER, Batch, Campaign
from lab.data import answers, sizes
from lab.data.answered import AUDIT
from lab.data.answers import OTHER, Answer
from lab.data.images.lines import lines_of
from lab.errors import BadInput
from lab.rewrite import in_a_line, rewritten

SHOWN = 20  # faults in a message


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
        if by:
            raise BadInput(f"--by {by}: an export says who answered; leave --by out")
        return label_studio.answers(path.read_bytes(), path, campaign)
    rows = list(csv.reader(lines_of(path)))
    names = [name.strip() for name in rows[0]] if rows else []
    for name in ("image", "label"):
        if name not in names:
            raise BadInput(
                f"{path}, line 1: no column {name!r}; it must have image and label, with commas between columns "
                "(of Label Studio, export JSON)"
            )
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
            try:
                when = answers.time_of(cells.get("at") or time)
            except ValueError as error:
                raise BadInput(
                    f"{where}: at = {cells.get('at') or time!r}, {error}; as in 2026-11-29T12:00:00+00:00"
                ) from error
            person = cells.get("by") or by or getpass.getuser()
            found.append(
                Found(where, Answer(cells["image"], cells.get("md5", ""), cells["label"], person, when, "table"))
            )
    return found


def take(campaign: Campaign, found: Iterable[Found]) -> tuple[int, list[Change]]:
    """Keep the answers: about images of a batch in its file, about others that were asked about before in ``other``.

    An answer that was given about an image of a batch before is copied to the batch's file.

    Returns:
        How many are new, and the decisions that change.

    Raises:
        BadInput: an answer is refused; then none is kept.
    """
    folder = answers.FOLDER / campaign.name
    earlier = {path.stem: set(answers.read(path)) for path in folder.glob("*.csv")}
    everything = set().union(*earlier.values())
    batch_of = {one.image: (batch, one) for batch in campaign.batches for one in batch.asked}
    before = {answer.image for answer in everything}
    faults, said = [], []
    for where, answer in found:
        batch, asked = batch_of.get(answer.image, (None, None))
        known = next((known for known in campaign.known if answer.image in known.index), None)
        if known is None or not (asked or answer.md5 or answer.image in before):
            faults.append(f"{where}: {answer.image!r} was not asked about")
            continue
        complete = answer._replace(md5=answer.md5 or known.md5[answer.image])
        has_changed = asked and not asked.file.is_relative_to(FOLDER) and _md5_of(asked.file) != asked.md5
        if why := known.fault_of(complete):
            faults.append(f"{where}: {why}")
        elif has_changed and complete not in everything:
            faults.append(f"{where}: {answer.image} has changed since it was asked about; bring the image back")
        else:
            said.append(complete)
    if faults:
        more = [f"… and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
        raise BadInput("\n  ".join([f"{len(faults):,} answers are refused, none was taken:", *faults[:SHOWN], *more]))
    news, new = _news(said, everything), {name: set(given) for name, given in earlier.items()}
    for answer in filter(news.__contains__, said):
        batch, _ = batch_of.get(answer.image, (None, None))
        new.setdefault(batch.name if batch else OTHER, set()).add(answer)
    for batch in campaign.batches:
        images = {(one.image, one.md5) for one in batch.asked}
        new.setdefault(batch.name, set()).update(one for one in everything if (one.image, one.md5) in images)
    for name, given in new.items():
        if given != earlier.get(name, set()):
            answers.write(given, answers.path_of(campaign.name, name))
    return len(news), [change for batch in campaign.batches for change in _changes(batch, new[batch.name])]


def _md5_of(path: Path) -> str:
    return md5(path.read_bytes()).hexdigest() if path.exists() else ""


def _news(said: Iterable[Answer], everything: set[Answer]) -> set[Answer]:
    """Of these answers those that say something else than the same person had said of the image before."""
    news: set[Answer] = set()
    last: dict[tuple[str, str], str] = {}
    for answer in sorted({*said, *everything}, key=lambda answer: (answer.at, answer)):
        key = answer.image, answer.by
        if answer not in everything and last.get(key) != answer.label:
            news.add(answer)
        last[key] = answer.label
    return news


def _changes(batch: Batch, given: set[Answer]) -> list[Change]:
    before, after = answers.decide(batch.given), answers.decide({*batch.given, *given})
    changed = [one.image for one in batch.asked if before.get(one.image) not in (None, after.get(one.image))]
    return [Change(batch.name, image, before[image], after.get(image)) for image in changed]


def stale(changes: list[Change]) -> int | None:
    """The first cycle that other decisions make stale, or None."""
    return min((0 if change.batch == AUDIT else int(change.batch) for change in changes), default=None)


def add_a_cycle(campaign: Campaign) -> bool:
    """List the next cycle in params.yaml, if all that was asked is decided and all listed cycles are done.

    Not where the last batch has fewer images than a query: the pool is used up.
    """
    if campaign.waiting or campaign.done < campaign.listed or is_used_up(campaign):
        return False
    with rewritten() as values:
        values["cycles"].append(in_a_line([campaign.listed, campaign.listed + 1]))
    return True


def is_used_up(campaign: Campaign) -> bool:
    """Whether the last batch has fewer images than were to be queried."""
    query = params.load(labels="protocols.{protocol}.query.labels").labels
    cycle = campaign.listed - 1
    return campaign.done == campaign.listed and len(campaign.batches[-1].asked) < sizes.query_of(query, cycle)
