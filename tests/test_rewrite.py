"""params.yaml is rewritten as somebody wrote it, but for what changes."""

from pathlib import Path

import pytest

from lab import params
from lab.rewrite import in_a_line, rewritten
from tests.conftest import ROOT

PARAMS = (ROOT / "params.yaml").read_text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    return path


def test_without_a_change_it_is_the_same_file(file: Path) -> None:
    with rewritten(file):
        pass
    assert file.read_text() == PARAMS


def test_another_cycle_is_another_line(file: Path) -> None:
    with rewritten(file) as values:
        values["cycles"].append(in_a_line([10, 11]))
    assert file.read_text() == PARAMS.replace("- [9, 10]\n", "- [9, 10]\n- [10, 11]\n")
    assert params.read(file)["cycles"][-1] == [10, 11]


def test_quotes_nulls_and_comments_stay(file: Path) -> None:
    text = "a: 'x'   # one\nb: \"y\"\nc: null # none\nd: {e: [1, 2], f: null}\n\n# end\n"
    file.write_text(text)
    with rewritten(file) as values:
        values["d"]["e"][0] = 3
    assert file.read_text() == text.replace("[1,", "[3,")


def test_a_change_that_fails_leaves_the_file(file: Path) -> None:
    with pytest.raises(KeyError), rewritten(file) as values:
        values["cycles"].append(in_a_line([10, 11]))
        raise KeyError
    assert file.read_text() == PARAMS
