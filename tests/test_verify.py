"""What `lab.verify` finds in objects and labelled-index files; repairs are tested in test_faults.py."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lab import verify
from lab.data import labelled
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
