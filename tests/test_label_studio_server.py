"""Label Studio itself: it shows what is sent, and gives back what people answer.

The first run installs it beside pip's cache, with an empty database: minutes. It starts in half a minute on two cores.
"""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import requests
from PIL import Image

from lab.campaign import label_studio, server
from lab.campaign.asked import Asked
from lab.data.answers import NO_CLASS, SKIP, Answer
from lab.errors import BadInput

pytestmark = pytest.mark.soak

VERSION = "1.23.2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
INSTALLED = CACHE / "active-learning-laboratory" / f"label-studio-{VERSION}"
ANNA, PASSWORD = "anna@example.org", "correct horse"
# Nobody is told of the test: no analytics, no reports of errors, no look for a newer version.
QUIET = {"COLLECT_ANALYTICS": "False", "LATEST_VERSION_CHECK": "False", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}
TITLE, CLASSES = "Leaves of 2026", ["oak", "ash & <elm>", '"quoted", élan', " 5 $", "日本"]
CONFIG = label_studio.labelling_config(CLASSES)


def label_studio_command(data: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    command = [str(INSTALLED / "env/bin/label-studio"), *words, "--data-dir", str(data)]
    return command, {**os.environ, **QUIET, "LABEL_STUDIO_BASE_DATA_DIR": str(data)}


def answers(export: bytes) -> list[Answer]:
    return [found.answer for found in label_studio.answers(export, "export.json", "leaves")]


def install() -> None:
    """Install Label Studio with a database of one user, unless an earlier run did. Skips where it cannot be."""
    if (INSTALLED / "ready").exists():
        return
    shutil.rmtree(INSTALLED, ignore_errors=True)
    python = INSTALLED / "env/bin/python"
    made, environment = label_studio_command(INSTALLED / "data", "init", "--quiet", "--username", ANNA)
    for command in (
        [sys.executable, "-m", "venv", str(INSTALLED / "env")],
        [str(python), "-m", "pip", "install", "--quiet", f"label-studio=={VERSION}"],
        [*made, "--password", PASSWORD],
    ):
        done = subprocess.run(command, env=environment, text=True, capture_output=True)
        if done.returncode:
            pytest.skip(f"Label Studio {VERSION} cannot be installed: {(done.stderr or done.stdout).strip()[-300:]}")
    (INSTALLED / "ready").touch()


class LabelStudio:
    """A server with a database of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.data, self.log = folder / "data", folder / "log"
        shutil.copytree(INSTALLED / "data", self.data)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)]
        command, environment = label_studio_command(self.data, *words)
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + 300
        while not self._is_up():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.2)

    def _is_up(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=5).ok
        except requests.RequestException:
            return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log_in(self, email: str, page: str = "login") -> requests.Session:
        """The browser of somebody who has logged in; or signed up, as those do who are new."""
        browser, address = requests.Session(), f"{self.url}/user/{page}/"
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(address).text)
        assert token
        form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        assert browser.post(address, data=form, headers={"Referer": self.url}).ok
        assert "sessionid" in browser.cookies
        browser.headers.update({"X-CSRFToken": browser.cookies["csrftoken"], "Referer": self.url})
        return browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    install()
    started = LabelStudio(tmp_path_factory.mktemp("studio"))
    try:
        started.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(server.TOKEN, started.log_in(ANNA).post(f"{started.url}/api/token/").json()["token"])
            yield started
    finally:
        started.kill()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    """Twelve pictures of all kinds of files, of which every other one is predicted."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    for number in range(12):
        suffix = (".png", ".jpg", ".bmp", ".gif", ".webp", ".tif")[number % 6]
        file = folder / f"no {number}{suffix}"
        Image.new("RGB", (32, 32), (20 * number, 0, 0)).save(file)
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        predicted = (CLASSES[number % 5], 0.75, number / 7) if number % 2 else (None, None, None)
        found.append(Asked(f"oak/{file.name}", file, md5, *predicted))
    return found


def send(studio: LabelStudio, asked: list[Asked], batch: str = "3") -> server.Sent:
    tasks = label_studio.tasks(batch, asked, lambda _: "", "leaves")
    return server.send(studio.url, TITLE, CONFIG, tasks, {one.md5: one.file for one in asked})


def tasks_of(studio: LabelStudio, browser: requests.Session) -> list[dict]:
    (project,) = browser.get(f"{studio.url}/api/projects").json()["results"]
    values = {"project": project["id"], "fields": "all", "page_size": 100}
    return browser.get(f"{studio.url}/api/tasks", params=values).json()["tasks"]


# In this order, on one server.


def test_a_server_that_is_killed_on_the_way_gets_the_rest_once(
    studio: LabelStudio, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FILES", 3)
    monkeypatch.setattr(server, "TASKS", 3)
    request, imports = requests.request, []

    def killed_in_the_sixth(method: str, url: str, **values: Any) -> requests.Response:
        imports.extend([url] if url.endswith("/import") else [])
        if len(imports) < 6:  # the second of tasks, after four of pictures
            return request(method, url, **values)
        killer = Timer(0.1, studio.kill)
        killer.start()
        try:
            return request(method, url, **values)
        finally:
            killer.join()  # or it kills the server that is started next

    monkeypatch.setattr(requests, "request", killed_in_the_sixth)
    with pytest.raises(BadInput, match=f"{studio.url}: no connection, or it broke"):
        send(studio, asked)
    monkeypatch.setattr(requests, "request", request)
    studio.start()
    there = len(tasks_of(studio, studio.log_in(ANNA)))
    assert there in (3, 6), "three tasks, or the six that the server finished before it died"
    assert send(studio, asked).added == 12 - there
    assert send(studio, asked) == server.Sent(f"{studio.url}/projects/1", 0)


def test_each_task_has_its_picture_and_its_prediction(studio: LabelStudio, asked: list[Asked]) -> None:
    browser = studio.log_in(ANNA)
    tasks = {task["data"]["path"]: task for task in tasks_of(studio, browser)}
    assert tasks.keys() == {one.image for one in asked}
    uploads = set()
    for one in asked:
        task = tasks[one.image]
        data = {"md5": one.md5, "batch": "3", "campaign": "leaves", "score": one.score}
        assert {name: task["data"].get(name) for name in data} == data
        shown = browser.get(f"{studio.url}{task['data']['image']}")
        assert shown.headers["Content-Type"].startswith("image/")
        assert shown.content == label_studio.picture(one.file, one.md5)[0]
        predictions = [(found["result"][0]["value"]["choices"], found["score"]) for found in task["predictions"]]
        assert predictions == ([([one.predicted], one.confidence)] if one.predicted else [])
        uploads.add(task["data"]["image"])
    assert len(uploads) == 12


def test_another_batch_shows_its_predictions_too(studio: LabelStudio, asked: list[Asked]) -> None:
    assert send(studio, asked[1:2], batch="4").added == 1
    browser = studio.log_in(ANNA)
    (project,) = browser.get(f"{studio.url}/api/projects").json()["results"]
    versions = {found["model_version"] for task in tasks_of(studio, browser) for found in task["predictions"]}
    assert {project["model_version"]} == versions, "Label Studio shows predictions of one version"


def test_what_people_answer_comes_back(studio: LabelStudio, asked: list[Asked]) -> None:
    anna = studio.log_in(ANNA)
    labels = dict(zip([one.image for one in asked], [*CLASSES, NO_CLASS, SKIP], strict=False))
    tasks = [task for task in tasks_of(studio, anna) if task["data"]["batch"] == "3"]
    for task in tasks:
        if label := labels.get(task["data"]["path"]):
            result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
            annotation = {"result": [] if label == SKIP else [result], "was_cancelled": label == SKIP}
            assert anna.post(f"{studio.url}/api/tasks/{task['id']}/annotations/", json=annotation).ok
    export = server.fetch(studio.url, TITLE)
    found = answers(export)
    hashes = {one.image: one.md5 for one in asked}
    assert {answer.image: answer.label for answer in found} == labels
    assert len(found) == len(labels)
    for answer in found:
        assert (answer.md5, answer.by, answer.tool) == (hashes[answer.image], "1", "Label Studio")
        assert abs(time.time() - datetime.fromisoformat(answer.at).timestamp()) < 600
    # What a person exports in the browser as JSON-MIN, but for what was skipped.
    address = f"{studio.url}/api/projects/1/export"
    by_hand = anna.get(address, params={"exportType": "JSON_MIN"}).content
    assert sorted(answers(by_hand)) == sorted(answer for answer in found if answer.label != SKIP)
    with pytest.raises(BadInput, match="belongs to the campaign 'leaves'"):
        label_studio.answers(by_hand, "export.json", "fruit")


def test_two_people_who_answer_are_told_apart(studio: LabelStudio, asked: list[Asked]) -> None:
    ben = studio.log_in("ben@example.org", "signup")
    task = next(task for task in tasks_of(studio, ben) if task["data"]["path"] == asked[0].image)
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [NO_CLASS]}}
    assert ben.post(f"{studio.url}/api/tasks/{task['id']}/annotations/", json={"result": [result]}).ok
    found = answers(server.fetch(studio.url, TITLE))
    about = {(answer.by, answer.label) for answer in found if answer.image == asked[0].image}
    assert about == {("1", CLASSES[0]), ("2", NO_CLASS)}


