"""Batches as tasks of Label Studio, and its exports as answers.

As Label Studio 1.23 has them: https://labelstud.io/guide/tasks, https://labelstud.io/guide/export
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

from PIL import Image, ImageOps

from lab.campaign.asked import Asked, Found
from lab.data.answers import NO_CLASS, SKIP, Answer, time_of
from lab.errors import BadInput, reason

TOOL, KEPT = "Label Studio", "Label Studio, prediction kept"
# What the labelling interface calls its choices and its picture.
LABEL, PICTURE = "label", "image"
# What browsers show, and Label Studio takes, by the end of a file's name.
SHOWN = {".bmp": "bmp", ".gif": "gif", ".jpeg": "jpeg", ".jpg": "jpeg", ".png": "png", ".webp": "webp"}
# Of a task's data. Not `id`: JSON-MIN overwrites it with the task's own.
DATA = ("path", "md5", "batch", "campaign")


def labelling_config(classes: list[str]) -> str:
    """The labelling interface of a project, in XML: a picture, and one choice among the classes and ``no class fits``.

    Raises:
        BadInput: XML cannot hold the name of a class, or Label Studio would read a variable in it.
    """
    view = Element("View")
    # The choices come first: below a large picture nobody would see them.
    choices = SubElement(
        view, "Choices", name=LABEL, toName=PICTURE, choice="single-radio", required="true", showInline="true"
    )
    for name in [*classes, NO_CLASS]:
        choice = SubElement(choices, "Choice", value=name)
        if not _survives(choice):
            raise BadInput(f"class {name!r}: XML, and so Label Studio, cannot hold the name; rename the class")
        if re.search(r"\$[\w.{}[\]]", name, re.ASCII):
            raise BadInput(f"class {name!r}: Label Studio takes $ and what follows for a variable; rename the class")
    SubElement(view, "Image", name=PICTURE, value=f"${PICTURE}")
    return tostring(view, encoding="unicode")


def _survives(element: Element) -> bool:
    """Whether a reader of XML finds the attributes that are written."""
    try:
        return fromstring(tostring(element, encoding="unicode")).attrib == element.attrib
    except (ParseError, UnicodeError):
        return False


def tasks(batch: str, asked: list[Asked], urls: Callable[[Asked], str], campaign: str) -> list[dict]:
    """The tasks of a batch, as Label Studio imports them, with what the network predicts chosen beforehand.

    Args:
        urls: where a browser finds the picture; ``data_uri`` puts it into the task.
    """
    return [_task(batch, one, urls(one), campaign) for one in asked]


def _task(batch: str, asked: Asked, url: str, campaign: str) -> dict:
    data: dict = {PICTURE: url, **dict(zip(DATA, (asked.image, asked.md5, batch, campaign), strict=True))}
    if asked.score is not None:
        data["score"] = asked.score
    if asked.answers:  # the task is another one, which people are shown again
        data["answers"] = asked.answers
    if asked.predicted is None:
        return {"data": data}
    chosen = {"from_name": LABEL, "to_name": PICTURE, "type": "choices", "value": {"choices": [asked.predicted]}}
    # One version for all batches: a project shows the predictions of the version that it met first, and no others.
    prediction: dict = {"model_version": campaign, "result": [chosen]}
    if asked.confidence is not None:
        prediction["score"] = asked.confidence
    return {"data": data, "predictions": [prediction]}


def data_uri(asked: Asked) -> str:
    """The picture itself as a URL (RFC 2397): tasks in a file need no server for it.

    Raises:
        BadInput: as ``picture`` does.
    """
    content, suffix = picture(asked.file, asked.md5)
    return f"data:image/{SHOWN[suffix]};base64,{base64.b64encode(content).decode()}"


def picture(file: Path, md5: str) -> tuple[bytes, str]:
    """What to show of an image file: its content, or a PNG of it where browsers do not show such files; and the suffix.

    Raises:
        BadInput: it cannot be read, or has another hash by now.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: cannot be read, {reason(error)}; put it back, or ask for a new batch") from error
    if hashlib.md5(content).hexdigest() != md5:
        raise BadInput(f"{file}: changed since the batch was made; put it back, or ask for a new batch")
    suffix = file.suffix.lower()
    if suffix in SHOWN:
        return content, suffix
    png = BytesIO()
    ImageOps.exif_transpose(Image.open(BytesIO(content))).convert("RGB").save(png, "PNG")
    return png.getvalue(), ".png"


