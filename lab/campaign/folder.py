"""A batch as a folder: its pictures, a table to fill in, and tasks for Label Studio."""

import csv
import io
import json
import shutil
from pathlib import Path

from lab.campaign import label_studio
from lab.campaign.asked import Asked
from lab.campaign.batches import FOLDER, Campaign
from lab.data import prepared
from lab.data.answered import AUDIT
from lab.data.files import write_bytes, write_text

TABLE, TASKS, CONFIG, PICTURES = "labels.csv", "tasks.json", "labelling.xml", "pictures"
COLUMNS = ("picture", "image", "md5", "predicted", "confidence", "score", "label")


def write(campaign: Campaign) -> list[Path]:
    """Write the folder of each batch that waits for labels, with the images that are not decided.

    A table that stands there and says something else is kept under another name.

    Returns:
        The tables.

    Raises:
        BadInput: an image cannot be read or has changed.
    """
    tables = []
    for batch in campaign.waiting:
        folder = FOLDER / batch.name
        draw(batch.waiting, "test" if batch.name == AUDIT else "train")
        shutil.rmtree(folder / PICTURES, ignore_errors=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, one in enumerate(batch.waiting):
            content, suffix = label_studio.picture(one.file, one.md5)
            picture = Path(PICTURES) / f"{number:04d}{suffix}"
            # A copy: some viewers write to a picture that they turn.
            write_bytes(folder / picture, content)
            writer.writerow([picture, one.image, one.md5, one.predicted, one.confidence, one.score, None])
        tasks = label_studio.tasks(batch.name, batch.waiting, label_studio.data_uri, campaign.name)
        write_text(folder / TASKS, json.dumps(tasks, indent=1) + "\n")
        write_text(folder / CONFIG, label_studio.labelling_config(campaign.classes) + "\n")
        _put_aside(folder / TABLE, text.getvalue())
        # Last: what has a table is complete.
        write_text(folder / TABLE, text.getvalue())
        tables.append(folder / TABLE)
    return tables


def draw(asked: list[Asked], split: str) -> None:
    """Draw the pictures of images that are no files."""
    missing = [one for one in asked if one.file.is_relative_to(FOLDER) and not one.file.exists()]
    if not missing:
        return
    images = prepared.read_split(split).images
    index = {source.name: number for number, source in enumerate(prepared.read_sources(split))}
    for one in missing:
        write_bytes(one.file, prepared.drawn(images[index[one.image]]))


def _put_aside(table: Path, text: str) -> None:
    """Keep a table that somebody may have filled in."""
    if not table.exists() or table.read_bytes() == text.encode():
        return
    header, *rows = csv.reader(table.read_text(errors="replace").splitlines()) if table.stat().st_size else [()]
    if tuple(header) == COLUMNS and not any(any(row[len(COLUMNS) - 1 :]) for row in rows):  # no label
        return
    number = 1
    while (kept := table.with_name(f"{table.stem}-{number}{table.suffix}")).exists():
        number += 1
    table.rename(kept)
    print(f"the table that was there is {kept} now; take it, if its labels were not taken yet")
