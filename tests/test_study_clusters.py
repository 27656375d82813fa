"""Files that describe a cluster: refused in one line a fault, or they do what they say."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab import params
from lab.errors import BadInput
from lab.study.run import cluster, slurm
from tests.conftest import ROOT

CLUSTERS = sorted((ROOT / "studies/clusters").glob("*.yaml"))
GOOD = {"gpus": 1, "cpus": 4, "memory": "16G", "time_limit": "12:00:00", "arms_at_once": 8}


def read(folder: Path, text: str) -> cluster.Settings:
    (folder / "cluster.yaml").write_text(text)
    return cluster.read(folder / "cluster.yaml")


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.stem)
def test_the_shipped_files_can_be_read(file: Path) -> None:
    assert cluster.read(file).scratch.endswith("/al-lab")
    assert set(yaml.safe_load(file.read_text())) == set(cluster.Settings.model_fields), "each setting is shown"


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("cpus: 0", "cpus = 0: "),
        ("cpus: '4'", "cpus = '4': must be a number: remove the quotes"),
        ("memory: lots", "memory = 'lots': must be a number of megabytes, or a number with K, M, G or T: 16G"),
        ("memory: 16GB", "memory = '16GB': must be a number of megabytes"),
        ("memory: 1.5G", "memory = '1.5G': must be a number of megabytes"),
        ("memory: 16000", "memory = 16000: must be a string: quote it"),
        ("time_limit: 60", "time_limit = 60: must be a string: quote it"),
        ("time_limit: noon", "time_limit = 'noon': must be minutes, hours:minutes:seconds or days-hours:minutes"),
        ("time_limit: 1:2:3:4", "time_limit = '1:2:3:4': must be minutes"),
        ("time_limit: '5'", "warning_seconds = 300: must be less than time_limit, which is 300 seconds"),
        ("time_limit: 0-0:04", "warning_seconds = 300: must be less than time_limit, which is 240 seconds"),
        ("gres: gpu:1", "gres = 'gpu:1': gpus = 1 asks for GPUs too: remove one of them"),
        ("scratch: scratch", "scratch = 'scratch': must be an absolute path"),
        ("scratch: /$NO_SUCH_VARIABLE/lab", "scratch = '/$NO_SUCH_VARIABLE/lab': must be an absolute path"),
        ("scratch: ''", "scratch = '': must be one line of text"),
        ("partitions: gpu", "partitions = 'gpu': no such key; choose from partition,"),
        ("partitions: gpu", "(did you mean partition?)"),
        ("partition: a b", "partition = 'a b': must be one word"),
        ("shell: bash", "shell = 'bash': must be the path of a shell, as /bin/bash"),
        ('setup: ["a\\nb"]', "setup.0 = 'a\\nb': must be one line of text"),
        ("setup: [module load x # why]", "not YAML"),
        ("setup: ['module load x # why']", "setup.0 = 'module load x # why': must be a command without a comment"),
        ("setup: module load x", "setup = 'module load x': "),
        ("options: ['--qos long']", "options.0 = '--qos long': must be as --qos=long"),
        ("options: [gpu]", "options.0 = 'gpu': must be as --qos=long"),
        ("options: [--mem=1G]", "options.0 = '--mem=1G': stands for --mem: set memory instead"),
        ("options: [--arr=0-3]", "options.0 = '--arr=0-3': stands for --array: leave it out"),
        ("cpus: 8\ncpus: 4", "cpus"),
        ("", "cluster.yaml"),
        ("{", "not YAML"),
        ("- 1", "cluster.yaml"),
    ],
)
def test_a_fault_is_one_line_with_key_value_and_cure(tmp_path: Path, line: str, refusal: str) -> None:
    key = line.partition(":")[0]
    is_setting = re.match(r"[a-z_]+:", line)
    rest = {name: value for name, value in GOOD.items() if name != key} if is_setting else {}
    text = (yaml.safe_dump(rest) if rest else "") + line + "\n"
    with pytest.raises(BadInput) as error:
        read(tmp_path, text)
    faults = str(error.value).splitlines()
    assert any(refusal in fault for fault in faults), faults
    assert len(faults) == 1, faults


@pytest.mark.parametrize("content", [None, b"\xff", "folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    file = tmp_path / "cluster.yaml"
    if content == "folder":
        file.mkdir()
    elif content:
        file.write_bytes(content)
    with pytest.raises(BadInput, match=r"cluster\.yaml") as error:
        cluster.read(file)
    assert len(str(error.value).splitlines()) == 1


texts = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[0-9.]{1,4}[KMGTB ]{0,2}", fullmatch=True),
    st.from_regex(r"([0-9]{1,3}-)?[0-9]{1,9}(:[0-9]{1,3}){0,4}", fullmatch=True),
    st.from_regex(r"-{0,2}[a-z-]{1,9}(=[a-z0-9 ]{0,4})?", fullmatch=True),
    st.from_regex(r"[$/~.]{0,2}[a-zA-Z/$ ]{0,9}", fullmatch=True),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.one_of(scalars, st.lists(texts, max_size=3), st.dictionaries(texts, scalars, max_size=2))
changes = st.dictionaries(
    st.one_of(st.sampled_from(sorted(cluster.Settings.model_fields)), texts), values, min_size=1, max_size=1
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """A good file with one change, one key twice, or a piece of its text cut out and something else put in."""
    change = draw(changes)
    kind = draw(st.sampled_from(["change", "twice", "damage"]))
    text = yaml.safe_dump({**GOOD, "gpus": None, **(change if kind != "damage" else {})}, allow_unicode=True)
    if kind == "twice":
        return text + yaml.safe_dump(change, allow_unicode=True)
    if kind == "damage":
        start = draw(st.integers(0, len(text)))
        return text[:start] + draw(texts) + text[start + draw(st.integers(0, 9)) :]
    return text


@settings(max_examples=60)
@given(files())
@example(yaml.safe_dump({**GOOD, "\r": None}) + '"\\r": null\n')
def test_a_generated_file_is_refused_in_one_line_a_fault_or_does_what_it_says(tmp_path: Path, text: str) -> None:
    try:
        found = read(tmp_path, text)
    except BadInput as error:
        faults = str(error).splitlines()
        assert all(re.match(r"\S*cluster\.yaml\b.*\w", fault) for fault in faults), error
        return
    said = params.read(tmp_path / "cluster.yaml")
    command = slurm.command(found, "toy", Path("/w"), 2, None)
    for option, key in cluster.KEYS.items():
        expected = f"B:USR2@{said.get(key, 300)}" if option == "signal" else said.get(key)
        given = [word for word in command if word.startswith(f"--{option}=")]
        assert given == ([] if expected is None else [f"--{option}={expected}"])
    assert f"--array=0-1%{said['arms_at_once']}" in command
    assert set(said.get("options", [])) <= set(command)
    first, *setup, last = slurm.script(found, Path("/w/toy.json")).splitlines()
    assert first == f"#!{said.get('shell', '/bin/bash')}"
    assert setup == [f"{line} && \\" for line in said.get("setup", [])]
    assert shlex.split(last)[-1] == "/w/toy.json"
    assert found.scratch is None or Path(found.scratch).is_absolute()
