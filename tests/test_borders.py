"""What a change retrains: nothing but what it touches, in a finished run and in a study that is half done."""

import json
import subprocess
from pathlib import Path

import pytest

from lab.study import experiments, plan
from tests.conftest import Clone
from tests.test_pipeline import settings

NADAM = "optimizers:\n  nadam:\n    class: NAdam\n    lr: 0.001\n"
SCHEDULE = "schedules:\n  mine:\n    shape: constant\n"
INITIALISATION = "initialisations:\n  mine:\n    start: same\n"
PROTOCOL = "protocols:\n  mine:\n    cold_start: 50\n"
COMMENT = "\n# a change\n"

# Files of which every byte may change: how a run starts, is planned, reported, measured, tested and described.
OUTSIDE = [
    *("lab/process", "lab/study", "bench", "tests", "docs", "studies"),
    *(
        "lab/verify.py",
        "lab/cycles.py",
        "lab/replay.py",
        "lab/report/compare.py",
        "lab/report/page.py",
        "lab/report/statistics.py",
    ),
    *("README.md", "Makefile", "requirements-dev.txt", "pyproject.toml"),
]
# What an arm with ResNet-18, SGD, random queries, digits and the demo's protocol does not use.
UNUSED = {
    "lab/model/architectures/resnet34.py": COMMENT,
    "lab/model/architectures/mine.py": "a new architecture",
    "lab/query/strategies/loss_prediction.py": COMMENT,
    "lab/query/strategies/replay.py": COMMENT,
    "lab/query/strategies/mine.py": "a new strategy",
    "lab/data/sets/cifar10.py": COMMENT,
    "lab/data/sets/mine.py": "a new data set",
}
UNUSED_PARAMS = {
    "a new optimizer": ("optimizers:\n", NADAM),
    "a new protocol": ("protocols:\n", PROTOCOL),
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
    "lab/measures/ranking.py",
    "lab/data/labelled.py",
    "lab/data/sizes.py",
    "lab/seeds.py",
    "stages/cycle.py",
]


class Change:
    """Changes files of a clone, for as long as a test looks at it."""

    def __init__(self, clone: Clone) -> None:
        self.clone, self.before = clone, {}

    def write(self, name: str, text: str) -> None:
        path = self.clone.folder / name
        self.before.setdefault(path, path.read_bytes() if path.exists() else None)
        path.write_text(text)

    def append(self, name: str, text: str = COMMENT) -> None:
        path = self.clone.folder / name
        self.write(name, (path.read_text() if path.exists() else "") + text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.clone.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def undo(self) -> None:
        for path, content in self.before.items():
            path.unlink() if content is None else path.write_bytes(content)
        self.before = {}


@pytest.fixture
def change(clone: Clone):
    made = Change(clone)
    yield made
    made.undo()


@pytest.fixture(scope="module")
def finished(clone: Clone) -> Clone:
    clone("dvc", "exp", "run", "--quiet", *settings(2, strategy="random"))
    return clone


def stale(clone: Clone) -> set[str]:
    return set(json.loads(clone("dvc", "status", "--json")))


def files_outside(clone: Clone) -> list[str]:
    listed = subprocess.check_output(["git", "ls-files", *OUTSIDE], cwd=clone.folder, text=True).splitlines()
    return [name for name in listed if not name.endswith((".png", ".csv"))]


@pytest.mark.pipeline
def test_how_runs_are_started_planned_and_reported_retrains_nothing(finished: Clone, change: Change) -> None:
    assert stale(finished) == set()
    files = files_outside(finished)
    assert len(files) > 80
    for name in files:
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
@pytest.mark.parametrize("name", USED)
def test_what_can_change_a_number_is_a_dependency(finished: Clone, change: Change, name: str) -> None:
    change.append(name)
    assert {"cycle@0", "cycle@1"} <= stale(finished)


@pytest.mark.pipeline
def test_a_drawing_is_drawn_again_and_nothing_is_trained(finished: Clone, change: Change) -> None:
    for name, stages in (("lab/report/style.py", {"plot"}), ("lab/measures/budget.py", {"summarise"})):
        change.append(name)
        assert stale(finished) == stages
        change.undo()


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
    clone("git", "reset", "--quiet", "--soft", before)
    return experiments.is_same(arm, before, after)


def test_a_study_goes_on_after_changes_that_its_arms_do_not_use(
    clone: Clone, arm: plan.Arm, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in files_outside(clone):
        change.append(name)
    for name, text in UNUSED.items():
        change.append(name, text)
    for old, new in UNUSED_PARAMS.values():
        change.replace("params.yaml", old, new)
    assert is_same_after(clone, arm, monkeypatch)


@pytest.mark.parametrize("name", [*USED, "dvc.yaml", "requirements.txt", "lab/data/sets/digits.py"])
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


def test_the_shipped_file_tells_what_an_arm_uses() -> None:
    for name in [*USED, *(name for name, text in UNUSED.items() if text == COMMENT)]:
        assert Path(name).is_file(), f"{name} was moved: the tests above would not notice a change of it"
