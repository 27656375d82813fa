"""Environment variables that cannot be right are refused with the variable, its value and the cure."""

import os
import re
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import params
from lab.campaign import server
from lab.data.sets import cifar10
from lab.errors import BadInput
from lab.process import variables
from lab.training import device
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with no variable set."""
    for name in (variables.SCRATCH, cifar10.VARIABLE, variables.WARM):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_checkpoints_lie_in_the_project(folder: Path) -> None:
    assert variables.scratch_folder() == folder / "scratch"


def test_checkpoints_of_a_temporary_run_lie_beside_the_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".dvc/tmp/exps/tmpabc").mkdir(parents=True)
    monkeypatch.chdir(folder / ".dvc/tmp/exps/tmpabc")
    assert variables.scratch_folder() == folder / "scratch"


def test_the_named_scratch_folder_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variables.SCRATCH, str(folder / "a/b"))
    assert variables.scratch_folder() == folder / "a/b"
    assert list((folder / "a").rglob("*")) == [folder / "a/b"], "the trial leaves nothing"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("relative", "must be an absolute path"),
        ("{folder}/file", "not a folder"),
        ("{folder}/file/below", "not a directory"),
        ("/proc/self", "no such file or directory"),  # not to be written to, not even by root
        ("{folder}/" + "x" * 300, "file name too long"),
    ],
)
def test_a_scratch_folder_that_cannot_hold_checkpoints_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    (folder / "file").write_text("")
    value = value.format(folder=folder)
    monkeypatch.setenv(variables.SCRATCH, value)
    with pytest.raises(BadInput, match=re.escape(f"AL_LAB_SCRATCH = {value!r}: ") + f".*{reason}"):
        variables.scratch_folder()
    assert (folder / "file").read_text() == ""


def test_a_project_that_cannot_hold_checkpoints_is_refused(folder: Path) -> None:
    (folder / "scratch").write_text("")
    with pytest.raises(BadInput, match=f"^{re.escape(str(folder / 'scratch'))}: .*not a folder; .* AL_LAB_SCRATCH"):
        variables.scratch_folder()


def test_cifar10_can_be_an_archive_a_folder_or_unnamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cifar10.named_source() is None
    for source in (folder, folder / "archive.tar.gz"):
        if source != folder:
            source.write_text("")
        monkeypatch.setenv(cifar10.VARIABLE, str(source))
        assert cifar10.named_source() == source


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("archive.tar.gz", "not an absolute path"),
        ("{folder}/absent", "no such file or folder"),
        ("{folder}/socket", "no such file or folder"),
        ("{folder}/unreadable", "cannot be read, permission denied"),
        ("{folder}/closed", "cannot be read, permission denied"),
        ("{folder}/" + "x" * 300, "cannot be read, file name too long"),
    ],
)
def test_a_source_of_cifar10_that_cannot_be_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    (folder / "archive.tar.gz").write_text("")
    (folder / "unreadable").write_text("")
    (folder / "closed").mkdir()
    socket.socket(socket.AF_UNIX).bind("socket")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for owner, name in ((Path, "open"), (os, "listdir")):
        monkeypatch.setattr(owner, name, refuse)  # root may read everything
    value = value.format(folder=folder)
    monkeypatch.setenv(cifar10.VARIABLE, value)
    with pytest.raises(BadInput, match=re.escape(f"AL_LAB_CIFAR10 = {value!r}: {reason}") + ".*unset the variable"):
        cifar10.named_source()


@pytest.mark.parametrize("value", ["on", "off", None])
def test_the_warm_process_is_on_or_off(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv(variables.WARM, value)
    variables.check_warm()


def test_another_word_for_the_warm_process_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variables.WARM, "no")
    with pytest.raises(BadInput, match="AL_LAB_WARM = 'no': choose from on, off"):
        variables.check_warm()


# Any text that an environment can hold: bytes that are no text too, and lines.
VALUES = st.one_of(
    st.sampled_from(["", " ", "on", "off", "ON", "on ", "1", "cpu", "cuda", "mps", "CPU", "cpu:0", "~", "$HOME", ".."]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.binary(max_size=8).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
)
# Below a folder of the test's own, since checkpoints make their folder.
PATHS = st.tuples(st.sampled_from(["file", "folder", "file/below", "new", "folder/new"]), VALUES).map(
    lambda parts: "{folder}/" + parts[0] + parts[1].replace("..", "").replace("{", "").replace("}", "")
)
READERS = {
    variables.SCRATCH: variables.scratch_folder,
    cifar10.VARIABLE: cifar10.named_source,
    variables.WARM: variables.check_warm,
    device.VARIABLE: device.choose,
}


def test_every_variable_is_tried() -> None:
    # A token is tried by tests/test_label_studio.py, against a server.
    named = {name for file in ROOT.glob("lab/**/*.py") for name in re.findall(r'"(AL_LAB_\w+)"', file.read_text())}
    assert named - {params.KEPT, server.TOKEN} == set(READERS), "what the process of a stage sets itself aside"


@settings(max_examples=200)
@given(name=st.sampled_from(sorted(READERS)), value=st.one_of(VALUES, PATHS))
def test_any_value_is_refused_in_one_line_or_does_what_it_says(folder: Path, name: str, value: str) -> None:
    (folder / "file").write_text("")
    (folder / "folder").mkdir(exist_ok=True)
    value = value.replace("{folder}", str(folder))
    if name == variables.SCRATCH and not value.startswith(str(folder)):
        value = value.lstrip("/")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        try:
            found = READERS[name]()
        except BadInput as refusal:
            assert len(str(refusal).splitlines()) == 1
            assert str(refusal).startswith(f"{name} = {value!r}: ")
            return
    path = Path(value)
    does_what_it_says = {
        variables.SCRATCH: lambda: found == (path if value else folder / "scratch") and found.is_dir(),
        cifar10.VARIABLE: lambda: not value or (path.is_absolute() and (path.is_dir() or path.is_file())),
        variables.WARM: lambda: value in ("on", "off"),
        device.VARIABLE: lambda: value in ("", torch.zeros(1, device=found).device.type),
    }
    assert does_what_it_says[name]()
