"""A batch as a folder: its pictures, a table to fill in, and tasks for Label Studio."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

from lab.campaign import label_studio
from lab.campaign.asked import Asked
from lab.campaign.batches import FOLDER, Campaign
from lab.data import prepared
from lab.data.answered import AUDIT
from lab.data.files import write_bytes, write_text
from lab.errors import BadInput

TABLE, TASKS, CONFIG, PICTURES = "labels.csv", "tasks.json", "labelling.xml", "pictures"
COLUMNS = ("picture", "image", "md5", "predicted", "confidence", "score", "label")


def write(campaign: Campaign) -> list[Path]:
    """Write the folder of each batch that waits for labels, with the images that are not decided.

    Raises:
        BadInput: a table there has labels that were not taken yet, or an image cannot be read.
    """
    folders = []
    for batch in campaign.waiting:
        folder = FOLDER / batch.name
        _refuse_to_lose(folder / TABLE, {answer.image: answer.label for answer in batch.given})
        shutil.rmtree(folder, ignore_errors=True)
        draw(batch.waiting, "test" if batch.name == AUDIT else "train")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, one in enumerate(batch.waiting):
            picture = Path(PICTURES) / f"{number:04d}{one.file.suffix.lower()}"
            _link(one.file, folder / picture)
            writer.writerow([picture, *one[:1], *one[2:], None])
        tasks = label_studio.tasks(batch.name, batch.waiting, label_studio.data_uri, campaign.name)
        write_text(folder / TASKS, json.dumps(tasks, indent=1) + "\n")
        write_text(folder / CONFIG, label_studio.labelling_config(campaign.classes) + "\n")
        # Last: what has a table is complete.
        write_text(folder / TABLE, text.getvalue())
        folders.append(folder)
    return folders


def draw(asked: list[Asked], split: str) -> None:
    """Draw the pictures of images that are no files."""
    missing = [one for one in asked if one.file.is_relative_to(FOLDER) and not one.file.exists()]
    if not missing:
        return
    images = prepared.read_split(split).images
    index = {source.name: number for number, source in enumerate(prepared.read_sources(split))}
    for one in missing:
        write_bytes(one.file, prepared.drawn(images[index[one.image]]))


def _link(file: Path, name: Path) -> None:
    """Link the picture, or copy it where a link cannot be made."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def _refuse_to_lose(table: Path, given: dict[str, str]) -> None:
    """Refuse to write over labels that somebody filled in."""
    if not table.exists():
        return
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    untaken = [row for row in rows if row.get("label") and given.get(row["image"]) != row["label"]]
    if untaken:
        raise BadInput(
            f"{table}: {len(untaken)} labels in it were not taken yet, as that of {untaken[0]['image']}; "
            f"take them first: python -m lab.campaign take {table}"
        )
