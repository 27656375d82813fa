"""The documents tell the truth: links lead somewhere, commands exist, and the cheap ones print what a page shows."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from dvc.cli import DvcParserError, parse_args
from dvc.cli.parser import get_main_parser

from lab import choices, params
from lab.cycles import setting
from lab.data import sizes
from lab.host import Host
from lab.process import check
from lab.query.query import Query
from lab.report import figures
from lab.report import page as report
from lab.training.prediction import Predictions
from tests.study_tables import tidy_of

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
DOCUMENTS = sorted(ROOT.glob("docs/*.md"))
# Commands that take a second or two and change nothing.
CHEAP = r"make|python -m lab\.cycles \d+|dvc stage list|dvc dag|python -m \S+( \S+)? --help"
# What a page may name before it exists: written by a command, or by the reader.
NOT_YET = r"\.venv|\.dvc|scratch|data/|metrics/|plots/|studies/\w+/results|lab/\S*/(leaves|entropy)\.py"


class Block(NamedTuple):
    language: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)]


def prose_of(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^```\w*\n.*?^```$", "", page.read_text(), flags=re.M | re.S)


def commands_of(page: Path) -> list[str]:
    """The lines of its shell blocks, without comments."""
    lines = [line for block in blocks_of(page) if block.language == "sh" for line in block.text.splitlines()]
    return [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line).strip())]


def headings_of(page: Path) -> list[str]:
    return re.findall(r"^#+ (.*)$", prose_of(page), re.M)


def anchor_of(heading: str) -> str:
    """The anchor that hosts of Git repositories give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def paths(values: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", values, ids=lambda page: page.name)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@paths(DOCUMENTS)
def test_a_page_begins_with_its_question_and_a_command(page: Path) -> None:
    title, _, question, *_ = page.read_text().splitlines()
    assert title.startswith("# ")
    assert re.fullmatch(r"\*.+\?( .+\?)*\*", question)
    before, _, _ = page.read_text().partition("\n## ")
    assert "```sh" in before, "commands come before explanations"


@paths(DOCUMENTS)
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"](docs/{page.name})" in (ROOT / "README.md").read_text()


@paths(PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose_of(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file) if file else page
        assert found.exists(), target
        assert not anchor or anchor in [anchor_of(heading) for heading in headings_of(found)], target


@paths(PAGES)
def test_anchors_are_unique(page: Path) -> None:
    anchors = [anchor_of(heading) for heading in headings_of(page)]
    if page.name != "CHANGELOG.md":
        assert len(anchors) == len(set(anchors))


@paths(PAGES)
def test_blocks_say_what_they_hold(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in ("sh", "text", "yaml", "python")
        if block.language == "python":
            compile(block.text, page.name, "exec")
        if block.language == "yaml":
            assert params.parse(block.text)
    assert not re.search(r"\n\n {4}\S", prose_of(page)), "an indented block says nothing of what it holds"


@paths(PAGES)
def test_every_path_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`([\w.]+/[\w./]*)`", prose_of(page)):
        assert (ROOT / name).exists() or re.match(NOT_YET, name), name


@paths(PAGES)
def test_every_command_is_known(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inline = re.findall(r"`((?:make|dvc|python|git|export) [^`]+)`", prose_of(page))
    for command in [*commands_of(page), *inline]:
        nested = re.sub(r"\$\(python -m lab\.cycles (\d+)\)", lambda found: setting(int(found[1])), command)
        program, *words = shlex.split(nested)
        assert program in CHECKS, command
        try:
            CHECKS[program](words, monkeypatch)
        except (AssertionError, DvcParserError, SystemExit) as error:
            pytest.fail(f"{command}: {error}")


def _check_make(words: list[str], _: pytest.MonkeyPatch) -> None:
    for word in words:
        assert word in targets() or re.fullmatch(r"[A-Z]+=\S+", word), f"no target {word}"


def _check_dvc(words: list[str], _: pytest.MonkeyPatch) -> None:
    if len(words) < 3 and not any(word.startswith("-") for word in words):
        assert words[0] in dvc_commands()
        return
    parsed = parse_args(words)
    for option in getattr(parsed, "set_param", None) or []:
        key = option.partition("=")[0]
        values = params.read(ROOT / "params.yaml")
        for part in key.split("."):
            assert part in values, f"no {key} in params.yaml"
            values = values[part]


def _check_python(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module parse its arguments, and go no further."""
    dash, module, *arguments = words
    assert dash == "-m"
    if module not in ("pip", "pytest"):
        file = ROOT / module.replace(".", "/")
        is_package = file.is_dir()
        assert is_package or file.with_suffix(".py").exists(), f"no module {module}"
        if arguments:
            _parse(f"{module}.__main__" if is_package else module, arguments, monkeypatch)
    for word in arguments:
        if re.search(r"\w/\w", word) and not word.startswith("-"):
            assert (ROOT / word).exists() or re.match(NOT_YET, word), f"no {word}"


def _check_git(words: list[str], _: pytest.MonkeyPatch) -> None:
    command, *rest = words
    assert command in ("add", "config", "checkout", "commit", "stash")
    if command == "checkout":
        assert all((ROOT / name).exists() or name.endswith("-branch") for name in rest)


def _check_export(words: list[str], _: pytest.MonkeyPatch) -> None:
    variable = words[0].partition("=")[0]
    assert any(f'"{variable}"' in file.read_text() for file in ROOT.glob("lab/**/*.py")), f"nothing reads {variable}"


def _check_activation(words: list[str], _: pytest.MonkeyPatch) -> None:
    assert words == [".venv/bin/activate"]


def _check_pre_commit(words: list[str], _: pytest.MonkeyPatch) -> None:
    assert words == ["install"]


CHECKS = {
    "make": _check_make,
    "dvc": _check_dvc,
    "python": _check_python,
    "git": _check_git,
    "export": _check_export,
    ".": _check_activation,
    "pre-commit": _check_pre_commit,
}


class _Parsed(BaseException):
    """The arguments were accepted. No command catches it."""


def _parse(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser) -> None:
        parse(self, arguments)
        raise _Parsed

    command = import_module(module)
    assert hasattr(command, "ArgumentParser"), f"{module} takes no arguments"
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(_Parsed):
            command.main()


@cache
def targets() -> list[str]:
    return re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)


@cache
def dvc_commands() -> list[str]:
    parser = get_main_parser()
    return next(list(action.choices) for action in parser._actions if isinstance(action.choices, dict))


def run(command: str, **environment: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # What `make check` tells the make that it starts would be printed.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        command,
        shell=True,
        cwd=ROOT,
        env={**inherited, "PATH": path, **environment},
        text=True,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ).stdout


@pytest.mark.parametrize(
    "command", sorted({command for page in PAGES for command in commands_of(page) if re.fullmatch(CHEAP, command)})
)
def test_cheap_commands_run(command: str) -> None:
    assert run(command)


@paths(PAGES)
def test_cheap_commands_print_what_the_page_shows(page: Path) -> None:
    blocks = blocks_of(page)
    for block, following in pairwise(blocks):
        if block.language == "sh" and following.language == "text" and re.fullmatch(CHEAP, block.text.strip()):
            assert run(block.text) == following.text


def test_a_refusal_is_worded_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, shown = next(pair for pair in pairwise(blocks_of(ROOT / "docs/params.md")) if "refused" in pair[1].text)
    key, _, value = command.text.split()[-1].partition("=")
    values = params.read(ROOT / "params.yaml")
    assert key in values
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(json.dumps({**values, key: value}))
    with pytest.raises(ValueError) as refusal:
        check.check_files()
    assert str(refusal.value) == shown.text.strip()


def test_the_optimizer_that_is_shown_is_accepted() -> None:
    block = next(block for block in blocks_of(ROOT / "docs/extending.md") if block.language == "yaml")
    lines = [line for line in block.text.splitlines() if not line.startswith("#")]
    assert len(lines) == 4, "the README says four lines"
    values = params.read(ROOT / "params.yaml")
    values["optimizers"] |= params.parse("\n".join(lines))
    check.check({**values, "optim": "nadam"})


def test_the_strategy_that_is_shown_ranks_by_uncertainty() -> None:
    block = next(block for block in blocks_of(ROOT / "docs/extending.md") if "entropy" in block.text)
    names: dict = {}
    exec(block.text, names)
    logits = np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [3.0, 3.0, 0.0]], dtype=np.float32)
    none, draw = np.empty(0, np.int64), np.random.default_rng(0)
    query = Query(
        3,
        np.arange(3),
        none,
        none,
        lambda images, outputs: Predictions(logits[images], None),
        lambda: (logits, logits[0]),
        draw,
        pd.DataFrame,
        lambda images: images,
    )
    assert names["choose"](query).positions.tolist() == [1, 2, 0]
    assert names["PREDICTS_POOL"]
    assert block.text == (ROOT / "lab/query/strategies/entropy.py").read_text()


def test_the_table_of_strategies_is_the_benchmark_s() -> None:
    written = (ROOT / "bench/results/strategies.md").read_text()
    (table,) = re.findall(r"(?:^\|.*\n)+", written, re.M)
    assert table in (ROOT / "docs/strategies.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert rows == choices.names("query/strategies")


def test_the_network_that_is_shown_is_the_one_that_is_shipped() -> None:
    block = next(block for block in blocks_of(ROOT / "docs/extending.md") if "def build" in block.text)
    assert block.text == (ROOT / "lab/model/architectures/resnet18.py").read_text()


def test_the_data_set_that_is_shown_reads_arrays(tmp_path: Path) -> None:
    block = next(block for block in blocks_of(ROOT / "docs/extending.md") if "leaves.py" in block.text)
    names: dict = {}
    exec(block.text, names)
    names["SOURCE"] = tmp_path / "leaves"
    names["SOURCE"].mkdir()
    pixels = np.arange(2, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)
    for split in ("train", "test"):
        np.savez(names["SOURCE"] / f"{split}.npz", images=pixels, labels=[1, 0])
    (names["SOURCE"] / "classes.txt").write_text("ash oak")
    names["fetch"](tmp_path / "raw", Host())
    dataset = names["read"](tmp_path / "raw", Host())
    assert dataset.classes == ["ash", "oak"]
    for split in (dataset.train, dataset.test):
        assert split.labels.tolist() == [1, 0]
        np.testing.assert_array_equal(split.images, pixels)
    assert {"TRAINING_IMAGES", "TEST_IMAGES", "PIXELS"} <= set(names), "the check and the estimates read them"


@paths([ROOT / "docs/extending.md", ROOT / "docs/own_images.md"])
def test_the_data_sets_that_are_shown_are_accepted(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = check.choices.names
    monkeypatch.setattr(check.choices, "names", lambda folder: [*listed(folder), "leaves"])
    shown = [block.text for block in blocks_of(page) if block.language == "yaml" and "under datasets" in block.text]
    assert shown
    for text in shown:
        values = params.read(ROOT / "params.yaml")
        check.check({**values, "datasets": {**values["datasets"], **params.parse(text)}})


def test_the_figure_that_is_shown_is_drawn() -> None:
    block = next(block for block in blocks_of(ROOT / "docs/extending.md") if "Chart(" in block.text)
    ((_, chart),) = eval(block.text, {"Chart": figures.Chart}).items()
    figure = figures.draw(chart, figures._in_order(tidy_of({"resnet18-sgd": [0.4, 0.5]})))
    assert figure is not None
    figure.canvas.draw()
    assert not any("%" in label.get_text() for label in figure.axes[0].get_yticklabels())


def test_every_file_of_a_report_is_listed(tmp_path: Path) -> None:
    report.write(tidy_of({"resnet18-sgd": [0.4, 0.5], "resnet18-adam": [0.3, 0.4]}), 6, tmp_path)
    page = (ROOT / "docs/studies.md").read_text()
    for file in tmp_path.iterdir():
        assert f"`{file.stem if file.suffix in ('.png', '.svg') else file.name}`" in page, file.name


def test_every_target_of_make_is_printed_by_make() -> None:
    printed = re.findall(r"^  ([a-z]+) ", run("make"), re.M)
    assert printed == [name for name in targets() if name != "help"]


def test_every_param_has_a_row() -> None:
    page = (ROOT / "docs/params.md").read_text()
    values = params.read(ROOT / "params.yaml")
    named = [key for key in values if key not in check.BLOCKS.values()]
    for block in (values["schedules"], values["initialisations"]):
        named += [key for settings in block.values() for key in settings]
    for protocol in values["protocols"].values():
        for key, value in protocol.items():
            named += [f"{key}.{name}" for name in value] if isinstance(value, dict) else [key]
    assert [name for name in dict.fromkeys(named) if not re.search(rf"`(\S+\.)?{name}`", page)] == []


def test_every_environment_variable_has_a_row() -> None:
    page = (ROOT / "docs/params.md").read_text()
    read = {
        name for file in ROOT.glob("lab/**/*.py") for name in re.findall(r'"(AL_LAB_[A-Z0-9_]+)"', file.read_text())
    }
    for_stages = {"AL_LAB_KEPT_PARAMS"}  # the laboratory sets it, and nobody else
    assert [name for name in sorted(read - for_stages) if f"| `{name}` |" not in page] == []


def test_every_protocol_has_a_row_with_its_figures() -> None:
    page = (ROOT / "docs/protocols.md").read_text()
    values = params.read(ROOT / "params.yaml")
    for name, protocol in values["protocols"].items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        first, training = protocol["cold_start"], protocol["training"]
        last = sum(sizes.acquired(first, protocol["query"]["labels"], len(values["cycles"])))
        assert f", {protocol['width']} | {first:,} … {last:,} | {training['epochs']}, {training['batch_size']} |" in row
        subset = protocol["query"]["pool_subset"]
        assert ("the whole pool" if subset is None else f"a random {subset:,}") in row
