"""What a change retrains: nothing but what it touches, in a finished run and in a study that is half done."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from lab.study import experiments, plan
from lab.study.experiments import WITHOUT_RESULT
from tests.conftest import TABLES, Clone
from tests.test_pipeline import settings
from tests.test_study_run import RUN, write_study

NADAM = "optimizers:\n  nadam:\n    class: NAdam\n    lr: 0.001\n"
SCHEDULE = "schedules:\n  mine:\n    shape: constant\n"
INITIALISATION = "initialisations:\n  mine:\n    start: same\n"
DATASET = "datasets:\n  mine:\n    source: folder\n    path: /leaves\n"
PROTOCOL = "protocols:\n  mine:\n    cold_start: 50\n"
COMMENT = "\n# a change\n"

# What is no dependency whichever the stage: how a run is started, planned, measured, tested and described.
NEVER = (".ci/", ".github/", "bench/", "docs/", "lab/process/", "lab/study/", "studies/", "tests/")
# Of every stage.
ALWAYS = {"dvc.yaml", "dvc.lock", "params.yaml", "requirements.txt"}
# Outputs that Git keeps.
MADE = {"metrics/summary.json", *TABLES}
# What an arm with ResNet-18, SGD, random queries, digits and the demo's protocol does not use.
UNUSED = {
    "lab/model/architectures/resnet34.py": COMMENT,
    "lab/model/architectures/mine.py": "a new architecture",
    "lab/query/strategies/loss_prediction.py": COMMENT,
    "lab/query/strategies/replay.py": COMMENT,
    "lab/query/strategies/mine.py": "a new strategy",
}
# Sources of data that it does not use. DVC knows them by their folder: data are read again, and nothing is trained.
SOURCES = {
    "lab/data/sets/cifar10.py": COMMENT,
    "lab/data/sets/folder.py": COMMENT,
    "lab/data/sets/mine.py": "a new data set",
    "lab/data/images/decode.py": COMMENT,
    "data/answers/0.csv": "labels that people gave",
}
UNUSED_PARAMS = {
    "a new optimizer": ("optimizers:\n", NADAM),
    "a new protocol": ("protocols:\n", PROTOCOL),
    "a new data set": ("datasets:\n", DATASET),
    "a new schedule": ("schedules:\n", SCHEDULE),
    "a new initialisation": ("initialisations:\n", INITIALISATION),
    "another schedule": ("warm_up: 0.05", "warm_up: 0.1"),
    "another initialisation": ("shrink: 0.6", "shrink: 0.5"),
    "another optimizer": ("alpha: 0.99", "alpha: 0.9"),
    "another protocol": ("cold_start: 1000", "cold_start: 999"),
}
# What it does use: what can change a number stays a dependency.
USED = [
    "lab/model/architectures/resnet18.py",
    "lab/model/resnet.py",
    "lab/query/strategies/random.py",
    "lab/query/query.py",
    "lab/query/selection.py",
    "lab/training/of_cycle.py",
    "lab/training/optimizers.py",
    "lab/training/checkpoint.py",
    "lab/measures/details.py",
    "lab/measures/ranking.py",
    "lab/data/details.py",
    "lab/data/labelled.py",
    "lab/data/sizes.py",
    "lab/seeds.py",
    "stages/cycle.py",
]


class Change:
    """Changes files of a clone, for as long as a test looks at it."""

    def __init__(self, clone: Clone) -> None:
        self.clone, self.before = clone, {}

    def write(self, name: str, content: bytes) -> None:
        path = self.clone.folder / name
        self.before.setdefault(path, path.read_bytes() if path.exists() else None)
        path.write_bytes(content)

    def append(self, name: str, text: str = COMMENT) -> None:
        path = self.clone.folder / name
        self.write(name, (path.read_bytes() if path.exists() else b"") + text.encode())

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.clone.read(name)
        assert old in text
        self.write(name, text.replace(old, new, 1).encode())

    def undo(self) -> None:
        for path, content in self.before.items():
            path.unlink() if content is None else path.write_bytes(content)
        self.before = {}


@pytest.fixture
def change(clone: Clone):
    made = Change(clone)
    yield made
    made.undo()


def files_outside(clone: Clone, *without: str) -> list[str]:
    """The files in Git that no stage depends on or makes, whichever file of a folder is chosen.

    Args:
        without: stages whose code counts as outside.
    """
    stages = yaml.safe_load(clone.read("dvc.yaml"))["stages"]
    deps = {dep for name in stages.keys() - without for dep in stages[name].get("do", stages[name])["deps"]}
    patterns = [re.sub(r"\$\{\w+\}", "*", dep) for dep in deps if dep.startswith(("stages/", "lab/", "data/answers"))]
    inside = {*clone("git", "ls-files", *patterns).splitlines(), *ALWAYS, *MADE}
    assert not [name for name in inside if name.startswith(NEVER)]
    return [name for name in clone("git", "ls-files").splitlines() if name not in inside]


@pytest.fixture(scope="module")
def arm(clone: Clone) -> plan.Arm:
    """An arm of a study that began at the clone's first commit."""
    study = clone.folder / "studies/border/study.yaml"
    study.parent.mkdir(exist_ok=True)
    study.write_text(
        "protocol: demo\ndataset: digits\nseeds: [0]\narms: {arch: [resnet18], optim: [sgd], strategy: [random]}\n"
    )
    (found,) = plan.read(study, (clone.folder / "params.yaml").read_text())
    return found


