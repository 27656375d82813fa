"""Send batches to a server of Label Studio, and fetch its export, over its HTTP API.

https://api.labelstud.io; files in an import: https://labelstud.io/guide/tasks. What was sent is not sent again.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import fromstring

import requests

from lab.campaign.label_studio import LABEL, PICTURE, picture
from lab.errors import BadInput

TOKEN = "AL_LAB_LABEL_STUDIO_TOKEN"
TIMEOUT = 10, 300  # seconds to connect, and of silence
# Of a request. The server takes a part of the tasks as a whole or not at all, and 100 files or 250 MB by default.
TASKS, FILES, PAGE = 100, 20, 1000
AGAIN = "run this again: nothing is sent twice"
CURES = {
    401: f"make a token in Label Studio under Account & Settings, Personal Access Token, and put it into {TOKEN}",
    403: f"take the token of somebody who may change the project into {TOKEN}",
    404: "give the address that Label Studio has in a browser",
    413: "let the proxy before the server pass requests of 250 MB",
}


class Sent(NamedTuple):
    """address: of the project, for a browser. added: how many tasks it did not have before."""

    address: str
    added: int


def send(url: str, title: str, config: str, tasks: list[dict], files: Mapping[str, Path]) -> Sent:
    """Bring a project to hold these tasks, made if there is none, with their pictures on the server.

    Args:
        title: of the project, 3 to 50 characters.
        config, tasks: as ``label_studio`` makes them; ``data.image`` becomes the picture's place on the server.
        files: by MD5 hash, as in ``data.md5``.

    Raises:
        BadInput: the server does not answer, or refuses; a picture is not what it was; or the project lacks choices.
    """
    server = _Server(url)
    project = server.project(title) or server.json("POST", "projects", json={"title": title, "label_config": config})
    choices = project["parsed_label_config"].get(LABEL, {}).get("labels", [])
    if missing := {choice.attrib["value"] for choice in fromstring(config).iter("Choice")} - set(choices):
        raise BadInput(
            f"project {title!r} at {server.url}: `{LABEL}` lacks the choices {', '.join(sorted(missing))}; "
            "add them under Settings, Labeling Interface, or give another title"
        )
    path = f"projects/{project['id']}"
    known = {_key(task) for task in server.tasks(project["id"])}
    new = [task for task in tasks if _key(task) not in known]
    places = _upload(server, path, {task["data"]["md5"]: files[task["data"]["md5"]] for task in new})
    placed = [{**task, "data": {**task["data"], PICTURE: places[task["data"]["md5"]]}} for task in new]
    for first in range(0, len(placed), TASKS):
        server.json("POST", f"{path}/import", json=placed[first : first + TASKS])
    return Sent(f"{server.url}/{path}", len(new))


def fetch(url: str, title: str) -> bytes:
    """The export of a project in JSON, for ``label_studio.answers``.

    Raises:
        BadInput: the server does not answer, refuses, or has no such project.
    """
    server = _Server(url)
    project = server.project(title)
    if project is None:
        raise BadInput(f"{server.url}: has no project {title!r} that this token may see; send a batch there first")
    return server("GET", f"projects/{project['id']}/export", params={"exportType": "JSON"}).content


def _key(task: dict) -> tuple:
    return tuple(task["data"].get(name) for name in ("campaign", "batch", "path", "md5", "answers"))


def _upload(server: "_Server", path: str, files: Mapping[str, Path]) -> dict[str, str]:
    """Upload the pictures that are not there. Returns the place of each on the server, by hash."""
    there = _uploaded(server, path)
    missing = sorted(files.keys() - there.keys())
    for first in range(0, len(missing), FILES):
        parts = {}
        for md5 in missing[first : first + FILES]:
            content, suffix = picture(files[md5], md5)
            parts[md5] = f"{md5}{suffix}", content
        server.json("POST", f"{path}/import", params={"commit_to_project": "false"}, files=parts)
    return _uploaded(server, path) if missing else there


def _uploaded(server: "_Server", path: str) -> dict[str, str]:
    """Where the pictures are that were uploaded to a project with this token, by hash."""
    names = [found["file"] for found in server.json("GET", f"{path}/file-uploads", params={"all": "true"})]
    # The server puts characters of its own and a hyphen before the name.
    return {Path(name).stem.rpartition("-")[2]: f"/data/{name}" for name in names}


class _Server:
    """Calls of the API with the user's token."""

    def __init__(self, url: str) -> None:
        # A project's address will do: `ask` prints one.
        self.url = re.sub(r"/projects(/.*)?$", "", url.rstrip("/"))
        self.token = os.environ.get(TOKEN, "").strip()
        if not re.match("https?://.", self.url):
            raise BadInput(f"{url}: must be the address of Label Studio, as http://localhost:8080")
        if not re.fullmatch(r"[\w.-]+", self.token, re.ASCII):
            raise BadInput(f"{TOKEN}: {'no token' if self.token else 'not set'}; {CURES[401]}")
        # A personal access token has dots. It is exchanged for one that lasts minutes; a legacy token is used as it is.
        self.is_personal = "." in self.token
        self.header = f"Token {self.token}"
        if self.is_personal:
            self._renew()

    def __call__(self, method: str, path: str, **values: Any) -> requests.Response:
        answer = self._request(method, path, **values)
        if answer.status_code == 401 and self.is_personal:
            self._renew()
            answer = self._request(method, path, **values)
        return self._accept(answer)

    def json(self, method: str, path: str, **values: Any) -> Any:
        return self._json(self(method, path, **values))

    def project(self, title: str) -> dict | None:
        """The project with a title. The server finds those that have it within theirs."""
        page = {"title": title, "include": "id,title,parsed_label_config", "page_size": 100}
        found = [one for one in self.json("GET", "projects", params=page)["results"] if one["title"] == title]
        if len(found) > 1:
            raise BadInput(f"{self.url}: has {len(found)} projects {title!r}; rename all but one")
        return found[0] if found else None

    def tasks(self, project: int) -> Iterator[dict]:
        page, total = 1, 1
        while (page - 1) * PAGE < total:
            values = {"project": project, "page": page, "page_size": PAGE, "resolve_uri": "false"}
            found = self.json("GET", "tasks", params=values)
            yield from found["tasks"]
            page, total = page + 1, found["total"]

    def _renew(self) -> None:
        self.header = ""
        answer = self._json(self._accept(self._request("POST", "token/refresh/", json={"refresh": self.token})))
        self.header = f"Bearer {answer['access']}"

    def _request(self, method: str, path: str, **values: Any) -> requests.Response:
        def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
            if self.header:
                request.headers["Authorization"] = self.header
            return request

        try:
            # With auth, no password of a .netrc takes the token's place.
            return requests.request(method, f"{self.url}/api/{path}", auth=authorise, timeout=TIMEOUT, **values)
        except requests.ConnectTimeout as error:
            raise BadInput(f"{self.url}: nothing answers there; start Label Studio, or mend the address") from error
        except requests.Timeout as error:
            raise BadInput(f"{self.url}: was silent for {TIMEOUT[1]} s; when it answers, {AGAIN}") from error
        except requests.exceptions.SSLError as error:
            raise BadInput(
                f"{self.url}: has a certificate of nobody known; name its issuer in REQUESTS_CA_BUNDLE"
            ) from error
        except requests.RequestException as error:
            raise BadInput(f"{self.url}: no connection, or it broke; start Label Studio, and {AGAIN}") from error

    def _accept(self, answer: requests.Response) -> requests.Response:
        if answer.ok:
            return answer
        try:
            detail = answer.json()
            why = detail.get("validation_errors") or detail["detail"]
        except (ValueError, KeyError, AttributeError):
            why = answer.reason
        cure = CURES.get(answer.status_code, f"when it is mended, {AGAIN}")
        raise BadInput(
            f"{self.url}: refuses {answer.request.path_url}, {answer.status_code} {str(why).rstrip('.')}; {cure}"
        )

    def _json(self, answer: requests.Response) -> Any:
        try:
            return answer.json()
        except ValueError as error:
            raise BadInput(f"{self.url}: does not answer as Label Studio does; {CURES[404]}") from error
