"""DVC's own tools, an editor's extension and a second run meet the laboratory: in this order, on one small run."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from pathlib import Path

import dvc.api
import psutil
import pytest
import yaml

from lab.cycles import pairs, setting
from lab.params import PARAMS_FILE
from tests.conftest import PLOTS, TABLES, Clone

pytestmark = pytest.mark.pipeline

# What the DVC extension for VS Code asks for, as its source has it.
READS = (
    "--version",
    "root",
    "exp show --rev HEAD --json",
    "exp show -n 3 --json",
    "plots diff -o .dvc/tmp/plots --split --json",
    "plots diff first workspace -o .dvc/tmp/plots --split --json",
    "data status --granular --unchanged --json",
    "stage list",
    "dag",
    "config --list",
    "remote list",
    "queue status",
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose main branch has the smallest run, two cycles on digits; none was run yet."""
    clone = Clone(tmp_path_factory.mktemp("clients"))
    clone.environment["OMP_NUM_THREADS"] = "1"  # threads that wait for each other take longer than so small a run
    params = yaml.safe_load(clone.read("params.yaml"))
    demo = params["protocols"]["demo"] | {"width": 4}
    # A second or so a cycle: long enough to be stopped in its midst.
    demo["training"] |= {"epochs": 50}
    demo["query"] |= {"pool_subset": 100}
    params |= {"protocol": "demo", "dataset": "digits", "cycles": pairs(2), "protocols": {"demo": demo}}
    (clone.folder / PARAMS_FILE).write_text(yaml.safe_dump(params, sort_keys=False))
    clone("git", "commit", "--quiet", "--all", "-m", "small")
    clone("git", "branch", "--move", "main")
    return clone


@pytest.fixture(scope="module")
def first(clone: Clone) -> str:
    return clone("dvc", "exp", "run", "--name", "first")