def test_tasks_in_a_file_need_no_server_for_their_pictures(studio: LabelStudio, asked: list[Asked]) -> None:
    anna = studio.log_in(ANNA)
    project = anna.post(f"{studio.url}/api/projects", json={"title": "By file", "label_config": CONFIG}).json()["id"]
    tasks = label_studio.tasks("3", asked[:2], label_studio.data_uri, "leaves")
    assert anna.post(f"{studio.url}/api/projects/{project}/import", json=tasks).json()["prediction_count"] == 1
    values = {"project": project}
    images = {task["data"]["image"] for task in anna.get(f"{studio.url}/api/tasks", params=values).json()["tasks"]}
    assert images == {label_studio.data_uri(one) for one in asked[:2]}


def test_what_the_server_refuses_is_told(
    studio: LabelStudio, asked: list[Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match=r"has no project 'Fruit'"):
        server.fetch(studio.url, "Fruit")
    with pytest.raises(BadInput, match=r"400 .*Ensure this field has at least 3 characters"):
        server.send(studio.url, "x", CONFIG, [], {})
    other = label_studio.labelling_config(["birch"])
    with pytest.raises(BadInput, match=f"project '{TITLE}' at .* lacks the choices birch"):
        server.send(studio.url, TITLE, other, [], {})
    token = os.environ[server.TOKEN]
    for wrong in (token[:-4] + "abcd", "0123456789abcdef"):
        monkeypatch.setenv(server.TOKEN, wrong)
        with pytest.raises(BadInput, match=r"401 .*; make a token in Label Studio"):
            send(studio, asked)
