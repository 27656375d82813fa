"""Label Studio, by file and over its API: tasks out, answers in; what is damaged or foreign is refused.

A stand-in answers for the server here; test_label_studio_server.py has the real one.
"""

import base64
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lab.campaign import label_studio, server
from lab.campaign.asked import Asked
from lab.data.answers import NO_CLASS, SKIP, Answer, read, write
from lab.errors import BadInput

CAMPAIGN, CLASSES = "leaves", ["oak", 'ash & <"elm">', "beech 5 $"]
DATA = {"image": "/data/upload/2/x.png", "path": "oak/0.png", "md5": "0cc1", "batch": "3", "campaign": CAMPAIGN}
AT = {"created_at": "2026-11-29T11:00:00.100000Z", "updated_at": "2026-11-29T14:00:00.902882+02:00"}
RESULT = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["oak"]}}
SUBMITTED = {**RESULT, "id": "Bx__kZj7YS", "origin": "manual"}
# As Label Studio 1.23.2 exports them once they were submitted in a browser, without what is not read.
ANNOTATION = {"id": 5, "completed_by": 1, "result": [SUBMITTED], "was_cancelled": False, "ground_truth": False, **AT}
TASK = {"id": 9, "annotations": [ANNOTATION], "drafts": [], "predictions": [1], "data": DATA, "meta": {}, "project": 2}
ROW = {**DATA, "id": 9, "label": "oak", "annotator": 1, "annotation_id": 5, **AT, "lead_time": None}
ANSWER = Answer("oak/0.png", "0cc1", "oak", "1", "2026-11-29T12:00:00+00:00", "Label Studio")

TEXTS = st.text(min_size=1)


def answers(rows: object) -> list[Answer]:
    return [found.answer for found in label_studio.answers(json.dumps(rows).encode(), "export.json", CAMPAIGN)]


def task(*annotations: object, **data: object) -> dict:
    return {**TASK, "annotations": list(annotations), "data": {**DATA, **data}}


def asked_of(folder: Path, count: int, suffix: str = ".png") -> list[Asked]:
    """Pictures of one grey level each, of which every other one is predicted."""
    found = []
    for number in range(count):
        file = folder / f"{number}{suffix}"
        Image.new("RGB", (4, 4), (number,) * 3).save(file)
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        prediction = ("oak", 0.75, number / 7) if number % 2 else (None, None, None)
        found.append(Asked(f"oak/{file.name}", file, md5, *prediction))
    return found


# Tasks


# Without control characters, which XML does not know, and variables.
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"], exclude_characters="$"))))
def test_the_interface_has_each_class_as_it_is_written_and_no_class_fits(classes: list[str]) -> None:
    view = fromstring(label_studio.labelling_config(classes))
    assert [choice.attrib["value"] for choice in view.iter("Choice")] == [*classes, NO_CLASS]
    (image,), (choices,) = view.iter("Image"), view.iter("Choices")
    assert image.attrib["value"] == "$image", "of the tasks' data"
    assert choices.attrib | {"toName": "image", "choice": "single-radio", "required": "true"} == choices.attrib
    assert (image.attrib["name"], choices.attrib["name"]) == ("image", "label")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("oak\x01", "XML"),
        ("oak\udcff", "XML"),
        # What people chose would come back as "undefined".
        ("$oak", "a variable"),
        ("oak ${x}", "a variable"),
    ],
)
def test_a_class_that_label_studio_cannot_show_is_refused(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=rf"class {re.escape(repr(name))}: .*{why}.*; rename the class"):
        label_studio.labelling_config(["ash", name])


def test_a_task_has_the_picture_who_asks_and_what_is_predicted(tmp_path: Path) -> None:
    plain, predicted = label_studio.tasks("3", asked_of(tmp_path, 2), lambda one: f"/{one.md5}", CAMPAIGN)
    assert plain.keys() == {"data"}
    assert "score" not in plain["data"]
    md5 = predicted["data"]["md5"]
    data = {"path": "oak/1.png", "batch": "3", "campaign": CAMPAIGN, "md5": md5, "image": f"/{md5}", "score": 1 / 7}
    assert predicted["data"] == data
    assert predicted["predictions"] == [{"model_version": CAMPAIGN, "score": 0.75, "result": [RESULT]}]


def test_a_picture_in_a_task_is_the_file_itself(tmp_path: Path) -> None:
    (asked,) = asked_of(tmp_path, 1, ".JPG")
    kind, _, content = label_studio.data_uri(asked).partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(content) == asked.file.read_bytes()


