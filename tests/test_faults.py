"""What can go wrong, really done: processes killed, disks filled, files corrupted.

Each fault happens to a copy of one finished run whose seed is then changed: its two cycles must be computed
anew, through the fault, with the results of a run that nothing happened to.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import product
from pathlib import Path

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lab.cycles import setting
from lab.process import ending
from tests.conftest import RESULTS_OF_TWO_CYCLES, Clone

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sys.platform != "linux", reason="kills and mounts as on Linux")]


def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode == 0
        return mounted and subprocess.run(["umount", folder]).returncode == 0


can_mount = pytest.mark.skipif(not may_mount(), reason="mounting a small file system needs root and its permission")

# Long enough to be killed in the middle: some seconds a cycle.
SLOW = {"protocol": "demo", "dataset": "digits", "protocols.demo.width": 4, "protocols.demo.training.epochs": 60}
SETTINGS = [word for key, value in SLOW.items() for word in ("-S", f"{key}={value}")] + ["-S", setting(2)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A finished run with seed 0."""
    clone = Clone(tmp_path_factory.mktemp("finished"))
    clone("dvc", "exp", "run", "--quiet", *SETTINGS)
    return clone


@pytest.fixture(scope="module")
def unbroken(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results with seed 1 of a run that nothing happens to."""
    clone = copy_of(finished, tmp_path_factory.mktemp("unbroken"))
    clone("dvc", "repro")
    assert set(clone.results()) == RESULTS_OF_TWO_CYCLES
    return clone.results()


@pytest.fixture
def clone(finished: Clone, tmp_path: Path) -> Clone:
    """A copy of the finished run, cache and all, that is to run with seed 1."""
    return copy_of(finished, tmp_path)


def copy_of(clone: Clone, folder: Path) -> Clone:
    other = copy(clone)
    other.folder = folder / "clone"
    shutil.copytree(clone.folder, other.folder, symlinks=True)
    params = other.folder / "params.yaml"
    params.write_text(params.read_text().replace("\nseed: 0", "\nseed: 1"))
    return other


@contextmanager
def running(clone: Clone, until: str) -> Iterator[subprocess.Popen]:
    """`dvc repro` once it has printed a text, and then saved a checkpoint."""
    with clone.start() as process:
        while until not in (line := process.stdout.readline()):
            assert line, f"it ended before {until!r}"
        deadline = time.monotonic() + 120
        while not checkpoints(clone):
            assert time.monotonic() < deadline, "no checkpoint was saved"
            time.sleep(0.01)
        yield process


def checkpoints(clone: Clone) -> list[Path]:
    return sorted((clone.folder / "scratch").glob("cycle-*.pt"))


def stages_of(clone: Clone) -> list[psutil.Process]:
    """Processes at work in the folder of a clone."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == clone.folder:
                found.append(process)
        except psutil.Error:
            continue
    return found


def goes_on_to(clone: Clone, expected: dict[str, str], *, from_checkpoint: bool = True) -> str:
    """Run again: it must end with the results expected and no checkpoint left."""
    log = clone("dvc", "repro")
    assert ("going on from the checkpoint" in log) == from_checkpoint, log
    assert clone.results() == expected
    assert checkpoints(clone) == []
    return log


def test_sigkill_of_dvc_and_stage(clone: Clone, unbroken: dict) -> None:
    with running(clone, until="launch cycle 1") as process:
        os.killpg(process.pid, signal.SIGKILL)
    log = goes_on_to(clone, unbroken)
    assert "Running stage 'cycle@0'" not in log, "cycle 0 is finished"
    assert "Running stage" not in clone("dvc", "repro"), "all is done"


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_sigkill_of_dvc_alone_leaves_no_orphan(clone: Clone, unbroken: dict, shell: str) -> None:
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    # DVC runs commands with this shell, and some shells stay between it and even the last command.
    clone.environment = {**clone.environment, "SHELL": shell}
    with running(clone, until="launch cycle 0") as process:
        process.kill()
        process.wait()
        goes_on_to(clone, unbroken)  # at once, beside what is left of the first run
        assert "stopped by SIGTERM: training is kept" in process.stdout.read()
    assert stages_of(clone) == []


def test_sigkill_of_the_stage_alone(clone: Clone, unbroken: dict) -> None:
    with running(clone, until="launch cycle 0") as process:
        # The launcher waits for a process that waits for the stage; the warm process may have forked both.
        at_work = [p for p in stages_of(clone) if "lab.process.launch" in p.cmdline()]
        next(p for p in at_work if not p.children() and p.ppid() not in (1, process.pid)).kill()
        printed = process.stdout.read()
    assert process.returncode != 0
    assert "error: the stage was killed (SIGKILL)" in printed
    assert "training.batch_size" in printed
    goes_on_to(clone, unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_keeps_what_is_trained(clone: Clone, unbroken: dict, number: signal.Signals) -> None:
    with running(clone, until="launch cycle 0") as process:
        os.killpg(process.pid, number)
        printed = process.stdout.read()
    assert process.returncode != 0
    assert f"error: stopped by {number.name}: training is kept in" in printed
    assert "Traceback" not in printed
    goes_on_to(clone, unbroken)


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_bad_checkpoint_is_ignored(clone: Clone, unbroken: dict, damage: str) -> None:
    with running(clone, until="launch cycle 0") as process:
        os.killpg(process.pid, signal.SIGKILL)
    (file,) = checkpoints(clone)
    content = file.read_bytes()
    if damage == "foreign":
        # That of another seed, under this one's name.
        params = clone.folder / "params.yaml"
        params.write_text(params.read_text().replace("\nseed: 1", "\nseed: 2"))
        file.unlink()
        with running(clone, until="launch cycle 0") as process:
            os.killpg(process.pid, signal.SIGKILL)
        params.write_text(params.read_text().replace("\nseed: 2", "\nseed: 1"))
        checkpoints(clone)[0].rename(file)
    else:
        file.write_bytes(content[:-100])
    reason = "belongs to another training" if damage == "foreign" else "is truncated or damaged"
    log = goes_on_to(clone, unbroken, from_checkpoint=False)
    assert f"{file.relative_to(clone.folder)} is ignored" in log.replace(f"{clone.folder}/", "")
    assert reason in log


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)


@can_mount
def test_a_full_cache_is_an_error_and_the_run_completes_later(finished: Clone, tmp_path: Path) -> None:
    fresh = Clone(tmp_path)
    shutil.copyfile(finished.folder / "params.yaml", fresh.folder / "params.yaml")
    with small_disk(tmp_path / "cache", megabytes=3) as disk:
        fresh("dvc", "cache", "dir", "--local", str(disk))
        printed = fresh("dvc", "exp", "run", "--name", "full", fails=True)
        assert f"the disk of DVC's cache ({disk}" in printed
        assert "free some and run again" in printed
        assert "full" not in fresh("dvc", "exp", "list", "--name-only").split(), "nothing is published"
        make_room(disk)
        fresh("dvc", "repro")
        assert fresh.results() == finished.results()
        assert "all are intact" in fresh("python", "-m", "lab.verify")


@can_mount
def test_a_full_workspace_is_an_error_and_the_run_completes_later(finished: Clone, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=64) as disk:
        fresh = Clone(disk)
        fresh("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
        # Room for the raw data, and not for the arrays.
        left = shutil.disk_usage(disk).used // 2**10 + 2_000
        subprocess.run(["mount", "-o", f"remount,size={left}k", disk], check=True)
        shutil.copyfile(finished.folder / "params.yaml", fresh.folder / "params.yaml")
        printed = fresh("dvc", "repro", fails=True)
        assert "no space left on the disk of" in printed
        assert "Traceback" not in printed
        make_room(disk)
        fresh("dvc", "repro")
        assert fresh.results() == finished.results()


def flip_a_byte(clone: Clone, output: str) -> None:
    """Change the cached object of an output, behind the mode that DVC trusts."""
    lock = yaml.safe_load(clone.read("dvc.lock"))["stages"].values()
    name = next(out["md5"] for stage in lock for out in stage.get("outs", []) if out["path"] == output)
    file = clone.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(0o444)


def repairs(printed: str) -> list[str]:
    return [line.partition("repair: ")[2] for line in printed.splitlines() if "repair: " in line]


def test_a_flipped_byte_in_the_cache_is_found_and_repaired(clone: Clone) -> None:
    clone("git", "checkout", "--quiet", "params.yaml")
    clone("dvc", "exp", "run", "--quiet", "--name", "kept", *SETTINGS)
    before = clone.output_hashes()
    for output in ("data/labelled/1.csv", "metrics/history/1.json"):
        flip_a_byte(clone, output)
    assert "up to date" in clone("dvc", "status"), "DVC trusts them"
    printed = clone("python", "-m", "lab.verify", "kept", fails=True)
    for revision, output in product(("workspace", "kept"), ("data/labelled/1.csv", "metrics/history/1.json")):
        assert f"{revision}: {output} was changed in the cache" in printed
    for repair in repairs(printed):
        clone("sh", "-c", repair)
    assert "all are intact" in clone("python", "-m", "lab.verify", "kept")
    assert clone.output_hashes() == before, "the copies in the workspace were right"

    # Nowhere else is a copy: it is computed again, in the workspace or for the experiment alone.
    before = clone.results()
    for revision in ("workspace", "kept"):
        (clone.folder / "data/labelled/1.csv").unlink()
        flip_a_byte(clone, "data/labelled/1.csv")
        here, there = repairs(clone("python", "-m", "lab.verify", "kept", fails=True))
        assert "git worktree" in there
        assert "git worktree" not in here
        clone("sh", "-c", here if revision == "workspace" else there)
        assert "all are intact" in clone("python", "-m", "lab.verify", "kept")
        assert clone.results() == before


def test_runs_from_different_first_sets_are_told_apart(clone: Clone) -> None:
    clone("git", "checkout", "--quiet", "params.yaml")
    clone("dvc", "exp", "run", "--quiet", "--name", "one", *SETTINGS)
    clone("dvc", "exp", "run", "--quiet", "--name", "other", "-S", "cold_start_seed=1", "-S", setting(1))
    printed = clone("python", "-m", "lab.verify", "one", "other", fails=True)
    assert "the first labelled sets differ, so that these runs cannot be compared: one " in printed
    assert "all are intact" in clone("python", "-m", "lab.verify", "one")


@pytest.mark.parametrize("seed", range(10))
def test_kills_at_any_moment_leave_the_results_as_they_are(clone: Clone, unbroken: dict, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(draw.choice([1, 2, 3])):
        with clone.start() as process:
            # Random moments are the point: no event marks where a kill could hurt.
            time.sleep(draw.uniform(0.2, 6))
            os.killpg(process.pid, signal.SIGKILL)
    # DVC writes dvc.lock and its own lock in place. A kill in that moment leaves half of one, and docs/faults.md gives
    # the cure.
    if "dvc.lock" in clone("sh", "-c", "dvc status 2>&1 || true"):
        clone("git", "checkout", "--quiet", "dvc.lock")
    lock = clone.folder / ".dvc/tmp/rwlock"
    try:
        json.loads(lock.read_text()) if lock.exists() else {}
    except ValueError:
        assert str(lock.relative_to(clone.folder)) in clone("dvc", "repro", fails=True)
        lock.unlink()
    clone("dvc", "repro")
    assert clone.results() == unbroken
    assert checkpoints(clone) == []
    assert "all are intact" in clone("python", "-m", "lab.verify")


def test_a_stale_lock_of_dvc_is_passed(clone: Clone, unbroken: dict) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock = {"write": {str(clone.folder / "data/labelled/1.csv"): {"pid": gone.pid, "cmd": "dvc repro"}}, "read": {}}
    (clone.folder / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    (clone.folder / ".dvc/tmp/lock").write_text("")
    goes_on_to(clone, unbroken, from_checkpoint=False)


def test_a_corrupt_lock_of_dvc_is_named(clone: Clone, unbroken: dict) -> None:
    lock = clone.folder / ".dvc/tmp/rwlock"
    lock.write_text('{"data/labe')
    assert str(lock.relative_to(clone.folder)) in clone("dvc", "repro", fails=True)
    lock.unlink()
    goes_on_to(clone, unbroken, from_checkpoint=False)


def test_half_a_lock_file_is_named_and_loses_nothing(clone: Clone, unbroken: dict) -> None:
    with running(clone, until="launch cycle 1") as process:
        os.killpg(process.pid, signal.SIGKILL)
    (clone.folder / "dvc.lock").write_text("schema: '2.0'\nstages:\n  check:\n")
    assert "'./dvc.lock' validation failed." in clone("dvc", "repro", fails=True)
    clone("git", "checkout", "--quiet", "dvc.lock")
    log = goes_on_to(clone, unbroken)
    assert "Running stage 'cycle@0'" not in log, "cycle 0 is finished"


def test_two_runs_at_once_end_as_one(clone: Clone, unbroken: dict) -> None:
    with running(clone, until="launch cycle 0") as first:
        second = clone.start()
        printed = [process.communicate()[0] for process in (second, first)]
    assert 0 in (first.returncode, second.returncode), printed
    goes_on_to(clone, unbroken, from_checkpoint=False)


@pytest.mark.parametrize("archive", ["truncated", "no archive"])
def test_a_bad_archive_touches_nothing(clone: Clone, tmp_path: Path, archive: str) -> None:
    source = tmp_path / "cifar-10-python.tar.gz"
    content = subprocess.run(["tar", "cz", "-C", str(clone.folder), "stages"], stdout=subprocess.PIPE).stdout
    source.write_bytes(content[: len(content) // 2] if archive == "truncated" else b"no archive" * 100)
    clone.environment = {**clone.environment, "AL_LAB_CIFAR10": str(source)}
    before = clone.output_hashes()
    printed = clone("dvc", "exp", "run", "-S", "protocol=cpu", "-S", "dataset=cifar10", fails=True)
    assert f"error: {source}: broken or truncated" in printed
    assert clone.output_hashes() == before


def test_lack_of_memory_names_what_to_change(clone: Clone) -> None:
    printed = clone("dvc", "exp", "run", "-S", "protocols.demo.width=300000", fails=True)
    assert "error: out of memory in cycle 0, with protocols.demo.training.batch_size = 32" in printed
    assert "finished cycles are kept" in printed


# A value that is right nowhere: no number, no name, no list of numbers.
NONSENSE = st.one_of(
    st.just(-1),
    st.just(float("nan")),
    st.just(float("inf")),
    st.text("xyz", min_size=1, max_size=5),
    st.just([]),
    st.just({"unknown": 1}),
)


FREE = ("path", "separator", "image", "label")


def leaves(values: object, path: tuple = ()) -> Iterator[tuple]:
    """The keys of all values of params.yaml that are no mapping, as paths."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    elif path[0] != "cycles":
        yield path


def times_of_outputs(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for name in ending.OUTPUTS for file in (folder / name).rglob("*")}


PARAMS = yaml.safe_load((Path(__file__).parent.parent / "params.yaml").read_text())


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(sorted(leaves(PARAMS))), value=NONSENSE)
def test_bad_params_are_refused_and_touch_nothing(finished: Clone, path: tuple, value: object) -> None:
    params = yaml.safe_load((finished.folder / "params.yaml").read_text())
    block = params
    for key in path[:-1]:
        block = block[key]
    # A path, a separator and the names of columns can be any text; tests/test_own_images.py has what is refused.
    assume(block[path[-1]] != value and not (path[0] == "datasets" and path[-1] in FREE and isinstance(value, str)))
    block[path[-1]] = value
    folder = finished.folder.parent / "bad"
    if not folder.exists():
        shutil.copytree(finished.folder, folder, symlinks=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    before = times_of_outputs(folder)
    done = subprocess.run(
        [sys.executable, "-m", "lab.process.launch", "check"],
        cwd=folder,
        env=finished.environment,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert ".".join(path) in done.stderr
    assert times_of_outputs(folder) == before
