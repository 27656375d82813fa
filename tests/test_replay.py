"""Replay: a run acquires what another run acquired, with its module or without, or says why it cannot."""

import hashlib
import json
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from dvc.cli import DvcParserError, parse_args
from dvc.repo import Repo

from lab import params, replay
from lab.cycles import pairs
from lab.data import labelled
from lab.errors import BadInput
from lab.host import Host
from lab.query import replayed
from stages import replay as stage
from tests.conftest import ROOT, Clone, read_params, write_params
from tests.test_cycle import change, change_protocol, results, run
from tests.test_pipeline import settings, stages_run

POOLS = [labelled.path_of(number) for number in range(3)]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def other(laboratory: Path) -> list[bytes]:
    """The labelled pools of two cycles of loss prediction, in DVC's cache alone; params replay that run."""
    change(cycles=pairs(2))
    change_protocol("query", pool_subset=20)
    for number in range(2):
        run(number)
    Repo.init(no_scm=True).add([path.as_posix() for path in POOLS])
    contents, hashes = [path.read_bytes() for path in POOLS], [md5(path) for path in POOLS]
    for path in POOLS[1:]:
        path.unlink()
    shutil.rmtree("data/replayed")
    change(strategy="replay", replay={"dataset": "cifar10", "strategy": "loss_prediction", "sets": hashes})
    return contents


@pytest.mark.parametrize("strategy", ["replay", "replay_without_module"])
def test_the_same_images_are_acquired_in_the_same_order_with_the_same_scores(other: list[bytes], strategy: str) -> None:
    # Another seed draws another subset of the pool, in which not all of them are.
    change(strategy=strategy, optim="adam", seed=1)
    stage.main(Host())
    for number in range(2):
        run(number)
    assert [path.read_bytes() for path in POOLS] == other
    for number in range(2):
        assert (results(number)["module_parameters"] > 0) == (strategy == "replay")
        assert (results(number)["loss_spearman"] is not None) == (strategy == "replay")


def test_a_run_of_fewer_cycles_replays_the_first_ones(other: list[bytes]) -> None:
    change(cycles=pairs(1))
    stage.main(Host())
    assert [file.name for file in Path("data/replayed").iterdir()] == ["1.csv"]
    assert replayed.path_of(1).read_bytes() == other[1]


@pytest.mark.parametrize("strategy", ["random", "loss_prediction"])
def test_a_run_that_replays_nothing_has_files_without_images(laboratory: Path, strategy: str) -> None:
    change(strategy=strategy, cycles=pairs(3))
    stage.main(Host())
    contents = {replayed.path_of(number).read_bytes() for number in (1, 2, 3)}
    assert contents == {b"index,cycle,score\n"}
    for path in Path("data/replayed").iterdir():
        assert len(labelled.read(path)) == 0


def test_another_cold_start_is_refused(other: list[bytes]) -> None:
    labelled.path_of(0).write_text(labelled.path_of(0).read_text().replace("\n31,0", "\n32,0"))
    with pytest.raises(BadInput, match=r"replay\.sets\[0\]: the run .* began with another labelled set; .*cold_start"):
        stage.main(Host())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (4, r"replay\.sets\[1\]: the run that is replayed acquired \[6, 5\] images, .* would acquire \[6, 4\]; choose"),
        ([5, 6], r"replay\.sets\[2\]: .* acquired \[6, 5, 5\] images, .*\[6, 5, 6\]; choose the cold_start and query"),
    ],
)
def test_other_query_sizes_are_refused(other: list[bytes], labels: int | list[int], message: str) -> None:
    change_protocol("query", labels=labels)
    with pytest.raises(BadInput, match=message):
        stage.main(Host())


def test_a_labelled_set_that_is_in_no_cache_is_refused(other: list[bytes]) -> None:
    values = read_params()
    for missing in (1, 2):
        sets = [*values["replay"]["sets"]]
        sets[missing] = "0" * 32
        change(replay=values["replay"] | {"sets": sets})
        with pytest.raises(BadInput, match=rf"replay\.sets\[{missing}\] = 0{{32}}: in no cache and no remote; .*`dvc"):
            stage.main(Host())


def test_a_labelled_set_is_fetched_from_the_remote(other: list[bytes], tmp_path: Path) -> None:
    (tmp_path / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    remote = store\n['remote \"store\"']\n    url = ../store\n"
    )
    repo = Repo()
    repo.push()
    shutil.rmtree(repo.cache.local.path)
    stage.main(Host())
    assert [replayed.path_of(number).read_bytes() for number in (1, 2)] == other[1:]


class Commits:
    """A Git repository in the current folder, with runs as commits."""

    def __init__(self) -> None:
        self("init", "--quiet")

    def __call__(self, *arguments: str) -> str:
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        return subprocess.check_output(["git", *who, *arguments], text=True).strip()

    def run(self, finished: int = 3, **changes: object) -> str:
        """The commit of a run of two cycles, which has so many labelled sets."""
        write_params({**params.read(ROOT / "params.yaml"), "cycles": pairs(2), **changes})
        outs = [{"path": path.as_posix(), "md5": str(number) * 32} for number, path in enumerate(POOLS)][:finished]
        stages = {"cold_start": {"outs": outs[:1]}, "cycle@0": {"outs": outs[1:2]}, "cycle@1": {"outs": outs[2:]}}
        Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
        self("add", "--all")
        self("commit", "--quiet", "--allow-empty", "-m", "run")
        return self("rev-parse", "HEAD")