@pytest.fixture(scope="module")
def live(clone: Clone, first: str) -> Iterator[subprocess.Popen]:
    """A run of another seed that is held in its first cycle."""
    with open(clone.folder.parent / "live.log", "w") as log:
        run = subprocess.Popen(
            ["dvc", "exp", "run", "--name", "live", "-S", "seed=1"],
            cwd=clone.folder,
            env=clone.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        # The cycle has begun once nothing of the first run is shown. DVC itself puts main's file there for a moment.
        _wait(lambda: "launch cycle 0\n" in _log(clone) and clone.read("metrics/summary.json") == "{}\n", run)
        for process in _stages(clone):
            process.send_signal(signal.SIGSTOP)
        yield run
    finally:
        for process in _stages(clone):
            process.send_signal(signal.SIGCONT)
        run.terminate()
        run.wait()


def _wait(is_true: Callable[[], bool], run: subprocess.Popen | None = None) -> None:
    """Wait for something to become true while a run, where one is given, is going on."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert run is None or run.poll() is None, f"it ended with {run.returncode}"
        assert time.monotonic() < deadline, "a minute has passed"
        time.sleep(0.01)


def _log(clone: Clone) -> str:
    """What the run that is going on has printed."""
    return (clone.folder.parent / "live.log").read_text()


def _stages(clone: Clone) -> list[psutil.Process]:
    """The processes of the stage at work: the one that DVC waits for, and the one that computes."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(clone.folder) and "lab.process.launch" in process.cmdline():
                found.append(process)
    return found


def _reference(clone: Clone, name: str) -> str:
    return clone("git", "for-each-ref", f"refs/exps/*/*/{name}", "--format=%(refname)").strip()


def _file(clone: Clone, name: str, path: str) -> str:
    """A file of an experiment, as Git has it."""
    return clone("git", "show", f"{_reference(clone, name)}:{path}")


def _rows(clone: Clone, *arguments: str) -> dict[str, dict]:
    """The rows of `dvc exp show`: name → data; no cell of any is an error."""
    printed = clone("dvc", "exp", "show", *arguments, "--json")
    assert '"error": {' not in printed and '"type":' not in printed
    rows = {}
    for commit in json.loads(printed):
        rows[commit["name"] or commit["rev"]] = commit["data"]
        for experiment in commit["experiments"] or []:
            rows[experiment["name"]] = experiment["revs"][0]["data"] | {"executor": experiment["executor"]}
    return rows


def _plots(clone: Clone, *arguments: str) -> dict[str, list[dict]]:
    """What `dvc plots` shows, by name. Where the contact sheet is in no cache, DVC says so ahead of the JSON."""
    printed = clone("dvc", "plots", *arguments, "--json")
    return json.loads(printed[printed.index("{") :])["data"]


def _accuracy(row: dict) -> float | None:
    return row["metrics"]["metrics/summary.json"]["data"].get("accuracy")


def _stages_run(log: str) -> list[str]:
    return [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")]


def test_every_command_works_before_the_first_run(clone: Clone) -> None:
    fresh = clone.beside("fresh")
    rows = _rows(fresh)
    assert {name: _accuracy(row) for name, row in rows.items()} == {"workspace": None, "main": None}
    for command in ("status", "diff", "metrics show", "metrics diff", "params diff", "data status", "stage list"):
        fresh("dvc", *command.split())
    assert _plots(fresh, "show") == {name: [] for name in PLOTS}
    assert dvc.api.metrics_show(repo=str(fresh.folder), rev="main") == {}
    assert fresh("git", "status", "--porcelain") == ""


def test_a_run_leaves_nothing_untracked(clone: Clone, first: str) -> None:
    changed = {"dvc.lock", "metrics/costs.csv", "metrics/summary.json", *TABLES}
    assert clone("git", "status", "--porcelain", "--untracked-files=all") == "".join(
        f" M {file}\n" for file in sorted(changed)
    )
    assert set(clone("git", "diff", "--name-only", "main", _reference(clone, "first")).split()) == changed


def test_every_call_of_an_editor_is_answered(clone: Clone, first: str) -> None:
    for call in READS:
        clone("dvc", *call.split())
    rows = _rows(clone, "--num", "2")
    assert _accuracy(rows["workspace"]) == _accuracy(rows["first"]) is not None
    assert _accuracy(rows["main"]) is None


def test_tables_show_one_value_a_column(clone: Clone, first: str) -> None:
    params = _rows(clone)["workspace"]["params"]
    assert set(params) == {"params.yaml"}

    def check(value: object) -> None:
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            assert not (isinstance(value, list) and isinstance(inner, dict)), f"{value} would be [object Object]"
            check(inner)

    check(params["params.yaml"]["data"])


def test_plots_take_the_size_and_colours_of_the_editor(clone: Clone, first: str) -> None:
    data = _plots(clone, "diff", "first", "main", "--split")
    assert set(data) == PLOTS
    del data["plots/contact_sheet.png"]
    for [plot] in data.values():
        content = json.dumps(plot["content"])
        anchors = {"DATA", "PLOT_WIDTH", "PLOT_HEIGHT", "TITLE"} | ({"COLOR"} if '"facet"' not in content else set())
        for anchor in anchors | ({"ZOOM_AND_PAN"} if '"line"' in content else set()):
            assert f'"<DVC_METRIC_{anchor}>"' in content, anchor


def test_exp_save_keeps_metrics_and_plots(clone: Clone, first: str) -> None:
    clone("dvc", "exp", "save", "--name", "saved")
    for file in ("dvc.lock", "metrics/summary.json", "metrics/costs.csv", *TABLES):
        assert _file(clone, "saved", file) == _file(clone, "first", file) == clone.read(file)
    assert dvc.api.metrics_show(repo=str(clone.folder), rev="saved") == json.loads(clone.read("metrics/summary.json"))


def test_the_branch_of_an_experiment_is_checked_out(clone: Clone, first: str) -> None:
    other = clone.beside("other")
    other("dvc", "cache", "dir", "--local", str(clone.folder / ".dvc/cache"))
    other("dvc", "exp", "pull", "--no-cache", "origin", "first")
    other("dvc", "exp", "branch", "first", "first-branch")
    other("git", "checkout", "--quiet", "first-branch")
    other("dvc", "checkout")
    assert "up to date" in other("dvc", "status")
    assert _stages_run(other("dvc", "repro")) == []
    assert other("git", "status", "--porcelain") == ""
    other("git", "checkout", "--quiet", "main")
    assert other.read("metrics/summary.json") == "{}\n"
    # Over the results of another run Git refuses, as over any edit, until they are put aside.
    other("dvc", "exp", "apply", "first")
    other("git", "stash")
    other("git", "checkout", "--quiet", "first-branch")


def test_experiments_travel_without_their_cache(clone: Clone, first: str, tmp_path: Path) -> None:
    bare = str(tmp_path / "bare.git")
    clone("git", "clone", "--quiet", "--bare", str(clone.folder), bare)
    clone("git", "remote", "add", "bare", bare)
    clone("dvc", "exp", "push", "--no-cache", "bare", "first")
    clone("git", "remote", "remove", "bare")
    other = copy(clone)
    other.folder = tmp_path / "other"
    clone("git", "clone", "--quiet", bare, str(other.folder))
    other("dvc", "exp", "pull", "--no-cache", "origin", "first")
    assert _accuracy(_rows(other)["first"]) == _accuracy(_rows(clone)["first"])
    plots = _plots(other, "diff", "first", "--split")
    assert len(plots["plots/curve.csv"][0]["anchor_definitions"]["<DVC_METRIC_DATA>"]) == 2


def test_a_run_that_is_going_on_is_shown_without_the_last_one_s_figures(clone: Clone, live: subprocess.Popen) -> None:
    for call in READS:
        clone("dvc", *call.split())
    row = _rows(clone)["live"]
    assert row["executor"]["state"] == "running"
    assert row["params"]["params.yaml"]["data"]["seed"] == 1
    assert _accuracy(row) is None


def test_other_runs_queue_beside_one_that_is_going_on(clone: Clone, live: subprocess.Popen) -> None:
    clone("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "seed=5")
    assert "queued" in clone("dvc", "queue", "status")
    clone("dvc", "exp", "remove", "--queue")
    # Its cycles are those of the first run.
    log = clone("dvc", "exp", "run", "--temp", "--name", "beside", "-S", "seed=0")
    assert _stages_run(log)[:1] != ["cycle@0"]
    assert _file(clone, "beside", "metrics/summary.json") == _file(clone, "first", "metrics/summary.json")


def test_a_second_run_in_the_workspace_is_refused(clone: Clone, live: subprocess.Popen) -> None:
    log = clone("dvc", "exp", "run", "--name", "second", "-S", "seed=7", "-S", setting(1), fails=True)
    assert _stages_run(log) == ["check"]
    assert f"another run is at work in this workspace (process {live.pid})" in log
    assert "`dvc exp run --temp` or `--queue`" in log
    assert yaml.safe_load(clone.read("params.yaml"))["seed"] == 1
    assert yaml.safe_load(clone.read("params.yaml"))["cycles"] == pairs(2)
    # DVC restores what the first experiment checked without running it, and is refused at the first cycle.
    log = clone("dvc", "exp", "run", "--name", "second", "-S", "seed=0", fails=True)
    assert _stages_run(log) == []
    assert f"(PID {live.pid})" in log
    # Where its params are those of the first one, DVC has the first word.
    assert f"(PID {live.pid})" in clone("dvc", "exp", "run", "--name", "second", fails=True)
    assert f"(PID {live.pid})" in clone("dvc", "repro", fails=True)


def test_the_first_run_survives_and_is_saved_with_its_own_params(clone: Clone, live: subprocess.Popen) -> None:
    path = clone.folder / PARAMS_FILE
    # An edit by hand, into the cycle at work.
    path.write_text(re.sub(r"^seed: \d+$", "seed: 8", path.read_text(), flags=re.MULTILINE))
    for process in _stages(clone):
        process.send_signal(signal.SIGCONT)
    assert live.wait() == 0
    [put_aside] = re.findall(r"warning: params.yaml was changed .* what it said is in (\S+)\.yaml\.", _log(clone))
    assert "seed: 8" in clone.read(f"{put_aside}.yaml")
    assert "seed: 8" not in clone.read("params.yaml")
    assert _file(clone, "live", "params.yaml") == clone.read("params.yaml")
    stages = yaml.safe_load(_file(clone, "live", "dvc.lock"))["stages"]
    assert {stage["params"]["params.yaml"]["seed"] for name, stage in stages.items() if "cycle" in name} == {1}
    assert clone("git", "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert _reference(clone, "second") == ""
    # The second run's choices stand under the stage check, which DVC restored for it. They run no cycle again.
    assert _stages_run(clone("dvc", "repro")) == []
    undisturbed = clone.beside("undisturbed")
    undisturbed("dvc", "exp", "run", "--quiet", "-S", "seed=1")
    assert undisturbed.output_hashes() == clone.output_hashes()


def test_leftover_cycles_leave_no_trace(clone: Clone, live: subprocess.Popen) -> None:
    of_two = yaml.safe_load(clone.read("dvc.lock"))["stages"]
    clone("dvc", "exp", "run", "--quiet", "-S", setting(3))
    assert _stages_run(clone("dvc", "exp", "run", "-S", setting(2))) == []
    assert _stages_run(clone("dvc", "repro")) == []
    stages = yaml.safe_load(clone.read("dvc.lock"))["stages"]
    # DVC itself forgets no stage; nothing reads one that dvc.yaml does not have.
    assert stages.pop("cycle@2")
    assert stages == of_two
    assert clone("dvc", "stage", "list", "--name-only").split() == list(of_two)


def test_every_change_that_an_editor_makes_works(clone: Clone, live: subprocess.Popen, tmp_path: Path) -> None:
    def call(line: str) -> str:
        return clone("dvc", *line.split())

    clone("git", "clone", "--quiet", "--bare", str(clone.folder), str(tmp_path / "origin.git"))
    clone("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    call("config --local exp.auto_push false")
    call(f"remote add --local second {tmp_path / 'second'}")
    call(f"remote modify --local second url {tmp_path / 'store'}")
    call("remote rename --local second third")
    call("remote default --local third")
    call("exp apply live")
    call("commit -f")
    assert "up to date" in call("status")
    call("push data/prepared")
    call("pull data/prepared")
    call("push")
    (clone.folder / "plots/accuracy_vs_budget.png").unlink()
    call("checkout plots/accuracy_vs_budget.png")
    call("checkout -f")
    assert (clone.folder / "plots/accuracy_vs_budget.png").exists()
    call("exp push origin live first")
    call("exp rename beside renamed")
    call("exp branch renamed of-renamed")
    assert clone("git", "show", "of-renamed:metrics/summary.json") == _file(clone, "first", "metrics/summary.json")
    clone("git", "reset", "--quiet", "--hard", "HEAD")
    clone("git", "clean", "-f", "-d", "-q")
    call("exp apply first")
    call("exp run --queue --name queued")
    call("queue start --jobs 1")
    _wait(lambda: "Success" in call("queue status"))
    assert "queued" in call("queue logs queued")
    call("queue stop")
    assert dvc.api.metrics_show(repo=str(clone.folder), rev="queued") == dvc.api.metrics_show(
        repo=str(clone.folder), rev="first"
    )
    # Long enough to be killed.
    call("exp run --queue --name killed -S seed=9 -S protocols.demo.training.epochs=3000")
    # The worker holds what it inherits open: a pipe would be read until it ends.
    clone("sh", "-c", "dvc queue start --jobs 1 > /dev/null 2>&1")
    _wait(lambda: "Running" in call("queue status"))
    # DVC misses a signal that comes before its first stage.
    _wait(lambda: "launch cycle 0" in call("queue logs killed"))
    call("queue kill killed")
    _wait(lambda: "Running" not in call("queue status"))
    assert _reference(clone, "killed") == ""
    call("exp remove renamed queued")
    assert _reference(clone, "renamed") == _reference(clone, "queued") == ""
    assert _reference(clone, "first")
    # Data of the user's own, and another project below this one.
    (clone.folder / "extra.bin").write_text("more")
    (clone.folder / "below").mkdir()
    call("add extra.bin")
    call("move extra.bin moved.bin")
    call("remove moved.bin.dvc")
    clone("sh", "-c", "cd below && dvc init --subdir --quiet")
    assert "up to date" in call("status")
    clone("git", "reset", "--quiet", "--hard", "HEAD")
    clone("git", "clean", "-f", "-d", "-q")


def test_results_computed_again_after_gc_are_those_of_everybody(
    clone: Clone, live: subprocess.Popen, tmp_path: Path
) -> None:
    clone("dvc", "remote", "add", "--default", "--local", "store", str(tmp_path))
    clone("dvc", "exp", "apply", "live")
    clone("dvc", "gc", "--workspace", "--force")
    assert "missing-files" in clone("dvc", "exp", "apply", "first", fails=True)
    printed = clone("python", "-m", "lab.verify", "first", fails=True)
    assert "is missing" in printed
    assert "is wrong too" not in printed
    assert {"cycle@0", "cycle@1"} <= set(_stages_run(clone("dvc", "repro")))
    assert clone.read("dvc.lock") == _file(clone, "first", "dvc.lock")
    clone("dvc", "push", "--quiet")
    other = clone.beside("elsewhere")
    other("dvc", "remote", "add", "--default", "--local", "store", str(tmp_path))
    other("dvc", "exp", "pull", "origin", "first")
    other("dvc", "exp", "apply", "first")
    assert _stages_run(other("dvc", "repro")) == []
    assert "up to date" in other("dvc", "status")
