"""The log of costs: a row a computed cycle, found by the hash that DVC gives its history."""

import csv
import fcntl
import json
import platform
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc.fs import LocalFileSystem
from dvc_data.hashfile.hash import file_md5

from lab.process import costs

ROOT = Path(__file__).parent.parent
SPENT = {
    "training_seconds": 2.5,
    "evaluation_seconds": 0.5,
    "query_seconds": 1.0,
    "compile_seconds": 0.0,
    "images_per_second": 40.0,
    "peak_memory_mb": 512.0,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the histories of two cycles."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics/history").mkdir(parents=True)
    for number in (1, 2):
        rows = [{"cycle": cycle, "labels": 10 * (cycle + 1)} for cycle in range(number)]
        (tmp_path / f"metrics/history/{number}.json").write_text(json.dumps(rows))
    return tmp_path


def rows() -> list[dict[str, str]]:
    with open(costs.LOG, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("before", [None, "", ",".join(costs.COLUMNS) + "\n"], ids=["absent", "empty", "header"])
def test_a_row_for_each_cycle_below_one_header(folder: Path, before: str | None) -> None:
    if before is not None:
        costs.LOG.write_text(before)
    costs.append(0, SPENT)
    costs.append(1, SPENT)
    first, second = rows()
    assert list(first) == list(costs.COLUMNS)
    assert first["history"] == file_md5("metrics/history/1.json", LocalFileSystem())
    assert second["history"] == file_md5("metrics/history/2.json", LocalFileSystem())
    assert [row["cycle"] for row in (first, second)] == ["0", "1"]
    assert [row["labels"] for row in (first, second)] == ["10", "20"]
    assert {name: float(first[name]) for name in SPENT} == SPENT
    assert platform.node() not in first.values(), "whose machine it was is nobody's business"


def test_a_row_comes_below_one_without_its_end_of_line(folder: Path) -> None:
    costs.append(0, SPENT)
    costs.LOG.write_text(costs.LOG.read_text().rstrip())
    costs.append(1, SPENT)
    assert [row["cycle"] for row in rows()] == ["0", "1"]


def test_what_is_not_known_is_empty(folder: Path) -> None:
    costs.append(0, {"training_seconds": 2.5})
    assert rows()[0]["compile_seconds"] == ""


def test_an_unknown_cost_is_an_error_and_writes_nothing(folder: Path) -> None:
    with pytest.raises(ValueError, match="training_hours"):
        costs.append(0, {"training_hours": 1})
    assert not costs.LOG.exists() or rows() == []


def test_rows_of_many_at_once_are_whole(folder: Path) -> None:
    code = f"from lab.process import costs\nfor _ in range(50): costs.append(1, {SPENT})"
    command = [sys.executable, "-c", code]
    environment = {"PYTHONPATH": str(ROOT)}
    for process in [subprocess.Popen(command, env=environment) for _ in range(4)]:
        assert process.wait() == 0
    assert [row["cycle"] for row in rows()] == ["1"] * 200
    assert {len(line) for line in costs.LOG.read_text().splitlines()[1:]} == {
        len(costs.LOG.read_text().splitlines()[1])
    }


def test_nobody_writes_between_the_look_and_the_row(folder: Path) -> None:
    code = f"from lab.process import costs; print('ready', flush=True); costs.append(0, {SPENT})"
    with open(costs.LOG, "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, text=True, stdout=subprocess.PIPE
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)  # in which it would see an empty file
        log.write(",".join(costs.COLUMNS) + "\n")
    assert process.wait() == 0
    assert [row["cycle"] for row in rows()] == ["0"]


def test_a_full_disk_leaves_no_half_row(folder: Path) -> None:
    costs.append(0, SPENT)
    before = costs.LOG.read_text()
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(OSError, match="no space left"):
            costs.append(1, SPENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert costs.LOG.read_text() == before
