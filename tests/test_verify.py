"""What `lab.verify` finds in objects and labelled-index files; repairs are tested in test_faults.py."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lab import verify
from lab.data import answered, answers, labelled
from lab.verify import Cached


def cached(path: Path, output: str) -> Cached:
    """An object as it should be."""
    return Cached("an-experiment", "c0ffee", "cycle@0", output, hashlib.md5(path.read_bytes()).hexdigest(), path)


@pytest.fixture
def chain(tmp_path: Path) -> dict[str, Cached]:
    """Three labelled sets of 2, 3 and 4 of 10 images."""
    pools = [labelled.cold_start(np.array([5, 3]))]
    for index in (9, 1):
        pools.append(labelled.extend(pools[-1], np.array([index]), np.array([0.5])))
    for number, pool in enumerate(pools):
        labelled.write(pool, tmp_path / f"{number}.csv")
    np.save(tmp_path / "labels.npy", np.zeros(10, dtype=np.int64))
    files = {
        str(labelled.path_of(number)): cached(tmp_path / f"{number}.csv", str(labelled.path_of(number)))
        for number in range(3)
    }
    return {"data/prepared/train_labels.npy": cached(tmp_path / "labels.npy", "labels"), **files}


def test_an_intact_object_has_no_fault(chain: dict[str, Cached]) -> None:
    assert [verify.fault_of(item.file, item.hash) for item in chain.values()] == [None] * 4


def test_a_changed_object_and_a_missing_one_are_faults(chain: dict[str, Cached]) -> None:
    _, first, second, _ = chain.values()
    first.file.write_bytes(first.file.read_bytes() + b"0")
    second.file.unlink()
    assert verify.fault_of(first.file, first.hash) == "was changed in the cache"
    assert verify.fault_of(second.file, second.hash) == "is missing from the cache"


def test_what_gc_removed_is_not_called_wrong() -> None:
    (missing,) = verify.advice(["e: data/labelled/1.csv is missing from the cache"])
    assert "no wrong result" in missing
    (changed,) = verify.advice(["e: data/labelled/1.csv was changed in the cache"])
    assert "computed from a changed object is wrong too" in changed


def test_an_intact_chain_has_no_fault(chain: dict[str, Cached]) -> None:
    assert list(verify.faults_of_the_chain("an-experiment", chain)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,cycle,score\n5,0,\n4,0,\n9,1,0.5\n", "data/labelled/1.csv does not begin with all images of"),
        ("index,cycle,score\n5,0,\n3,0,\n3,1,0.5\n", "index 3 is listed twice"),
        ("index,cycle,score\n5,0,\n3,0,\n10,1,0.5\n", "index 10 is out of range"),
        ("index,cycle,score\n5,0,\n", "does not begin with all images of"),
        ("index,cycle\n5,0\n", "columns index, cycle; must be index, cycle, score"),
    ],
)
def test_a_chain_that_lost_or_changed_an_image_is_a_fault(chain: dict[str, Cached], text: str, message: str) -> None:
    second = chain[str(labelled.path_of(1))]
    second.file.write_text(text)
    faults = list(verify.faults_of_the_chain("an-experiment", chain))
    assert faults[0].startswith("an-experiment: ")
    assert message in faults[0]


@pytest.fixture
def campaign(laboratory: Path) -> dict[str, Cached]:
    """Two answered images of a test set and one of a training set, whose labels a run used. The folder is its own."""
    Path("params.yaml").write_text("oracle: people\ndataset: leaves\ncycles: [[0, 1]]\n")
    Path("data/prepared/statistics.json").write_text('{"classes": ["oak", "ash"]}')
    for split, names in (("test", ["a.jpg", "b.jpg"]), ("train", ["c.jpg", "d.jpg"])):
        Path(f"data/prepared/{split}_sources.csv").write_text("".join(f"{name},0\n" for name in names))
    for batch, said in ((answered.AUDIT, {"a.jpg": "oak", "b.jpg": "ash"}), ("0", {"d.jpg": "ash"})):
        given = [
            answers.Answer(name, "0", label, "anna", "2026-01-01T00:00:00+00:00", "table")
            for name, label in said.items()
        ]
        answers.write(given, answers.path_of("leaves", batch))
    answered.write([(0, 0), (1, 1)], answered.AUDIT)
    answered.write([(1, 1)], "0")
    parts = ["statistics.json", "test_sources.csv", "train_sources.csv"]
    paths = [
        *(f"data/prepared/{part}" for part in parts),
        *(str(answered.path_of(name)) for name in (answered.AUDIT, "0")),
    ]
    return {path: cached(Path(path), path) for path in paths}


def test_labels_that_the_answers_decide_are_no_fault(campaign: dict[str, Cached]) -> None:
    assert list(verify.faults_of_the_answers("workspace", campaign)) == []


@pytest.mark.parametrize(("batch", "who"), [(answered.AUDIT, "the audit set has"), ("0", "cycle 0 used")])
def test_an_answer_that_changed_is_a_fault(campaign: dict[str, Cached], batch: str, who: str) -> None:
    path = answers.path_of("leaves", batch)
    path.write_text(path.read_text().replace("ash", "oak"))
    (fault,) = verify.faults_of_the_answers("workspace", campaign)
    assert fault == f"workspace: {who} other labels than those in data/answers; run `dvc repro`"


def test_cycles_are_judged_without_the_audit_set(campaign: dict[str, Cached]) -> None:
    del campaign[str(answered.path_of(answered.AUDIT))]
    path = answers.path_of("leaves", "0")
    path.write_text(path.read_text().replace("ash", "oak"))
    (fault,) = verify.faults_of_the_answers("workspace", campaign)
    assert "cycle 0 used other labels" in fault


@pytest.mark.parametrize("lost", ["statistics.json", "test_sources.csv", "train_sources.csv"])
def test_answers_are_not_judged_without_what_is_damaged(campaign: dict[str, Cached], lost: str) -> None:
    del campaign[f"data/prepared/{lost}"]
    assert list(verify.faults_of_the_answers("workspace", campaign)) == []
