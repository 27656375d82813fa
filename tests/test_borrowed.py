"""A study on borrowed time: stopped in time, packed, and taken over by clones that share nothing with each other."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import torch
import yaml

from lab.errors import BadInput
from lab.process.interruption import Interruption
from lab.study import __main__, pack
from lab.study.arms import Arm
from lab.study.run import arm as run_arm
from lab.study.run import folders, local, processes
from tests.conftest import Clone
from tests.test_study_run import GOOD, STUDY, names, write_study

FIRST, SECOND = GOOD
OTHER_TORCH = "2.11.0"
# Python runs this when it starts: PyTorch then says that it is another one.
PRETENCE = """
import sys
from importlib.util import spec_from_file_location

class Other:
    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, {file!r}) if name == "torch.version" else None

sys.meta_path.insert(0, Other())
"""


class Legs(NamedTuple):
    """The study as it was in each clone, and the same study run in one go. packs: of the first two. table: of all."""

    undisturbed: Clone
    clones: list[Clone]
    packs: list[Path]
    table: pd.DataFrame


def study(*words: str) -> list[str]:
    command, *rest = words
    return [sys.executable, "-m", "lab.study", command, STUDY, *rest]


def run_until(clone: Clone, is_reached: Callable[[], bool]) -> None:
    """Run the study, one arm at a time, and stop it by a signal once something has happened."""
    with subprocess.Popen(
        study("run", "--jobs", "1"), cwd=clone.folder, env=clone.environment, stdout=subprocess.DEVNULL
    ) as process:
        while not is_reached():
            assert process.poll() is None, "the study ended before"
            time.sleep(0.02)
        process.terminate()


def has_cycle(clone: Clone, name: str) -> bool:
    lock = clone.folder / f".dvc/tmp/study/toy/{name}/dvc.lock"
    return lock.exists() and "cycle@0" in lock.read_text()


def outputs(clone: Clone, name: str) -> dict[str, str]:
    """The hash of each output of an arm's experiment."""
    ref = clone("git", "for-each-ref", f"refs/exps/*/*/{name}", "--format=%(objectname)").strip()
    stages = yaml.safe_load(clone("git", "show", f"{ref}:dvc.lock"))["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}


def log_of(clone: Clone, name: str) -> str:
    return clone.read(f".dvc/tmp/study/toy/{name}.log")


@pytest.fixture(scope="module")
def legs(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Legs:
    """Three legs: stopped within the first arm, stopped within the second one, and done, under another PyTorch."""
    write_study(clone, [0.1, 0.05], epochs=3, count=2)
    clone("git", "add", "--all")
    clone("git", "commit", "--quiet", "-m", "a study")
    clones = [clone.beside(name) for name in ("first", "second", "third")]
    folder = tmp_path_factory.mktemp("packs")
    packs = [folder / "one.tar.xz", folder / "two.tar.xz"]
    run_until(clones[0], lambda: has_cycle(clones[0], FIRST))
    assert "0 finished arms and 1 cycles of 1 others" in clones[0](*study("pack", "--out", str(packs[0])))
    clones[1](*study("unpack", str(packs[0])))
    run_until(clones[1], lambda: has_cycle(clones[1], SECOND))
    assert "1 finished arms and 1 cycles of 1 others" in clones[1](*study("pack", "--out", str(packs[1])))
    pretence = folder / "pretence"
    pretence.mkdir()
    version = Path(torch.__file__).with_name("version.py").read_text().replace(torch.__version__, OTHER_TORCH)
    (pretence / "version.py").write_text(version)
    (pretence / "sitecustomize.py").write_text(PRETENCE.format(file=str(pretence / "version.py")))
    clones[2].environment = clones[2].environment | {"PYTHONPATH": str(pretence)}
    assert "1 finished arms came, 0 were here; 1 cycles of 1 others came" in clones[2](*study("unpack", str(packs[1])))
    assert "2 of 2 arms are finished" in clones[2](*study("run", "--jobs", "1"))
    clones[2](*study("report"))
    table = pd.read_csv(clones[2].folder / "studies/toy/results/tidy.csv")
    clone(*study("run", "--jobs", "2"))
    return Legs(clone, clones, packs, table)


@pytest.mark.pipeline
def test_three_legs_end_with_the_hashes_of_one_go(legs: Legs) -> None:
    clone, third = legs.undisturbed, legs.clones[2]
    assert names(third) == sorted(GOOD)
    assert outputs(third, FIRST) == outputs(clone, FIRST)
    ours, others = outputs(third, SECOND), outputs(clone, SECOND)
    # The other PyTorch computes the same here, and its rows say that it was another.
    differing = {path for path in others if ours[path] != others[path]}
    assert differing == {"metrics/history/2.json", "plots/curve.csv"}
    assert "all are intact" in third("python", "-m", "lab.verify", *GOOD)


@pytest.mark.pipeline
def test_no_cycle_is_computed_twice_and_each_keeps_its_costs(legs: Legs) -> None:
    for clone, name in ((legs.clones[1], FIRST), (legs.clones[2], SECOND)):
        log = log_of(clone, name)
        assert "cycle 1: " in log
        assert "cycle 0: " not in log
    assert not (legs.clones[2].folder / f".dvc/tmp/study/toy/{FIRST}.log").exists(), "it was finished"
    assert len(legs.table) == 4
    assert legs.table["training_seconds"].notna().all()


@pytest.mark.pipeline
def test_results_of_another_pytorch_are_marked_and_not_compared(legs: Legs) -> None:
    assert legs.table["torch"].tolist() == [torch.__version__] * 3 + [OTHER_TORCH]
    page = legs.clones[2].read("studies/toy/results/report.html")
    assert "The arms of seed 3 were computed by different versions of PyTorch. They are not compared." in page


def repacked(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A pack with other members, whose hashes it names."""
    with tarfile.open(source) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    change(members)
    about = json.loads(members.pop("pack.json"))
    about["files"] = {name: pack.hashlib.sha256(content).hexdigest() for name, content in members.items()}
    members = {"pack.json": json.dumps(about).encode()} | members
    with tarfile.open(target, "w:xz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target


def changed(key: str, value: object) -> Callable[[dict[str, bytes]], None]:
    """Changes a value of pack.json."""

    def change(members: dict[str, bytes]) -> None:
        members["pack.json"] = json.dumps(json.loads(members["pack.json"]) | {key: value}).encode()

    return change


def damage_an_object(members: dict[str, bytes]) -> None:
    members[next(name for name in members if name.startswith("cache/files"))] = b"other content"


def take_another_commit(members: dict[str, bytes]) -> None:
    about = json.loads(members["pack.json"])
    about["arms"][FIRST]["commit"] = about["revision"]
    members["pack.json"] = json.dumps(about).encode()


def take_another_arm(members: dict[str, bytes]) -> None:
    about = json.loads(members["pack.json"])
    about["arms"][FIRST]["options"][-1] = "cycles=[[0, 1]]"
    members["pack.json"] = json.dumps(about).encode()


BAD = {
    "a parent folder": (lambda members: members.update({"../evil": b""}), "holds '../evil'"),
    "an absolute path": (lambda members: members.update({"/tmp/evil": b""}), "holds '/tmp/evil'"),
    "an arm's parent": (lambda members: members.update({"arms/../dvc.lock": b""}), "holds 'arms/../dvc.lock'"),
    "another study": (changed("study", "studies/paper/study.yaml"), "is a pack of studies/paper/study.yaml"),
    "another commit": (changed("revision", "0" * 40), "a commit that this clone lacks"),
    "a damaged object": (damage_an_object, "its MD5 is not its name"),
    "another experiment": (take_another_commit, f"the experiment {FIRST} is no run of that arm"),
    "another arm": (take_another_arm, f"has an arm {FIRST} that {STUDY} does not have here"),
    "no experiments": (lambda members: members.pop("experiments.bundle"), "its experiments cannot be fetched"),
}


def files_of(clone: Clone) -> dict[str, int]:
    return {str(file): file.lstat().st_mtime_ns for file in clone.folder.rglob("*") if "__pycache__" not in str(file)}


@pytest.mark.pipeline
def test_a_bad_pack_is_refused_and_touches_nothing(legs: Legs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone, good = legs.undisturbed.beside("untouched"), legs.packs[1]
    truncated, mixed = tmp_path / "truncated.tar.xz", tmp_path / "mixed.tar.xz"
    truncated.write_bytes(good.read_bytes()[:-2000])
    mixed.write_bytes(b"no archive")
    cases = {truncated: "is truncated, or no pack", mixed: "is truncated, or no pack"}
    for number, (change, words) in enumerate(BAD.values()):
        cases[repacked(good, tmp_path / f"{number}.tar.xz", change)] = words
    before = files_of(clone)
    monkeypatch.chdir(clone.folder)
    for file, words in cases.items():
        monkeypatch.setattr(sys, "argv", ["study", "unpack", STUDY, str(file)])
        with pytest.raises(BadInput, match=f"^{re.escape(str(file))}: .*{re.escape(words)}"):
            __main__.main()
        assert files_of(clone) == before


@pytest.mark.pipeline
def test_a_pack_for_other_code_names_the_commit_to_check_out(legs: Legs) -> None:
    clone = legs.undisturbed.beside("changed")
    begun = clone("git", "rev-parse", "HEAD").strip()
    (clone.folder / "lab/seeds.py").write_text(clone.read("lab/seeds.py") + "# other code\n")
    clone("git", "commit", "--quiet", "--all", "-m", "other code")
    assert f"git checkout {begun[:9]}" in clone(*study("unpack", str(legs.packs[1])), fails=True)


@pytest.mark.pipeline
def test_a_run_ends_when_its_minutes_are_over(legs: Legs) -> None:
    clone = legs.undisturbed.beside("short")
    command = study("run", "--minutes", "0.001")
    done = subprocess.run(command, cwd=clone.folder, env=clone.environment, text=True, capture_output=True)
    assert done.returncode == __main__.TIME_OVER
    assert "0.001 minutes are over" in done.stdout
    assert "2 waiting, 0 running, 0 done" in done.stdout


def test_what_an_attempt_had_finished_is_known_until_the_next_comes_further(tmp_path: Path) -> None:
    def write(cycles: int, rest: str = "") -> bytes:
        text = yaml.safe_dump({"stages": {f"cycle@{number}": {} for number in range(cycles)}}) + rest
        (tmp_path / "dvc.lock").write_text(text)
        return text.encode()

    assert folders.lock_of(tmp_path) == ({}, b"")
    folders.keep_lock(tmp_path)
    assert folders.lock_of(tmp_path) == ({}, b"")
    four = write(4)
    folders.keep_lock(tmp_path)
    # The next attempt begins with that of the commit, and is stopped while it restores the first cycle.
    for cycles in (0, 1):
        write(cycles)
        folders.keep_lock(tmp_path)
        found, text = folders.lock_of(tmp_path)
        assert (pack.cycles_in(found), text) == (4, four)
    write(5, "half a li\n  : :")
    assert folders.lock_of(tmp_path)[1] == four, "a kill can leave it half written"
    five = write(5)
    assert folders.lock_of(tmp_path)[1] == five


def test_a_restart_that_is_stopped_early_forgets_no_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.lock").write_text("stages: {cycle@0: {}, cycle@1: {}}")

    def git(command: str, *arguments: str, folder: Path) -> str:
        if command == "checkout":
            (folder / "dvc.lock").write_text("stages: {}")
        return ""

    def stop(*arguments: object, **options: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(run_arm, "finished", lambda arms, revision: {})
    monkeypatch.setattr(run_arm, "clone", lambda *arguments: False)
    monkeypatch.setattr(run_arm, "git", git)
    monkeypatch.setattr(run_arm, "Steps", lambda tree, lock: stop)
    monkeypatch.setattr(run_arm, "identity", dict)
    arm = Arm("a-s0", "a", 0, {}, {})
    for _ in range(2):
        with pytest.raises(SystemExit):
            run_arm.run_steps(arm, tmp_path, "r", tmp_path, False, 0)
        assert pack.cycles_in(folders.lock_of(tmp_path)[0]) == 2


def prepared_for_local_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Arm:
    """An arm, and a folder in which it can be started by a ``processes.start`` of one's own."""
    monkeypatch.chdir(folder)
    folders.of(Path(STUDY)).mkdir(parents=True)
    monkeypatch.setattr(Interruption, "listen", lambda self: self)
    monkeypatch.setattr(local, "gpus", lambda: [])
    settings = {"dataset": "d", "validation": 0, "cold_start_seed": 0, "cold_start_strategy": "random"}
    return Arm("arm", "arm", 0, {}, {"protocol": "p", "protocols": {"p": {"cold_start": 1}}, **settings})


def ended(status: int) -> subprocess.Popen:
    process = subprocess.Popen(["sh", "-c", f"exit {status:d}"], start_new_session=True)
    process.wait()
    return process


def test_minutes_that_are_over_as_the_last_arm_ends_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arm, started = prepared_for_local_runs(tmp_path, monkeypatch), []
    monkeypatch.setattr(processes, "start", lambda *_, **__: started.append(ended(0)) or started[-1])
    monkeypatch.setattr(local.time, "sleep", lambda _: None)
    monkeypatch.setattr(local.time, "monotonic", lambda: float(len(started)))
    # The first prepares what arms share.
    assert local.run(Path(STUDY), [arm], "0" * 40, 1, lambda _: None, ends=2.0) == {}
    assert len(started) == 2


def test_an_arm_that_could_not_be_prepared_is_shown_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arm, shown = prepared_for_local_runs(tmp_path, monkeypatch), []
    other = arm._replace(name="other", params=arm.params | {"cold_start_seed": 1})

    def start(_study: object, name: str, *_: object, **__: object) -> subprocess.Popen:
        return ended(name == "other")

    monkeypatch.setattr(processes, "start", start)
    monkeypatch.setattr(local.time, "sleep", lambda _: None)
    failed = local.run(Path(STUDY), [arm, other], "0" * 40, 1, shown.append)
    assert [*failed] == ["other"]
    assert shown
    assert all([*state.failed] == ["other"] for state in shown), "not as waiting"


def test_minutes_that_are_over_stop_the_arms_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def start(*_: object, **__: object) -> subprocess.Popen:
        started.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
        return started[-1]

    arm = prepared_for_local_runs(tmp_path, monkeypatch)
    monkeypatch.setattr(processes, "start", start)
    # The clock says that the time is over as soon as an arm is at work.
    monkeypatch.setattr(local.time, "sleep", lambda _: None)
    monkeypatch.setattr(local.time, "monotonic", lambda: float(len(started)))
    with pytest.raises(local.TimeOver):
        local.run(Path(STUDY), [arm], "0" * 40, 1, lambda _: None, ends=1.0)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_slurm_keeps_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["studies/paper/study.yaml", "--slurm", "studies/clusters/generic.yaml", "--minutes", "30"]
    monkeypatch.setattr(sys, "argv", ["study", "run", *words])
    with pytest.raises(BadInput, match="by time_limit in studies"):
        __main__.main()


def test_a_study_outside_the_repository_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"^/elsewhere/study\.yaml: is not in .*: other clones would not find it"):
        pack.write(Path("/elsewhere/study.yaml"), [], "0" * 40, Path("out.tar.xz"))


def test_a_pack_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "LIMIT", 1000)
    members = [
        pack.Member("cache/one", os.urandom(5000), "arm-s0: data/carried/1.safetensors"),
        pack.Member("cache/two", b"small", "arm-s0: data/labelled/1.csv"),
    ]
    with pytest.raises(BadInput, match=r"data/carried/1\.safetensors \(0\.0 MB\), .*data/labelled"):
        pack._write(tmp_path / "out.tar.xz", members, {})
    assert list(tmp_path.iterdir()) == []


def test_a_finished_arm_leaves_its_large_networks_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "SMALL", 3)
    outs = {"data/prepared": "a" * 32, "data/carried/1.safetensors": "b" * 32, "data/labelled/1.csv": "c" * 32}
    for md5 in outs.values():
        file = tmp_path / "files/md5" / md5[:2] / md5[2:]
        file.parent.mkdir(parents=True)
        file.write_bytes(b"long")
    lock = {"stages": {"cycle@0": {"cmd": "x", "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}}}

    def packed(**options: bool) -> list[str]:
        return [member.what for member in pack._of_stages("arm", lock, tmp_path, **options)]

    assert packed(is_finished=True) == ["arm: data/labelled/1.csv"]
    assert packed(is_finished=False) == ["arm: data/carried/1.safetensors", "arm: data/labelled/1.csv"]
