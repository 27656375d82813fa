"""What the tests share: a small laboratory in a folder of its own, and clones of the repository."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from copy import copy
from pathlib import Path

# Networks this small gain nothing by a second thread, and lose where tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings

from lab import params
from lab.data import answered, carried, history, labelled, prepared, stop_set
from lab.data.dataset import Dataset, Split
from lab.errors import Interrupted
from lab.host import Host, Progress
from lab.query import replayed

# Timings vary with the machine, and a slow example is no wrong one. A folder that the examples of a test
# share is safe here: each example writes what it reads.
settings.register_profile(
    "laboratory",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("laboratory")

ROOT = Path(__file__).parent.parent
POOL_SIZE, TEST_SIZE, CLASSES, PIXELS = 40, 12, 10, 16
FIRST_LABELLED = [31, 4, 17, 9, 38, 22]
# What another run acquired first.
REPLAYED, REPLAYED_SCORES = [30, 2, 39, 5, 0], [2.5, 2.25, 1 / 3, 0.1, -1.0]
# Of a cycle, made up.
DETAILS = {
    "classes": ["cat", "dog"],
    "confusion": [[3, 1], [0, 2]],
    "training": {"loss": [2.0, 1.5], "accuracy": [0.25, 0.5], "learning_rate": [0.1, 0.01]},
    "losses": {"predicted": [-1.0, 2.0, 0.5], "true": [0.1, 3.0, 0.0]},
    "lowest": {"index": [7, 8, 39], "score": [-2.0, -1.5, 1 / 3]},
    "asked": None,
}


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: random images prepared, six of them labelled, and params for one-epoch cycles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AL_LAB_DEVICE", "cpu")
    make_laboratory()
    return tmp_path


def make_laboratory() -> None:
    """Lay out a small laboratory in the current folder."""
    draw = np.random.default_rng(0)
    splits = [
        Split(draw.integers(0, 256, (size, PIXELS, PIXELS, 3), dtype=np.uint8), draw.integers(0, CLASSES, size))
        for size in (POOL_SIZE, TEST_SIZE)
    ]
    prepared.write(Dataset(*splits, [str(name) for name in range(CLASSES)]))
    labelled.write(labelled.cold_start(np.array(FIRST_LABELLED)), labelled.path_of(0))
    carried.write_nothing(0)
    other_run = labelled.extend(labelled.read(labelled.path_of(0)), np.array(REPLAYED), np.array(REPLAYED_SCORES))
    labelled.write(other_run, replayed.path_of(1))
    stop_set.write(np.empty(0, dtype=np.int64), 0)
    for batch in (answered.AUDIT, "0", "1", "2", "3"):
        answered.write([], batch)
    history.write([], 0)
    values = params.read(ROOT / "params.yaml")
    demo = values["protocols"]["demo"]
    demo |= {"width": 4, "cold_start": 6, "target_accuracy": 0.9}
    demo["training"] |= {"epochs": 1, "batch_size": 4}
    demo["loss_prediction"] |= {"detach_at": 1.0}
    demo["query"] |= {"labels": 5}
    write_params({**values, "protocol": "demo"})


def write_params(values: dict) -> None:
    Path("params.yaml").write_text(json.dumps(values))  # JSON is YAML


def read_params() -> dict:
    return params.read(Path("params.yaml"))


class Bar(Progress):
    """Keeps the title, and the figures shown last."""

    def __init__(self, title: str, total: int) -> None:
        super().__init__(total)
        self.title, self.figures = title, {}

    def update(self, count: int = 1, **figures: str) -> None:
        super().update(count, **figures)
        self.figures = figures


class RecordingHost(Host):
    """Keeps what a stage tells it. stop_after: a signal has come by this check of the stage's, counted from 1."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left = stop_after
        self.costs: dict[str, float] = {}
        self.bars: list[Bar] = []
        self.when_outputs_are_safe: list[Callable[[], None]] = []

    @property
    def is_stopping(self) -> bool:
        return self.left == 1

    def progress(self, title: str, total: int, unit: str) -> Bar:
        self.bars.append(Bar(title, total))
        return self.bars[-1]

    def check(self, kept: str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Interrupted(signal.SIGTERM, kept)

    def record(self, **costs: float) -> None:
        self.costs |= costs

    def when_safe(self, do: Callable[[], None]) -> None:
        self.when_outputs_are_safe.append(do)


def _heed_interrupts() -> None:
    """Tests that run in the background of a shell ignore SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Clone:
    """A copy of the working tree, committed in an empty folder, and commands run in it with a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        # One home for all: caches of libraries lie there, and one warm process serves whoever has the same environment.
        home = folder.parent / "home"
        home.mkdir(exist_ok=True)
        # DVC's experiments are Git commits, and need an author.
        (home / ".gitconfig").write_text("[user]\nname = Test\nemail = test@example.org\n")
        # The commands of dvc.yaml call `python`: the one that runs the tests.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "HOME": str(home), "PATH": path, "AL_LAB_DEVICE": "cpu"}
        for name in ("AL_LAB_SCRATCH", "PYTEST_CURRENT_TEST"):
            self.environment.pop(name, None)
        listed = subprocess.check_output(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
        )
        for name in listed.splitlines():
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, self.folder / name)
        self("git", "init", "--quiet")
        self("git", "add", "--all")
        self("git", "commit", "--quiet", "-m", "start")

    def __call__(self, *command: str, fails: bool = False) -> str:
        """Run a command and return what it printed; ``fails``: it must exit with an error, else with none."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_heed_interrupts,
        )
        assert (done.returncode != 0) == fails, f"{command} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def beside(self, name: str) -> "Clone":
        """A Git clone of this one, with nothing of its cache."""
        other = copy(self)
        other.folder = self.folder.parent / name
        self("git", "clone", "--quiet", str(self.folder), str(other.folder))
        return other

    def start(self) -> subprocess.Popen:
        """`dvc repro` in a session of its own, so that it can be killed with all that it started."""
        return subprocess.Popen(
            ["dvc", "repro"],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()

    def output_hashes(self) -> dict[str, str]:
        """The hash of every output in dvc.lock."""
        stages = yaml.safe_load(self.read("dvc.lock"))["stages"].values()
        return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", [])}

    def results(self) -> dict[str, str]:
        return self.output_hashes()


# Plotted, and kept in Git.
TABLES = {f"plots/{name}.csv" for name in ("classes", "confusion", "curve", "losses", "training")}
# Every plot that `dvc plots show` has.
PLOTS = {*TABLES, "label_efficiency", "agreement", "accuracy_by_class", "training_accuracy", "learning_rate"}
PLOTS |= {"plots/contact_sheet.png"}
# What `Clone.results` names after two cycles.
RESULTS_OF_TWO_CYCLES = {
    "data/checked",
    "data/raw",
    "data/prepared",
    *(f"data/labelled/{number}.csv" for number in range(3)),
    *(f"data/carried/{number}.safetensors" for number in range(3)),
    *(f"data/stop_set/{number}.npy" for number in range(3)),
    "data/replayed",
    "data/answered",
    *(f"metrics/history/{number}.json" for number in range(3)),
    *(f"metrics/details/{number}.json" for number in range(2)),
    "metrics/summary.json",
    *TABLES,
    "plots/accuracy_vs_budget.png",
    "plots/contact_sheet.png",
    "plots/label_efficiency.png",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """One clone for the tests of a module, which build on each other's runs."""
    return Clone(tmp_path_factory.mktemp("laboratory"))
