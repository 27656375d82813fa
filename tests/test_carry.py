"""What is carried to a machine without internet, from an index that is a folder of made-up wheels."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lab import carry
from lab.errors import BadInput


def write_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    about = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {n}" for n in requires)]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{about}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose requirements are in an index of this machine alone."""
    index, folder = tmp_path / "index", tmp_path / "repository"
    index.mkdir()
    folder.mkdir()
    write_wheel(index, "direct_one", "1.0", "indirect>=1")
    write_wheel(index, "indirect", "1.5", "large-one==2.0")
    for version in ("2.0", "3.0"):
        write_wheel(index, "large_one", version)
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.chdir(folder)
    (folder / "requirements.txt").write_text("# pins\ndirect-one==1.0\nlarge-one==3.0\n")
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "start"]):
        subprocess.run([*git, *words], check=True)
    return folder


def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "there.txt").write_text("Large_One==2.0+cu1\nanother @ file:///somewhere\n")
    (tmp_path / "cifar.tar.gz").write_bytes(os.urandom(3000))
    monkeypatch.setattr(carry, "PART", 2000)
    words = ["--there", str(tmp_path / "there.txt"), "--data", str(tmp_path / "cifar.tar.gz")]
    monkeypatch.setattr(sys, "argv", ["carry", str(tmp_path / "carried"), *words])
    carry.main()
    return tmp_path / "carried"


def set_up(folder: Path, there: Path) -> subprocess.CompletedProcess:
    # Packages go to a folder, and not to the Python that runs the tests.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PIP_TARGET": str(there / "packages"), "PATH": path}
    command = ["sh", str(folder / "set_up.sh"), "lab"]
    return subprocess.run(command, cwd=there, env=environment, text=True, capture_output=True)


def test_what_is_missing_is_carried_and_set_up(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, there = carried(tmp_path, monkeypatch), tmp_path / "there"
    there.mkdir()
    parts = sorted(folder.glob("part-*"))
    assert len(parts) > 2
    assert all(part.stat().st_size <= 2000 for part in parts)
    done = set_up(folder, there)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (there / "packages").glob("*.py")} == {"direct_one.py", "indirect.py"}
    assert (there / "lab/requirements.txt").read_text() == (repository / "requirements.txt").read_text()
    variable, archive = done.stdout.splitlines()[0].split("=")
    assert variable == "export AL_LAB_CIFAR10"
    assert Path(archive).read_bytes() == (tmp_path / "cifar.tar.gz").read_bytes()
    assert "is there already" in set_up(folder, there).stderr


def test_a_part_that_is_damaged_is_named_before_anything_is_written(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, there = carried(tmp_path, monkeypatch), tmp_path / "there"
    there.mkdir()
    (folder / "part-0001").write_bytes(b"other")
    done = set_up(folder, there)
    assert done.returncode != 0
    assert "part-0001: FAILED" in done.stdout + done.stderr
    assert list(there.iterdir()) == []


def test_wheels_that_do_not_exist_are_an_error(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "requirements.txt").write_text("absent==1.0\n")
    monkeypatch.setattr(sys, "argv", ["carry", str(tmp_path / "carried")])
    with pytest.raises(BadInput, match="pip finds no wheels"):
        carry.main()
    assert not (tmp_path / "carried").exists()