@pytest.mark.parametrize("suffix", [".tif", ".ppm"])
def test_a_picture_that_browsers_do_not_show_becomes_one_that_they_do(tmp_path: Path, suffix: str) -> None:
    (asked,) = asked_of(tmp_path, 1, suffix)
    content, shown = label_studio.picture(asked.file, asked.md5)
    assert shown == ".png"
    with Image.open(BytesIO(content)) as png, Image.open(asked.file) as original:
        assert png.format == "PNG"
        assert png.tobytes() == original.tobytes()


def test_a_picture_that_changed_or_went_is_refused(tmp_path: Path) -> None:
    (asked,) = asked_of(tmp_path, 1)
    asked.file.write_bytes(b"another")
    with pytest.raises(BadInput, match=r"0\.png: changed since the batch was made; put it back"):
        label_studio.data_uri(asked)
    asked.file.unlink()
    with pytest.raises(BadInput, match=r"0\.png: cannot be read, no such file or directory; put it back"):
        label_studio.data_uri(asked)


# Answers


def test_json_and_json_min_say_the_same() -> None:
    assert answers([TASK]) == answers([ROW]) == [ANSWER]
    (found,) = label_studio.answers(json.dumps([TASK]).encode(), "export.json", CAMPAIGN)
    assert found.where == "export.json, task 9, oak/0.png"


@pytest.mark.parametrize(
    ("origin", "tool"), [("prediction", "Label Studio, prediction kept"), ("prediction-changed", "Label Studio")]
)
def test_an_answer_says_where_a_prediction_was_kept(origin: str, tool: str) -> None:
    annotation = {**ANNOTATION, "result": [{**SUBMITTED, "origin": origin}]}
    assert answers([task(annotation)]) == [ANSWER._replace(tool=tool)]
    assert answers([task({**annotation, "was_cancelled": True})]) == [ANSWER._replace(label=SKIP, tool="Label Studio")]


def test_several_annotations_are_several_answers() -> None:
    other = {**ANNOTATION, "completed_by": 2, "result": [{**RESULT, "value": {"choices": [NO_CLASS]}}]}
    assert answers([task(ANNOTATION, other)]) == [ANSWER, ANSWER._replace(by="2", label=NO_CLASS)]
    assert answers([ROW, {**ROW, "annotator": 2}]) == [ANSWER, ANSWER._replace(by="2")]
    assert answers([task()]) == answers([]) == []


@pytest.mark.parametrize("change", [{"was_cancelled": True}, {"was_cancelled": True, "result": []}, {"result": []}])
def test_what_is_skipped_is_skip(change: dict) -> None:
    assert answers([task({**ANNOTATION, **change})]) == [ANSWER._replace(label=SKIP)]


def test_what_else_an_interface_asks_is_left_alone() -> None:
    comment = {"from_name": "comment", "to_name": "image", "type": "textarea", "value": {"text": ["blurred"]}}
    assert answers([task({**ANNOTATION, "result": [comment, RESULT]})]) == [ANSWER]


@pytest.mark.parametrize(
    ("by", "name"),
    [
        (7, "7"),
        ("anna@example.org", "anna@example.org"),
        ({"id": 7, "email": "anna@example.org", "first_name": ""}, "anna@example.org"),
        ({"id": 7, "email": "", "username": "anna"}, "anna"),
        ({"id": 7}, "7"),
        ("two\u2028lines", "two lines"),
    ],
)
def test_a_person_goes_by_what_the_export_has(by: object, name: str) -> None:
    assert answers([task({**ANNOTATION, "completed_by": by})]) == [ANSWER._replace(by=name)]


def test_an_annotation_that_never_changed_is_as_old_as_it_is() -> None:
    annotation = {**ANNOTATION, "updated_at": None}
    assert answers([task(annotation)]) == [ANSWER._replace(at="2026-11-29T11:00:00+00:00")]


def labelled(*choices: str, name: str = "label") -> dict:
    return task({**ANNOTATION, "result": [{**RESULT, "from_name": name, "value": {"choices": choices}}]})


