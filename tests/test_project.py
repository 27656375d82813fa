"""The files that describe the project agree with each other and with what the code imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lab import params

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"stages", "lab", "bench", "tests"}
# What pinned packages bring with them.
BROUGHT = {"boto3", "botocore", "dvc-data", "dvc-render", "packaging", "pillow", "pydantic_core", "requests"}


def pins(file: str) -> dict[str, str]:
    """Version by package, as the file pins it."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", line) for line in lines]
    assert all(found), "every line is a pin"
    return {match[1].lower(): match[2] for match in found}


def imported_by(*folders: str) -> set[str]:
    """The packages that the code in some folders imports, beside Python's own and ours."""
    names = set()
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    top = {name.partition(".")[0] for name in names} - OURS - sys.stdlib_module_names
    known = packages_distributions()
    return {
        next((dist for dist in known[name] if dist.lower().startswith(name)), known[name][0]).lower() for name in top
    }


def test_what_the_laboratory_imports_is_pinned() -> None:
    compared_with = {"scikit-activeml"}  # in one benchmark alone
    assert imported_by("stages", "lab", "bench") - BROUGHT - compared_with <= pins("requirements.txt").keys()
    assert not imported_by("stages", "lab") & compared_with


def test_what_tests_import_is_pinned() -> None:
    assert imported_by("tests") - BROUGHT <= pins("requirements.txt").keys() | pins("requirements-dev.txt").keys()


def test_nothing_is_pinned_twice() -> None:
    assert not pins("requirements.txt").keys() & pins("requirements-dev.txt").keys()


def test_the_metadata_names_the_packages_that_are_pinned() -> None:
    extras = PROJECT["optional-dependencies"]
    run_time = requirements([*PROJECT["dependencies"], *extras["storage"]])
    assert run_time.keys() == pins("requirements.txt").keys()
    assert requirements(extras["development"]).keys() == pins("requirements-dev.txt").keys()


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {Requirement(line).name.lower(): Requirement(line) for line in lines}


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["development"]])
def test_pins_lie_within_the_metadata(line: str) -> None:
    requirement = Requirement(line)
    version = {**pins("requirements.txt"), **pins("requirements-dev.txt")}[requirement.name.lower()]
    assert requirement.specifier.contains(version)


def test_the_licence_is_the_same_everywhere() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0" == params.read(ROOT / "CITATION.cff")["license"]


def test_the_workflow_runs_the_gate() -> None:
    steps = params.read(ROOT / ".github/workflows/gate.yml")["jobs"]["gate"]["steps"]
    assert steps[-1] == {"run": ".ci/run"}


def test_one_file_reads_yaml() -> None:
    # Another reader could see other values in the same file.
    files = [path for folder in ("stages", "lab", "bench") for path in (ROOT / folder).rglob("*.py")]
    readers = [
        path for path in files if re.search(r"^\s*(from|import) (yaml|ruamel)\b", path.read_text(), re.MULTILINE)
    ]
    # The other one writes what it read, comments and all.
    assert sorted(readers) == [ROOT / "lab/params.py", ROOT / "lab/rewrite.py"]
