"""dvc.yaml tells the truth: each stage's code deps and params are what its code imports and reads."""

import ast
import re
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
STAGES = {
    name: stage.get("do", stage) for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
}


def module_of(stage: dict) -> Path:
    """The file of the module that the stage's command runs, after the check."""
    return Path("stages") / (re.match(r"exec python -m lab.process.launch (\w+)", stage["cmd"])[1] + ".py")


def imports_of(file: Path) -> set[Path]:
    """The project's files that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import module` names the module after `import`
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        paths = (Path(name.replace(".", "/") + ".py") for name in names)
        found |= {path for path in paths if (ROOT / path).is_file()}
    return found


def reached_from(file: Path) -> set[Path]:
    reached, waiting = set(), {file}
    while waiting:
        file = waiting.pop()
        reached.add(file)
        waiting |= imports_of(file) - reached
    return reached


def params_read_by(file: Path) -> set[str]:
    """The keys in the file's calls of params.load, and the params that stand in for parts of them."""
    keys = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.load":
            keys |= {keyword.value.value for keyword in node.keywords}
    keys |= {name for key in keys for name in re.findall(r"{(\w+)}", key)}
    return {key.replace("{", "${") for key in keys}


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_modules_imported(name: str) -> None:
    deps = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("stages/")]
    files = chain.from_iterable(dep.rglob("*.py") if dep.is_dir() else [dep] for dep in deps)
    code = {file.relative_to(ROOT) for file in files}
    assert code == reached_from(module_of(STAGES[name]))


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keys_read(name: str) -> None:
    reading = {file for file in reached_from(module_of(STAGES[name])) if params_read_by(file)}
    assert reading <= {module_of(STAGES[name])}, "only the stage's own module reads params"
    assert sorted(STAGES[name].get("params", [])) == sorted(params_read_by(module_of(STAGES[name])))


def test_the_walk_sees_nested_and_indirect_imports() -> None:
    reached = reached_from(Path("stages/cycle.py"))
    assert Path("stages/model/loss_prediction.py") in imports_of(Path("stages/training/train.py"))
    assert {Path("stages/model/loss_prediction.py"), Path("stages/data/dataset.py")} <= reached
    assert Path("stages/report/figures.py") not in reached


def test_every_namespace_package_stays_without_init() -> None:
    # An __init__.py would be imported with its package, unseen by the walk above.
    assert not list((ROOT / "stages").rglob("__init__.py"))


def test_stage_names() -> None:
    listed = subprocess.check_output(["dvc", "stage", "list", "--name-only"], cwd=ROOT, text=True)
    assert listed.split() == [
        "download",
        "prepare",
        "cold_start",
        *(f"cycle@{number}" for number in range(10)),
        "summarise",
        "plot",
    ]