HERE = r"export\.json, task 9"
AS_JSON = r"oak/0\.png: must have one choice of `label`; export the project as JSON, which has what was skipped"
REFUSED = {
    "a mapping": ({"tasks": [TASK]}, r"export\.json: no export of Label Studio"),
    "no task": ([TASK, 1], r"export\.json, entry 2: no task with annotations; export the project as JSON"),
    "tasks alone": ([{"data": DATA}], r"entry 1: no task with annotations"),
    "another campaign": ([task(campaign="fruit")], rf"{HERE}, oak/0\.png: .*'fruit'.*another project"),
    "of JSON-MIN": ([{**ROW, "campaign": "fruit"}], rf"{HERE}, oak/0\.png: .*'fruit'.*another project"),
    "no image": ([task(path=None)], rf"{HERE}: has no path; .*delete it"),
    "no hash": ([task(ANNOTATION, md5="")], rf"{HERE}: has no md5; .*delete it"),
    "another question": ([labelled("oak", name="x")], r"oak/0\.png: must have one choice of `label`; keep"),
    "two labels": ([labelled("oak", "ash")], r"oak/0\.png: must have one choice of `label`; keep"),
    "an empty label": ([labelled("")], r"oak/0\.png: must have one choice of `label`; keep"),
    "text": ([task("oak")], r"oak/0\.png: must have one choice of `label`; keep"),
    "two of JSON-MIN": ([{**ROW, "label": {"choices": ["a", "b"]}}], AS_JSON),
    "none of JSON-MIN": ([{name: value for name, value in ROW.items() if name != "label"}], AS_JSON),
    "nobody": ([task({**ANNOTATION, "completed_by": None})], r"oak/0\.png: nobody is named"),
    "no time": ([task({**ANNOTATION, "updated_at": "yesterday"})], r"oak/0\.png: its time is 'yesterday'"),
    "no time zone": ([{**ROW, "updated_at": "2026-11-29T12:00:00"}], r"oak/0\.png: its time is"),
}


@pytest.mark.parametrize(("rows", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_answer_of_this_campaign_is_refused(rows: object, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        answers(rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            json.dumps([TASK], indent=1).encode()[:-40],
            r"export\.json, line \d\d: no JSON, it breaks off .*; export again",
        ),
        (b"", r"export\.json, line 1: no JSON"),
        (b"\xff\x89PNG", r"export\.json: no JSON; export the project as JSON or JSON-MIN"),
        (b"[" * 100_000, r"export\.json: no JSON"),
        (b"path,md5\noak,0cc1\n", r"export\.json, line 1: no JSON"),
    ],
)
def test_what_is_no_json_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        label_studio.answers(content, Path("export.json"), CAMPAIGN)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([TASK, ROW, ANNOTATION, RESULT]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TASK, *ROW, *ANNOTATION]), inner),
    max_leaves=8,
)


@settings(max_examples=50)
@given(
    rows=st.lists(
        JSON | st.builds(lambda changed: {**TASK, **changed}, st.dictionaries(st.sampled_from([*TASK]), JSON))
    )
)
def test_any_json_is_answers_or_refused(rows: list) -> None:
    try:
        assert all(isinstance(value, str) and value for answer in answers(rows) for value in answer)
    except BadInput as refusal:
        assert str(refusal).startswith("export.json")


@given(data=st.binary(max_size=200))
def test_any_bytes_are_answers_or_refused(data: bytes) -> None:
    with suppress(BadInput):
        assert label_studio.answers(data, "export.json", CAMPAIGN) == []


@settings(max_examples=50)
@given(path=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), by=TEXTS, label=st.sampled_from(CLASSES))
def test_what_was_asked_comes_back(tmp_path: Path, path: str, by: str, label: str) -> None:
    asked = Asked(path, Path("x.png"), "0cc1", "oak", 0.5, 0.25)
    (sent,) = label_studio.tasks("3", [asked], lambda _: "", CAMPAIGN)
    result = [{**RESULT, "value": {"choices": [label]}}]
    annotation = {**ANNOTATION, "completed_by": {"email": by}, "result": result}
    rows = [{**TASK, "data": json.loads(json.dumps(sent["data"])), "annotations": [annotation]}]
    if by.isspace():
        with pytest.raises(BadInput, match="nobody"):
            answers(rows)
        return
    (found,) = answers(rows)
    assert (found.image, found.md5, found.label) == (path, "0cc1", label)
    write([found], tmp_path / "answers.csv")
    assert read(tmp_path / "answers.csv") == [found]


# The server's stand-in


