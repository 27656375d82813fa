"""dvc.yaml tells the truth: each stage's code deps and params are what its code imports and reads."""

import ast
import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from lab.process.check import BLOCKS, FILES, Params
from tests.conftest import ROOT

STAGES = {
    name: stage.get("do", stage) for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
}


# A choice among the files of a folder of lab: the param that chooses, as dvc.yaml names the file.
CHOICES = {folder: f"${{{key}}}" for key, folder in FILES.items()}


def module_of(stage: dict) -> Path:
    """The file of the module that the stage's command runs, after the check."""
    return Path("stages") / (re.match(r"exec python -m lab.process.launch (\w+)", stage["cmd"])[1] + ".py")


def imports_of(file: Path) -> set[Path]:
    """The project's files that a file imports, wherever in it the import stands.

    A chosen file is named as in dvc.yaml, with its param; it imports what any file of its folder imports.
    """
    if file.stem in CHOICES.values():
        return set().union(*(imports_of(choice) for choice in files_of(file.parent)))
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import module` names the module after `import`
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "choices.load":
            folder = node.args[0].value
            # Of a folder from which a block chooses, DVC knows the whole.
            found |= (
                {Path("lab", folder, f"{CHOICES[folder]}.py")}
                if folder in CHOICES
                else set(files_of(Path("lab", folder)))
            )
        paths = (Path(name.replace(".", "/") + ".py") for name in names)
        found |= {path for path in paths if (ROOT / path).is_file()}
    return found


def files_of(folder: Path) -> list[Path]:
    return sorted(file.relative_to(ROOT) for file in (ROOT / folder).rglob("*.py"))


def reached_from(file: Path) -> set[Path]:
    reached, waiting = set(), {file}
    while waiting:
        file = waiting.pop()
        reached.add(file)
        waiting |= imports_of(file) - reached
    return reached


def params_read_by(file: Path) -> set[str]:
    """The keys in the file's calls of params.load, and the params that stand in for parts of them."""
    if file.stem in CHOICES.values():
        return set().union(*(params_read_by(choice) for choice in files_of(file.parent)))
    keys = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load":
            keys |= {keyword.value.value for keyword in node.keywords}
    keys |= {name for key in keys for name in re.findall(r"{(\w+)}", key)}
    return {key.replace("{", "${") for key in keys}


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_modules_imported(name: str) -> None:
    deps = [Path(dep) for dep in STAGES[name]["deps"] if dep.startswith(("stages/", "lab/"))]
    code = list(chain.from_iterable(files_of(dep) if (ROOT / dep).is_dir() else [dep] for dep in deps))
    assert sorted(code) == sorted(reached_from(module_of(STAGES[name])))


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keys_read(name: str) -> None:
    read = set().union(*(params_read_by(file) for file in reached_from(module_of(STAGES[name]))))
    # The check reads none: it runs again where what is chosen at the top changes, and launch checks that.
    expected = {*Params.model_fields} - {*BLOCKS.values()} if name == "check" else read
    assert sorted(STAGES[name].get("params", [])) == sorted(expected)


def test_a_cycle_and_its_network_read_params_in_one_place() -> None:
    reading = {
        name: {file for file in reached_from(module_of(STAGES[name])) if params_read_by(file)} for name in STAGES
    }
    assert reading.pop("cycle") == reading.pop("network") == {Path("lab/training/of_cycle.py")}
    for name, files in reading.items():
        assert files <= {module_of(STAGES[name])}, "only the stage's own module reads params"


@pytest.mark.parametrize("name", STAGES)
def test_how_a_stage_is_run_retrains_nothing(name: str) -> None:
    folders = {file.parts[:2] for file in reached_from(module_of(STAGES[name]))}
    assert not folders & {("lab", "process"), ("lab", "study")}
    assert (("lab", "report") in folders) == (name == "plot")


def test_code_that_computes_knows_no_process() -> None:
    above = (
        "lab/process/",
        "lab/study/",
        "lab/report/",
        "lab/campaign/",
        "lab/carry.py",
        "lab/verify.py",
        "lab/replay.py",
    )
    for file in [*files_of(Path("stages")), *files_of(Path("lab"))]:
        if not file.as_posix().startswith(above):
            assert not [path for path in imports_of(file) if path.as_posix().startswith("lab/process")], file


def test_the_walk_sees_nested_and_indirect_imports_and_choices() -> None:
    reached = reached_from(Path("stages/cycle.py"))
    assert Path("lab/model/loss_prediction.py") in imports_of(Path("lab/training/train.py"))
    assert {Path("lab/model/loss_prediction.py"), Path("lab/data/dataset.py")} <= reached
    chosen = {Path("lab/model/architectures/${arch}.py"), Path("lab/query/strategies/${strategy}.py")}
    assert chosen <= reached
    assert not [file for file in reached if file.parent.name == "architectures"][1:], "no other architecture"
    assert Path("lab/model/resnet.py") in imports_of(Path("lab/model/architectures/${arch}.py"))
    assert Path("lab/report/figures.py") not in reached


def test_every_namespace_package_stays_without_init() -> None:
    # An __init__.py would be imported with its package, unseen by the walk above.
    assert not [file for folder in ("stages", "lab") for file in (ROOT / folder).rglob("__init__.py")]


def test_stage_names() -> None:
    listed = subprocess.check_output(["dvc", "stage", "list", "--name-only"], cwd=ROOT, text=True)
    assert listed.split() == [
        "check",
        "download",
        "prepare",
        "cold_start",
        "replay",
        "answers",
        *(f"cycle@{number}" for number in range(10)),
        "summarise",
        "plot",
    ]