def answers(content: bytes, source: Path | str, campaign: str) -> list[Found]:
    """The answers in an export of a project, in JSON or JSON-MIN; JSON-MIN does not have what was skipped.

    A person goes by e-mail address, user name or number, whichever the export has first. What somebody submits without
    a choice is ``skip``, as what they skip. An answer says where the prediction was submitted as it was; JSON-MIN does
    not have that.

    Args:
        source: of the export, for messages.

    Raises:
        BadInput: it is no export of this campaign's project, or an answer is none of one label.
    """
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        raise BadInput(f"{source}, line {error.lineno}: no JSON, it breaks off or is damaged; export again") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source}: no JSON; export the project as JSON or JSON-MIN") from error
    if not isinstance(rows, list):
        raise BadInput(f"{source}: no export of Label Studio, which is a list; export the project as JSON or JSON-MIN")
    found: list[Found] = []
    for number, row in enumerate(rows, start=1):
        match row:
            case {"data": dict(data), "annotations": [*given]}:
                label: Callable[[Any, str], str] = _label
            case {"annotator": _}:
                data, given, label = row, [row], _label_of_json_min
            case _:
                raise BadInput(
                    f"{source}, entry {number}: no task with annotations; export the project as JSON or JSON-MIN"
                )
        where = f"{source}, task {row.get('id')}"
        image, md5 = _asked(data, where, campaign)
        where += f", {image}"
        for one in given:
            answer = Answer(image, md5, label(one, where), _person(one, where), _time(one, where), _tool(one))
            found.append(Found(where, answer))
    return found


def _asked(data: dict, where: str, campaign: str) -> tuple[str, str]:
    """Image and hash of a task."""
    for name in DATA:
        if not isinstance(data.get(name), str) or not data[name]:
            raise BadInput(f"{where}: has no {name}; the laboratory did not write it, delete it from the project")
    if data["campaign"] != campaign:
        raise BadInput(
            f"{where}, {data['path']}: belongs to the campaign {data['campaign']!r}; "
            f"this is an export of another project, export that of {campaign!r}"
        )
    return data["path"], data["md5"]


def _label(annotation: Any, where: str) -> str:
    """The label of an annotation in JSON."""
    match annotation:
        case {"was_cancelled": True} | {"result": []}:
            return SKIP
        case {"result": [*results]}:
            for result in results:
                match result:
                    case {"from_name": "label", "value": {"choices": [str(label)]}} if label:
                        return label
    raise BadInput(f"{where}: must have one choice of `{LABEL}`; keep to the labelling interface of the laboratory")


def _label_of_json_min(row: Any, where: str) -> str:
    label = row.get(LABEL)
    if isinstance(label, str) and label:
        return label
    raise BadInput(
        f"{where}: must have one choice of `{LABEL}`; export the project as JSON, which has what was skipped"
    )


def _tool(answer: dict) -> str:
    results = [] if answer.get("was_cancelled") else answer.get("result", [])
    kept = any(isinstance(result, dict) and result.get("origin") == "prediction" for result in results)
    return KEPT if kept else TOOL


def _person(answer: dict, where: str) -> str:
    found = answer.get("completed_by", answer.get("annotator"))
    if isinstance(found, dict):
        found = found.get("email") or found.get("username") or found.get("id")
    name = " ".join(str(found).split()) if isinstance(found, str | int) else ""
    if not name:
        raise BadInput(f"{where}: nobody is named who annotated it; delete the annotation, and have it labelled again")
    return name


def _time(answer: dict, where: str) -> str:
    """When the answer was given, or last changed: UTC, to the second."""
    text = answer.get("updated_at") or answer.get("created_at")
    try:
        return time_of(text)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{where}: its time is {text!r}, not as in 2026-11-29T12:00:00Z; export again") from error