@pytest.fixture
def commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commits:
    monkeypatch.chdir(tmp_path)
    return Commits()


SETS = [str(number) * 32 for number in range(3)]


@pytest.mark.parametrize(
    ("chosen", "source", "strategy"),
    [
        ("loss_prediction", "loss_prediction", "replay"),
        ("random", "random", "replay"),
        ("random_without_module", "random_without_module", "replay_without_module"),
        ("replay", "random", "replay"),
        ("replay_without_module", "random_without_module", "replay_without_module"),
    ],
)
def test_a_run_is_replayed_with_the_module_as_it_was_trained(
    commits: Commits, chosen: str, source: str, strategy: str
) -> None:
    block = {"dataset": "digits", "strategy": source, "sets": SETS}
    commit = commits.run(strategy=chosen, dataset="digits", replay=block)
    assert replay.settings_of(commit) == {"strategy": strategy, "replay": block}


def test_what_is_printed_sets_what_the_check_accepts(
    commits: Commits, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = commits.run(strategy="random", dataset="digits")
    monkeypatch.setattr(sys, "argv", ["replay", commit])
    replay.main()
    words = capsys.readouterr().out.split()
    assert parse_args(["exp", "run", *words]).set_param == [
        "strategy=replay",
        "replay={dataset:digits,strategy:random,sets:[" + ",".join(f"'{name}'" for name in SETS) + "]}",
    ]


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_run_that_is_not_finished_is_refused(commits: Commits, finished: int) -> None:
    commit = commits.run(finished)
    with pytest.raises(BadInput, match=rf"no data/labelled/{finished}\.csv; name a run that is finished"):
        replay.settings_of(commit)


def test_a_name_is_an_experiment_of_head_or_else_of_any_commit_or_a_commit(commits: Commits) -> None:
    first, second = commits.run(), commits.run(seed=1)
    for base, name, commit in ((first, "both", first), (second, "both", second), (first, "old", first)):
        commits("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", commit)
    assert replay.commit_of("both") == second
    assert replay.commit_of("old") == first
    assert replay.commit_of(first[:9]) == replay.commit_of("HEAD~1") == first
    commits.run(seed=2)
    with pytest.raises(BadInput, match="both: 2 experiments have this name; name a commit"):
        replay.commit_of("both")
    with pytest.raises(BadInput, match="nothing: no experiment or commit has this name; `dvc exp list`"):
        replay.commit_of("nothing")


@pytest.mark.parametrize("name", ["nothing", "unfinished"])
def test_a_run_that_cannot_be_replayed_lets_dvc_refuse_its_options(
    commits: Commits, name: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits.run(finished=1)
    commits("tag", "unfinished")
    monkeypatch.setattr(sys, "argv", ["replay", name])
    with pytest.raises(BadInput, match=rf"{name}|dvc\.lock has no"):
        replay.main()
    words = capsys.readouterr().out.split()
    with pytest.raises(DvcParserError):
        parse_args(["exp", "run", *words, "-S", "optim=adam"])


@pytest.fixture(scope="module")
def chosen_by_sgd(clone: Clone) -> Clone:
    clone("dvc", "exp", "run", "--quiet", "--name", "by-sgd", *settings(2))
    return clone


def replays(clone: Clone, name: str, *options: str, fails: bool = False) -> str:
    # What SMALL sets but the strategy, which the replayed run sets.
    small = [option for option in settings(2) if not option.startswith(("-S", "strategy="))]
    words = [*chain.from_iterable(("-S", f"'{option}'") for option in small), *options]
    return clone("bash", "-c", f"dvc exp run $(python -m lab.replay {name}) {' '.join(words)}", fails=fails)


@pytest.mark.pipeline
@pytest.mark.parametrize(("how", "seed"), [("", 1), ("--temp", 2)])
def test_a_run_is_replayed_through_dvc(chosen_by_sgd: Clone, how: str, seed: int) -> None:
    clone = chosen_by_sgd
    clone("git", "checkout", "--quiet", "--force", ".")
    log = replays(clone, "by-sgd", how, "-n", f"replayed{how}", "-S", "optim=adam", "-S", f"seed={seed}")
    assert stages_run(log)[-4:] == ["cycle@0", "cycle@1", "summarise", "plot"]
    before, after = (outputs_of(clone, name) for name in ("by-sgd", f"replayed{how}"))
    for path in POOLS:
        assert after[path.as_posix()] == before[path.as_posix()]
    assert after["metrics/history/2.json"] != before["metrics/history/2.json"]


def outputs_of(clone: Clone, experiment: str) -> dict[str, str]:
    """The hash of every output of an experiment."""
    commit = clone("git", "for-each-ref", f"refs/exps/*/*/{experiment}", "--format=%(objectname)").strip()
    lock = params.parse(clone("git", "show", f"{commit}:dvc.lock"))
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


@pytest.mark.pipeline
def test_an_unknown_run_is_not_replayed_and_nothing_else_is_run(chosen_by_sgd: Clone) -> None:
    clone = chosen_by_sgd
    clone("git", "checkout", "--quiet", "--force", ".")
    log = replays(clone, "by-sdg", fails=True)
    assert "error: by-sdg: no experiment or commit has this name" in log
    assert stages_run(log) == []
    assert clone("git", "status", "--porcelain") == ""