def is_same_after(clone: Clone, arm: plan.Arm, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a study goes on with its arm after what is changed now is committed."""
    monkeypatch.chdir(clone.folder)
    before = clone("git", "rev-parse", "HEAD").strip()
    clone("git", "add", "--all")
    clone("git", "commit", "--quiet", "--allow-empty", "-m", "a change")
    after = clone("git", "rev-parse", "HEAD").strip()
    clone("git", "reset", "--quiet", before)
    return experiments.is_same(arm, before, after)


def test_a_study_goes_on_after_changes_that_its_arms_do_not_use(
    clone: Clone, arm: plan.Arm, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files_outside(clone, *WITHOUT_RESULT):
        change.append(name)
    for name, text in {**UNUSED, **SOURCES}.items():
        change.append(name, text)
    for old, new in UNUSED_PARAMS.values():
        change.replace("params.yaml", old, new)
    assert is_same_after(clone, arm, monkeypatch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("stages:", "# What a run does, in order.\nstages:"),
        ("desc: Make metrics and curves", "desc: Gather metrics and curves"),
        ("desc: Train on the labelled set", "desc: Learn from the labelled set"),
        ("title: Accuracy vs. budget", "title: Accuracy and budget"),
        ("title: Label efficiency", "title: Efficiency"),
        ("title: Classes acquired", "title: Classes"),
        ("cmd: exec python -m lab.process.launch plot", "cmd: python -m lab.process.launch plot"),
        ("    - stages/check.py\n", "    - stages/check.py\n    - lab/errors.py\n"),
    ],
)
def test_a_study_goes_on_after_changes_of_how_its_stages_are_described_and_shown(
    clone: Clone, arm: plan.Arm, change: Change, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    change.replace("dvc.yaml", old, new)
    assert is_same_after(clone, arm, monkeypatch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cmd: exec python -m lab.process.launch cycle ${item[0]}", "cmd: python -m stages.cycle ${item[0]}"),
        ("      - lab/measures/ranking.py\n", ""),
        ("      - seed\n", ""),
        ("      - data/labelled/${item[1]}.csv\n", "      - data/labelled/next.csv\n"),
    ],
)
def test_a_study_notices_other_stages(
    clone: Clone, arm: plan.Arm, change: Change, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    change.replace("dvc.yaml", old, new)
    assert not is_same_after(clone, arm, monkeypatch)


@pytest.mark.parametrize("name", [*USED, "requirements.txt", "lab/data/sets/digits.py"])
def test_a_study_notices_what_its_arms_use(
    clone: Clone, arm: plan.Arm, change: Change, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change.append(name)
    assert not is_same_after(clone, arm, monkeypatch)


@pytest.mark.parametrize(("old", "new"), [("lr: 0.1", "lr: 0.2"), ("epochs: 60", "epochs: 61")])
def test_a_study_notices_params_that_its_arms_read(
    clone: Clone, arm: plan.Arm, change: Change, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    change.replace("params.yaml", old, new)
    assert not is_same_after(clone, arm, monkeypatch)


# From here on the clone has run.


@pytest.fixture(scope="module")
def finished(clone: Clone) -> Clone:
    clone("dvc", "exp", "run", "--quiet", *settings(2, strategy="random"))
    return clone


def stale(clone: Clone) -> set[str]:
    return set(json.loads(clone("dvc", "status", "--json")))


@pytest.mark.pipeline
def test_how_runs_are_started_planned_and_reported_retrains_nothing(finished: Clone, change: Change) -> None:
    assert stale(finished) == set()
    for name in files_outside(finished):
        change.append(name)
    assert stale(finished) == set()


@pytest.mark.pipeline
def test_what_an_arm_does_not_use_retrains_nothing(finished: Clone, change: Change) -> None:
    for name, text in UNUSED.items():
        change.append(name, text)
    for old, new in UNUSED_PARAMS.values():
        change.replace("params.yaml", old, new)
    assert stale(finished) == set()


@pytest.mark.pipeline
def test_another_source_of_data_reads_them_again_and_trains_nothing(finished: Clone, change: Change) -> None:
    before = finished.output_hashes()
    for name, text in SOURCES.items():
        change.append(name, text)
    assert stale(finished) == {"download", "prepare", "answers"}
    printed = finished("dvc", "repro")
    assert "lab.process.launch prepare" in printed
    assert "launch cycle" not in printed
    assert finished.output_hashes() == before
    change.undo()
    finished("dvc", "repro", "--quiet")


@pytest.mark.pipeline
@pytest.mark.parametrize("name", USED)
def test_what_can_change_a_number_is_a_dependency(finished: Clone, change: Change, name: str) -> None:
    change.append(name)
    assert {"cycle@0", "cycle@1"} <= stale(finished)


@pytest.mark.pipeline
def test_a_drawing_is_drawn_again_and_nothing_is_trained(finished: Clone, change: Change) -> None:
    drawings = {name: {"plot"} for name in ("lab/report/style.py", "lab/report/sheet.py", "stages/plot.py")}
    for name, stages in {**drawings, "lab/measures/budget.py": {"summarise"}}.items():
        change.append(name)
        assert stale(finished) == stages
        change.undo()


@pytest.mark.pipeline
def test_a_half_finished_study_goes_on_after_a_change_beside_it(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    write_study(clone, [0.1], epochs=5, count=2)
    arm = clone.folder / ".dvc/tmp/study/toy/demo-resnet18-sgd-s3"
    with subprocess.Popen(RUN, cwd=clone.folder, env=clone.environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (arm / "dvc.lock").exists() or "cycle@0" not in (arm / "dvc.lock").read_text():
            assert process.poll() is None
            assert time.monotonic() < deadline, "no cycle was finished"
            time.sleep(0.02)
        process.terminate()
    begun = clone("git", "rev-parse", "HEAD").strip()
    change = Change(clone)
    for name in ("lab/process/check.py", "lab/study/plan.py", "lab/report/page.py", "stages/check.py", "README.md"):
        change.append(name)
    change.replace("dvc.yaml", "desc: Train on the labelled set", "desc: Learn from the labelled set")
    clone("git", "commit", "--quiet", "--all", "-m", "a change")
    printed = clone(*RUN)
    assert f"at {begun[:9]}, 0 of them finished" in printed
    assert "1 of 1 arms are finished" in printed
    log = arm.with_suffix(".log").read_text()
    assert "cycle 1: " in log
    assert "cycle 0: " not in log, "it was finished"


def test_the_shipped_file_tells_what_an_arm_uses() -> None:
    for name in [*USED, *(name for name, text in UNUSED.items() if text == COMMENT)]:
        assert Path(name).is_file(), f"{name} was moved: the tests above would not notice a change of it"
