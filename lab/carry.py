"""Carry the laboratory to a machine without internet: python -m lab.carry FOLDER [--python 3.12] [--there FREEZE]

Writes parts of less than 16 MB, to upload anywhere: this repository's commit as a Git bundle, the wheels of
requirements.txt that are missing there, and an archive of CIFAR-10. There, ``sh set_up.sh`` does the rest. Wheels are
those for this machine's kind of processor and system.
"""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tarfile
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.data.files import write_bytes, write_text
from lab.errors import BadInput
from lab.process import ending
from lab.study.experiments import git

PART = 15_000_000  # bytes
SET_UP = """\
#!/bin/sh
# Set the laboratory up without internet: sh set_up.sh [FOLDER]. Packages go to the Python that `python` names.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-active-learning-laboratory}
[ ! -e "$folder" ] || { echo "error: $folder is there already: name another" >&2; exit 1; }
(cd "$here" && sha256sum --check --quiet SHA256SUMS)
mkdir -p "$folder.carried"
cat "$here"/part-* | tar -x -C "$folder.carried"
for wheel in "$folder.carried"/wheels/*.whl; do
  # Without their dependencies, which are there or among these.
  [ ! -e "$wheel" ] || python -m pip install --quiet --no-index --no-deps "$wheel"
done
git clone --quiet "$folder.carried/repository.bundle" "$folder"
for archive in "$folder.carried"/data/*; do
  [ ! -e "$archive" ] || echo "export AL_LAB_CIFAR10=$(realpath "$archive")"
done
echo "cd $folder"
"""


def main() -> None:
    parser = ArgumentParser(description="Carry the laboratory to a machine without internet.")
    parser.add_argument("folder", type=Path, help="where to write the parts")
    parser.add_argument("--python", default=platform.python_version(), help="the version of Python there")
    parser.add_argument("--there", type=Path, help="what `pip freeze` prints there; those packages are not carried")
    parser.add_argument("--data", type=Path, help="an archive of CIFAR-10 to carry")
    arguments = parser.parse_args()
    there = _versions(arguments.there.read_text()) if arguments.there else {}
    if arguments.folder.exists():
        raise BadInput(f"{arguments.folder}: is there already; name another folder")
    if arguments.data and not arguments.data.is_file():
        raise BadInput(f"{arguments.data}: no archive; name a file such as cifar-10-python.tar.gz")
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        git("bundle", "create", "--quiet", str(work / "repository.bundle"), "HEAD")
        wheels = _download(Path("requirements.txt").read_text(), there, arguments.python, work)
        archive = work / "all.tar"
        with tarfile.open(archive, "w") as file:
            file.add(work / "repository.bundle", "repository.bundle")
            file.add(work / "wheels", "wheels")
            if arguments.data:
                file.add(arguments.data, f"data/{arguments.data.name}")
        count = _write_parts(archive, arguments.folder)
    print(f"{arguments.folder}: {count} parts with {wheels} wheels; take all of it there, and run: sh set_up.sh")


def _versions(freeze: str) -> dict[str, str]:
    """Version by package, as ``pip freeze`` prints them; empty for one from elsewhere than an index."""
    found = re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?(?:==([^+\s;]+)| @ )", freeze, re.M)
    return {_plain(name): version for name, version in found}


def _download(requirements: str, there: dict[str, str], python: str, work: Path) -> int:
    """Download into ``wheels`` what requirements need and is not there. Returns how many wheels."""
    wheels = work / "wheels"
    wheels.mkdir()
    wanted = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    missing = [line for line in wanted if _plain(re.split(r"[\[=<>~!; ]", line)[0]) not in there]
    if not missing:
        return 0
    given = work / "there.txt"
    given.write_text("".join(f"{name}=={version}\n" for name, version in there.items() if version))
    options = ["--quiet", "--only-binary=:all:", f"--python-version={python}"]
    # First what these need, so that nothing is downloaded that is there: PyTorch alone has gigabytes.
    report, target = work / "report.json", work / "nowhere"
    resolve = ["install", "--dry-run", "--ignore-installed", f"--report={report}", f"--target={target}"]
    _pip(*resolve, *options, f"--constraint={given}", *missing)
    chosen = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = [f"{item['name']}=={item['version']}" for item in chosen if _plain(item["name"]) not in there]
    _pip("download", "--no-deps", f"--dest={wheels}", *options, *pins)
    return len(list(wheels.iterdir()))


def _pip(*arguments: str) -> None:
    if subprocess.run([sys.executable, "-m", "pip", *arguments]).returncode:
        raise BadInput("pip finds no wheels that go together; see above")


def _write_parts(archive: Path, folder: Path) -> int:
    """Write an archive in parts, with their hashes and the script that sets it up. Returns how many parts."""
    sums: list[str] = []
    with open(archive, "rb") as file:
        while content := file.read(PART):
            name = f"part-{len(sums):04}"
            write_bytes(folder / name, content)
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    write_text(folder / "SHA256SUMS", "".join(sums))
    write_text(folder / "set_up.sh", SET_UP)
    return len(sums)


def _plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    ending.run(main)
