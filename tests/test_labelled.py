"""Labelled-index files: what is written is read back, and what cannot be right is refused."""

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.data import labelled
from lab.errors import BadInput

POOL_SIZE = 1000


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[pd.DataFrame], list[int]]:
    """Labelled pools of successive cycles, and the images that the cold start and each query acquired."""
    acquired = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    count = sum(acquired)
    indices = draw(st.lists(st.integers(0, POOL_SIZE - 1), min_size=count, max_size=count, unique=True))
    scores = draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=count, max_size=count))
    ends = list(accumulate(acquired))
    pools = [labelled.cold_start(np.array(indices[: ends[0]]))]
    for start, end in pairwise(ends):
        pools.append(labelled.extend(pools[-1], np.array(indices[start:end]), np.array(scores[start:end])))
    return pools, acquired


@given(chain=chains())
def test_any_chain_is_read_back_as_written(tmp_path: Path, chain) -> None:
    pools, acquired = chain
    read_back = []
    for cycle, pool in enumerate(pools):
        path = tmp_path / f"{cycle}.csv"
        labelled.write(pool, path)
        read_back.append(labelled.read(path))
        labelled.check(read_back[-1], path, POOL_SIZE, acquired[: cycle + 1])
        pd.testing.assert_frame_equal(read_back[-1], pool, check_exact=True)
    labelled.check_chain(read_back)


@given(chain=chains(), data=st.data())
def test_any_lost_image_is_noticed(tmp_path: Path, chain, data: st.DataObject) -> None:
    pools, acquired = chain
    lost = data.draw(st.integers(0, len(pools[-1]) - 1))
    with pytest.raises(BadInput, match="fewer than"):
        labelled.check(pools[-1].drop(index=lost), tmp_path, POOL_SIZE, acquired)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,cycle,score\n1,0,\n1,0,\n2,1,0.5\n", "index 1 is listed twice; 1 duplicates in all"),
        ("index,cycle,score\n1,0,\n1000,0,\n2,1,0.5\n", "index 1000 is out of range, the training set has 1,000"),
        ("index,cycle,score\n1,0,\n-1,0,\n2,1,0.5\n", "index -1 is out of range"),
        ("index,cycle,score\n1,0,\n", "1 images, fewer than the 3 of cycle 1"),
        ("index,cycle,score\n1,0,\n2,0,\n3,1,1\n4,1,1\n", "4 images, more than the 3 of cycle 1"),
        ("index,cycle,score\n1,0,\n2,1,0.5\n3,0,\n", "not in the order of acquisition"),
        ("index,cycle,score\n1,0,\n2,1,0.5\n3,1,0.5\n", "not in the order of acquisition"),
        ("index,cycle\n1,0\n", "columns index, cycle; must be index, cycle, score"),
        ("index,cycle,score\n1.5,0,\n", "not a labelled-index file"),
        ("index,cycle,score\nx,0,\n", "not a labelled-index file"),
        ("", "not a labelled-index file"),
        ("\x00\x01\x02", r"1\.csv"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "1.csv", text)
    with pytest.raises(BadInput, match=message) as refusal:
        labelled.check(labelled.read(path), path, POOL_SIZE, acquired=[2, 1])
    assert str(path) in str(refusal.value)


def test_a_chain_that_changes_an_image_is_refused() -> None:
    first = labelled.cold_start(np.array([1, 2]))
    second = labelled.extend(labelled.cold_start(np.array([1, 3])), np.array([4]), np.array([0.5]))
    with pytest.raises(BadInput, match=r"1\.csv does not begin with all images of .*0\.csv"):
        labelled.check_chain([first, second])


def test_extend_says_who_acquired_what() -> None:
    pool = labelled.extend(labelled.cold_start(np.array([7, 3])), np.array([5, 9]), np.array([2.0, 1.0]))
    assert pool["index"].tolist() == [7, 3, 5, 9]
    assert pool["cycle"].tolist() == [0, 0, 1, 1]
    assert pool["score"].isna().tolist() == [True, True, False, False]
