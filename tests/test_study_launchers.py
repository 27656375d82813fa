"""What every launcher shares, and what SLURM is told: without a cluster."""

import fcntl
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from lab.process.ending import BadInput
from lab.study.run import folders, slurm, states
from lab.study.run.folders import Word
from lab.study.run.states import Job, Stand
from tests.conftest import ROOT

CLUSTERS = sorted((ROOT / "studies/clusters").glob("*.yaml"))
SETTINGS = {"cpus": 4, "memory": "16G", "time_limit": "12:00:00", "arms_at_once": 8}


def settings(folder: Path, **values: object) -> slurm.Settings:
    (folder / "cluster.yaml").write_text(yaml.safe_dump(SETTINGS | values))
    return slurm.read(folder / "cluster.yaml")


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.stem)
def test_the_clusters_that_are_shipped_can_be_read(file: Path) -> None:
    assert slurm.read(file).scratch.endswith("/al-lab")
    assert set(yaml.safe_load(file.read_text())) == set(slurm.Settings.model_fields), "each setting is shown"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("cpus", 0, "cpus"),
        ("time_limit", "noon", "time_limit"),
        ("time_limit", 43200, "time_limit"),
        ("gres", "gpu:1", "gpus and gres both ask for GPUs"),
        ("scratch", "scratch", "must be an absolute path"),
        ("scratch", "/$NO_SUCH_VARIABLE/al-lab", "of variables that are set"),
        ("partitions", "gpu", "partitions"),
        ("arms_at_once", None, "arms_at_once"),
    ],
)
def test_a_bad_setting_is_refused_by_name(tmp_path: Path, key: str, value: object, words: str) -> None:
    with pytest.raises(BadInput, match="is refused, nothing was run") as refusal:
        settings(tmp_path, gpus=1, **{key: value})
    assert words in str(refusal.value)