class StandIn(ThreadingHTTPServer):
    """Label Studio's API as far as the laboratory uses it. What it is to do wrong is set by tests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.projects: list[dict] = []
        self.tasks: list[dict] = []
        self.uploads: list[dict] = []
        self.calls: list[str] = []
        self.access = 0
        # Called with the number of the call: True breaks the connection after it is done, a number is the status.
        self.fault: Callable[[int], bool | int | bytes] = lambda _: False

    def answer(self, method: str, path: str, query: dict, body: bytes) -> object:
        match method, path.split("/")[2:]:
            case "GET", ["projects"]:
                return {"results": [one for one in self.projects if query["title"][0] in one["title"]]}
            case "POST", ["projects"]:
                made = json.loads(body)
                labels = [choice.attrib["value"] for choice in fromstring(made["label_config"]).iter("Choice")]
                made |= {"id": len(self.projects) + 1, "parsed_label_config": {"label": {"labels": labels}}}
                self.projects.append(made)
                return made
            case "GET", ["tasks"]:
                page, size = int(query["page"][0]), int(query["page_size"][0])
                return {"total": len(self.tasks), "tasks": self.tasks[(page - 1) * size : page * size]}
            case "GET", ["projects", _, "file-uploads"]:
                return self.uploads
            case "POST", ["projects", _, "import"] if query:
                for name in re.findall(rb'filename="([^"]+)"', body):
                    self.uploads.append({"file": f"upload/1/{len(self.uploads):08x}-{name.decode()}"})
                return {}
            case "POST", ["projects", _, "import"]:
                self.tasks += json.loads(body)
                return {}
            case "GET", ["projects", number, "export"]:
                return [number, query]
        raise AssertionError(path)


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append(f"{self.command} {urlsplit(self.path).path}")
        fault = self.server.fault(len(self.server.calls))
        if isinstance(fault, bytes):
            return self.reply(200, fault)
        if fault and fault is not True:
            return self.reply(fault, b'{"detail": "no"}')
        status, done = self.authorised(body)
        if not fault:
            self.reply(status, json.dumps(done).encode())

    def authorised(self, body: bytes) -> tuple[int, object]:
        address = urlsplit(self.path)
        if address.path == "/api/token/refresh/":
            if json.loads(body) != {"refresh": "a.b.c"} or "Authorization" in self.headers:
                return 401, {"detail": "Token is invalid"}
            self.server.access += 1
            return 200, {"access": str(self.server.access)}
        if self.headers["Authorization"] not in (f"Bearer {self.server.access}", "Token abc"):
            return 401, {"detail": "expired"}
        return 200, self.server.answer(self.command, address.path, parse_qs(address.query), body)

    do_GET = do_POST = do  # noqa: N815

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv(server.TOKEN, "a.b.c")
    with StandIn() as made:
        Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def batch(tmp_path: Path) -> Callable[[StandIn], server.Sent]:
    """Sends a batch of 45 pictures, when it is called."""
    asked = asked_of(tmp_path, 45)
    tasks = label_studio.tasks("3", asked, lambda _: "", CAMPAIGN)
    config = label_studio.labelling_config(CLASSES)
    return lambda to: server.send(to.url, CAMPAIGN, config, tasks, {one.md5: one.file for one in asked})


Batch = Callable[[StandIn], server.Sent]


def is_complete(stand_in: StandIn) -> bool:
    """Whether the server has each picture and each task once, and each task its picture."""
    names = [task["data"]["image"].rpartition("-")[2] for task in stand_in.tasks]
    uploaded = [upload["file"].rpartition("-")[2] for upload in stand_in.uploads]
    assert all(task["data"]["image"].startswith("/data/upload/1/") for task in stand_in.tasks)
    assert names == [f"{task['data']['md5']}.png" for task in stand_in.tasks]
    return len(names) == 45 and sorted(names) == sorted(uploaded) and len(set(names)) == 45


def test_a_batch_is_sent_once(stand_in: StandIn, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TASKS", 10)
    monkeypatch.setattr(server, "PAGE", 7)
    assert batch(stand_in) == server.Sent(f"{stand_in.url}/projects/1", 45)
    assert is_complete(stand_in)
    # pictures 20, 20 and 5, tasks 10 at a time and 5
    assert stand_in.calls.count("POST /api/projects/1/import") == 3 + 5
    stand_in.calls.clear()
    assert batch(stand_in) == server.Sent(f"{stand_in.url}/projects/1", 0)
    assert [call for call in stand_in.calls if call.startswith("POST")] == ["POST /api/token/refresh/"]
    assert is_complete(stand_in)


def test_an_image_of_another_batch_is_another_task(stand_in: StandIn, tmp_path: Path) -> None:
    (asked,) = asked_of(tmp_path, 1)
    for name in ("3", "4"):
        tasks = label_studio.tasks(name, [asked], lambda _: "", CAMPAIGN)
        config = label_studio.labelling_config(CLASSES)
        assert server.send(stand_in.url, CAMPAIGN, config, tasks, {asked.md5: asked.file}).added == 1
    assert len(stand_in.uploads) == 1


@pytest.mark.parametrize("last", range(1, 13))
def test_a_server_that_dies_has_nothing_twice_when_the_batch_is_sent_again(
    stand_in: StandIn, batch: Batch, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    monkeypatch.setattr(server, "TASKS", 20)
    stand_in.fault = lambda number: number == last
    with pytest.raises(BadInput, match=f"{stand_in.url}: no connection, or it broke; .*nothing is sent twice"):
        batch(stand_in)
    stand_in.fault = lambda _: False
    batch(stand_in)
    assert is_complete(stand_in)
    assert len(stand_in.projects) == 1


def test_a_token_that_expires_on_the_way_is_renewed(stand_in: StandIn, batch: Batch) -> None:
    def expire(number: int) -> bool:
        stand_in.access += number % 4 == 0
        return False

    stand_in.fault = expire
    batch(stand_in)
    assert is_complete(stand_in)
    assert stand_in.calls.count("POST /api/token/refresh/") > 2


def test_a_legacy_token_is_used_as_it_is(stand_in: StandIn, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.TOKEN, "abc")
    batch(stand_in)
    assert is_complete(stand_in)
    assert "POST /api/token/refresh/" not in stand_in.calls


@pytest.mark.parametrize("token", ["x.y.z", "wrong"])
def test_a_wrong_token_is_refused_and_not_shown(
    stand_in: StandIn, batch: Batch, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(server.TOKEN, token)
    with pytest.raises(BadInput, match=r"401 .*make a token in Label Studio .*AL_LAB_LABEL_STUDIO_TOKEN") as refusal:
        batch(stand_in)
    assert token not in str(refusal.value)


@pytest.mark.parametrize("token", [None, "", "a token", "schlüssel"])
def test_what_is_no_token_is_refused_before_any_call(
    stand_in: StandIn, batch: Batch, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.delenv(server.TOKEN) if token is None else monkeypatch.setenv(server.TOKEN, token)
    with pytest.raises(BadInput, match=r"AL_LAB_LABEL_STUDIO_TOKEN: (not set|no token); make a token in Label Studio"):
        batch(stand_in)
    assert stand_in.calls == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (500, r"refuses /api/\S+, 500 no; when it is mended, run this again: nothing is sent twice"),
        (403, r"refuses .*, 403 no; take the token of somebody who may"),
        (404, r"refuses .*, 404 no; give the address"),
        (b"<html>", "does not answer as Label Studio does; give the address"),
    ],
)
@pytest.mark.parametrize("last", [1, 2, 5])
def test_a_refusal_says_what_to_do(
    stand_in: StandIn, batch: Batch, fault: int | bytes, message: str, last: int
) -> None:
    stand_in.fault = lambda number: number == last and fault
    with pytest.raises(BadInput, match=f"{stand_in.url}: {message}"):
        batch(stand_in)


def test_a_server_that_is_down_or_silent_is_told(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, stand_in: StandIn
) -> None:
    monkeypatch.setattr(server, "TIMEOUT", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stand_in.url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(BadInput, match=r"0\.1:\d+: was silent for 0\.2 s; .*nothing is sent twice"):
            batch(stand_in)
    with pytest.raises(BadInput, match=r"0\.1:\d+: no connection, .*; start Label Studio"):
        batch(stand_in)
    stand_in.url = "localhost:8080"
    with pytest.raises(BadInput, match="localhost:8080: must be the address of Label Studio, as http://localhost:8080"):
        batch(stand_in)


def test_a_project_is_found_by_its_whole_title(stand_in: StandIn, batch: Batch) -> None:
    batch(stand_in)
    stand_in.projects[0]["title"] = f"{CAMPAIGN} of last year"
    with pytest.raises(BadInput, match=r"has no project 'leaves'.*send a batch there first"):
        server.fetch(stand_in.url, CAMPAIGN)
    batch(stand_in)
    assert len(stand_in.projects) == 2
    assert json.loads(server.fetch(stand_in.url, CAMPAIGN)) == ["2", {"exportType": ["JSON"]}]
    stand_in.projects[0]["title"] = CAMPAIGN
    with pytest.raises(BadInput, match="has 2 projects 'leaves'; rename all but one"):
        server.fetch(stand_in.url, CAMPAIGN)


def test_a_project_that_lacks_choices_is_refused(stand_in: StandIn, batch: Batch) -> None:
    batch(stand_in)
    for labels, missing in ((["oak", "beech 5 $", "birch"], 'ash & <"elm">, no class fits'), ([], "ash & .*, oak")):
        stand_in.projects[0]["parsed_label_config"] = {"label": {"labels": labels}} if labels else {}
        with pytest.raises(BadInput, match=f"project 'leaves' at .*: `label` lacks the choices {missing}; add them"):
            batch(stand_in)
    stand_in.projects[0]["parsed_label_config"] = {"label": {"labels": [*CLASSES, NO_CLASS, "birch"]}}
    assert batch(stand_in).added == 0