@pytest.mark.parametrize("content", [None, "cpus: [", "text"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "cluster.yaml").write_text(content)
    with pytest.raises(BadInput, match=r"cluster\.yaml"):
        slurm.read(tmp_path / "cluster.yaml")


def test_every_setting_reaches_sbatch(tmp_path: Path) -> None:
    asked = settings(
        tmp_path,
        partition="p",
        account="a",
        gres="gpu:a100:1",
        warning_seconds=60,
        shell="/bin/tcsh",
        setup=["module load python"],
        options=["--qos=long"],
    )
    command = slurm.command(asked, "toy", Path("/w"), 60, "17")
    expected = (
        "--partition=p --account=a --gres=gpu:a100:1 --cpus-per-task=4 --mem=16G --time=12:00:00 --array=0-59%8 "
        "--signal=B:USR2@60 --dependency=afterany:17 --requeue --qos=long --output=/w/slurm-%A_%a.log"
    )
    assert set(expected.split()) <= set(command)
    assert not any(option.startswith("--gpus") for option in command)
    script = slurm.script(asked, Path("/w/of toy.json")).splitlines()
    assert script[:2] == ["#!/bin/tcsh", "module load python && \\"]
    assert script[2].startswith("exec ")
    assert script[2].endswith("-m lab.study.run.task '/w/of toy.json'")


@pytest.mark.parametrize(
    ("state", "word", "is_held", "stand"),
    [
        ("PENDING", None, False, Stand.WAITING),
        ("PENDING", Word.STOPPED, False, Stand.WAITING),
        ("RUNNING", Word.BEGUN, False, Stand.RUNNING),
        ("COMPLETING", Word.STOPPED, False, Stand.RUNNING),
        ("COMPLETED", Word.ENDED, False, Stand.RUNNING),
        ("COMPLETED", Word.BEGUN, False, Stand.RUNNING),
        ("FAILED", Word.FAILED, False, Stand.FAILED),
        ("CANCELLED", Word.STOPPED, False, Stand.FAILED),
        ("CANCELLED", None, False, Stand.FAILED),
        ("TIMEOUT", Word.BEGUN, False, Stand.FAILED),
        ("OUT_OF_MEMORY", Word.BEGUN, False, Stand.FAILED),
        ("NODE_FAIL", Word.BEGUN, False, Stand.LOST),
        ("FAILED", Word.BEGUN, True, Stand.RUNNING),
        # SLURM has forgotten the job
        ("forgotten", Word.FAILED, False, Stand.FAILED),
        ("forgotten", Word.STOPPED, False, Stand.FAILED),
        ("forgotten", Word.BEGUN, False, Stand.LOST),
        ("forgotten", None, False, Stand.LOST),
        # never submitted
        (None, None, False, Stand.WAITING),
        (None, Word.ENDED, False, Stand.WAITING),
        (None, Word.BEGUN, True, Stand.RUNNING),
        (None, Word.BEGUN, False, Stand.LOST),
        (None, Word.FAILED, False, Stand.FAILED),
    ],
)
def test_where_an_arm_stands(tmp_path: Path, state: str | None, word: Word | None, is_held: bool, stand: Stand) -> None:
    jobs = {} if state is None else {"arm": None if state == "forgotten" else Job("7_0", state, "None", "n1")}
    if word:
        (tmp_path / "arm.state").write_text(word)
    arm = type("Arm", (), {"name": "arm"})
    with open(tmp_path / "arm.lock", "w") as lock:
        if is_held:
            fcntl.flock(lock, fcntl.LOCK_EX)
        assert states.survey([arm], set(), tmp_path, jobs)["arm"].stand == stand
        assert states.survey([arm], {"arm"}, tmp_path, jobs)["arm"].stand == Stand.DONE


def test_the_reason_is_the_first_error_of_the_last_attempt(tmp_path: Path) -> None:
    (tmp_path / "arm.log").write_text("--- one\nerror: old\n--- two\nfine\nerror: new\nerror: not done\n")
    assert folders.reason(tmp_path, "arm").startswith("error: new (")
    assert folders.reason(tmp_path, "other").startswith("nothing was printed (")


def test_what_an_arm_says_of_itself(tmp_path: Path) -> None:
    with folders.saying(tmp_path, "arm"):
        assert folders.word_of(tmp_path, "arm") == Word.BEGUN
    assert folders.word_of(tmp_path, "arm") == Word.ENDED
    for error, word in ((SystemExit(143), Word.STOPPED), (OSError(), Word.FAILED), (KeyboardInterrupt(), Word.FAILED)):
        with pytest.raises(type(error)), folders.saying(tmp_path, "arm"):
            raise error
        assert folders.word_of(tmp_path, "arm") == word


def test_a_study_on_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study, disk = Path("studies/toy/study.yaml"), tmp_path / "disk"
    for _ in range(2):
        folders.put_on(study, disk)
        assert folders.of(study).is_relative_to(disk)
    folders.of(study).rmdir()  # the disk was wiped
    folders.put_on(study, disk)
    assert folders.of(study).is_dir()
    with pytest.raises(BadInput, match="holds what this study has computed so far"):
        folders.put_on(study, tmp_path / "other")


@pytest.mark.parametrize(("code", "words"), [(None, "squeue is not to be found"), ("exit 1", "squeue failed")])
def test_slurm_that_does_not_answer_loses_no_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, words: str
) -> None:
    (tmp_path / "submissions").mkdir()
    submission = {"name": "toy-1", "elements": [["arm"]], "options": [], "revision": "0" * 40}
    (tmp_path / "submissions/toy-1.json").write_text(json.dumps(submission))
    if code:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=words):
        slurm.jobs_of(tmp_path, "0" * 40)


def test_a_login_node_does_not_wait_for_pytorch() -> None:
    code = "import sys, study.__main__; print(*sys.modules)"
    loaded = subprocess.check_output(["python", "-c", code], text=True, cwd=ROOT).split()
    assert not {"torch", "pandas", "seaborn"} & set(loaded)
