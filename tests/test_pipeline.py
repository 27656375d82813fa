"""The pipeline end to end, through DVC itself, on digits: in this order, each test builds on the runs before it."""

import json
import os
import signal
from itertools import chain

import dvc.api
import numpy as np
import pandas as pd
import pytest

from lab.cycles import setting
from lab.data import prepared
from lab.report import compare, plots_page
from lab.training import weights
from tests.conftest import PLOTS, RESULTS_OF_TWO_CYCLES, TABLES, Clone

pytestmark = pytest.mark.pipeline

SMALL = {
    "optim": "sgd",
    "arch": "resnet18",
    "strategy": "loss_prediction",
    "protocol": "demo",
    "dataset": "digits",
    "protocols.demo.width": 4,
    "protocols.demo.training.epochs": 1,
    "schedule": "constant",
    "protocols.demo.loss_prediction.detach_at": 1,
}


def settings(count: int, **changes: object) -> list[str]:
    """The options of a run of so many small cycles."""
    chosen = [f"{key}={value}" for key, value in {**SMALL, **changes}.items()]
    return list(chain.from_iterable(("-S", option) for option in [*chosen, setting(count)]))


def stages_run(log: str) -> list[str]:
    return [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def first(clone: Clone) -> str:
    """What the first run printed: two cycles with SGD."""
    return clone("dvc", "exp", "run", "--name", "first", *settings(2))


@pytest.fixture(scope="module")
def longer(clone: Clone, first: str) -> str:
    return clone("dvc", "exp", "run", "--name", "longer", *settings(3))


@pytest.fixture(scope="module")
def adamw(clone: Clone, first: str) -> str:
    return clone("dvc", "exp", "run", "--name", "adamw", *settings(2, optim="adamw"))


def test_a_run_goes_through_all_stages(clone: Clone, first: str) -> None:
    assert stages_run(first) == [
        "check",
        "download",
        "prepare",
        "cold_start",
        "replay",
        "answers",
        "cycle@0",
        "cycle@1",
        "summarise",
        "plot",
    ]
    assert "cycle 1, 60 labels, training: 1 of 1 epochs, loss" in first
    curve = pd.read_csv(clone.folder / "plots/curve.csv")
    assert curve["labels"].tolist() == [20, 60]
    assert curve["accuracy"].between(0, 1).all()
    assert curve["label_efficiency"].isna().tolist() == [True, False]
    assert json.loads(clone.read("metrics/summary.json"))["accuracy"] == curve["accuracy"].iloc[-1]
    assert len(pd.read_csv(clone.folder / "data/labelled/2.csv")) == 100
    assert (clone.folder / "plots/accuracy_vs_budget.png").exists()
    assert stages_run(clone("dvc", "repro")) == [], "a second time runs nothing"


def test_outputs_stay_out_of_git(clone: Clone, first: str) -> None:
    changed = clone("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert sorted(changed) == [
        " M dvc.lock",
        " M metrics/costs.csv",
        " M metrics/summary.json",
        " M params.yaml",
        *sorted(f" M {table}" for table in TABLES),
    ]


def test_settings_of_another_optimizer_leave_a_run_valid(clone: Clone, first: str) -> None:
    assert stages_run(clone("dvc", "exp", "run", *settings(2, **{"optimizers.adamw.lr": 0.5}))) == []
    changed = clone("dvc", "exp", "run", *settings(2, **{"optimizers.sgd.lr": "5e-5", "optimizers.adamw.lr": 0.001}))
    assert stages_run(changed)[:2] == ["cycle@0", "cycle@1"]
    clone("git", "checkout", "params.yaml")


def test_more_cycles_reuse_those_done(clone: Clone, longer: str) -> None:
    assert stages_run(longer) == ["check", "replay", "answers", "cycle@2", "summarise", "plot"]
    assert pd.read_csv(clone.folder / "plots/curve.csv")["labels"].tolist() == [20, 60, 100]


def test_fewer_cycles_run_none_and_leave_no_trace_of_the_others(clone: Clone, first: str) -> None:
    log = clone("dvc", "exp", "run", "--name", "shorter", *settings(1))
    assert stages_run(log) == ["check", "replay", "answers", "summarise", "plot"]
    assert pd.read_csv(clone.folder / "plots/curve.csv")["labels"].tolist() == [20]


def test_networks_are_files_where_they_are_asked_for(clone: Clone, first: str) -> None:
    clone("dvc", "exp", "run", "--quiet", *settings(2))
    assert not (clone.folder / "data/networks").exists()
    log = clone("dvc", "exp", "run", "--name", "kept", *settings(2, networks="[0,1]"))
    assert stages_run(log) == ["check", "network@0", "network@1"]
    found = weights.read(clone.folder / "data/networks/1.safetensors")
    test = prepared.read_split("test", clone.folder / prepared.FOLDER)
    logits = found.predict(test.images, np.arange(len(test.labels)), lambda count: None).logits
    accuracy = json.loads(clone.read("metrics/summary.json"))["accuracy"]
    # Computed here by another process, maybe with other threads: one image may be a tie but for rounding.
    assert (logits.argmax(axis=1) == test.labels).mean() == pytest.approx(accuracy, abs=0.0021)
    # What -S set stays in params.yaml.
    assert stages_run(clone("dvc", "exp", "run", *settings(2, networks="[]"))) == []


def test_another_optimizer_starts_from_the_same_set(clone: Clone, adamw: str) -> None:
    assert stages_run(adamw) == ["check", "cycle@0", "cycle@1", "summarise", "plot"]
    first_set = dvc.api.read("data/labelled/0.csv", repo=str(clone.folder), rev="first")
    assert clone.read("data/labelled/0.csv") == first_set


@pytest.mark.parametrize(("seed", "first_stale"), [("seed", "cycle@0"), ("cold_start_seed", "cold_start")])
def test_seeds_of_model_and_first_set_are_apart(clone: Clone, first: str, seed: str, first_stale: str) -> None:
    text = clone.read("params.yaml")
    (clone.folder / "params.yaml").write_text(text.replace(f"\n{seed}: 0", f"\n{seed}: 1"))
    log = clone("dvc", "repro", "--dry")
    (clone.folder / "params.yaml").write_text(text)
    assert stages_run(log)[:2] == ["check", first_stale]


def test_experiments_are_compared(clone: Clone, adamw: str) -> None:
    data = json.loads(clone("dvc", "plots", "diff", "first", "adamw", "--json", "--split"))["data"]
    assert set(data) == PLOTS
    assert {plot["revisions"][0] for plot in data["plots/contact_sheet.png"]} == {"first", "adamw"}
    assert "facet" in data["plots/confusion.csv"][0]["content"]
    values = data["plots/curve.csv"][0]["anchor_definitions"]["<DVC_METRIC_DATA>"]
    assert [(row["rev"], row["labels"]) for row in values] == [
        ("first", "20"),
        ("first", "60"),
        ("adamw", "20"),
        ("adamw", "60"),
    ]
    assert "area_under_budget_curve" in clone("dvc", "metrics", "diff", "first", "adamw")


def test_the_page_of_plots_needs_no_internet(clone: Clone, adamw: str) -> None:
    clone("python", "-m", plots_page.__name__, "page.html")
    clone("dvc", "plots", "diff", "first", "adamw", "--html-template", str(clone.folder / "page.html"))
    page = clone.read("dvc_plots/index.html")
    assert 'src="http' not in page
    assert len(page.split("<div", 1)[0]) > 500_000, "Vega itself stands ahead of the first plot"
    assert '"rev": "adamw"' in page


def test_the_comparison_is_a_table_and_a_picture(clone: Clone, adamw: str, longer: str) -> None:
    printed = clone("python", "-m", compare.__name__, "first", "adamw", "longer", "--out", "compared/a.png")
    rows = [line.split() for line in printed.splitlines()]
    assert ["first", "adamw", "longer"] in rows
    assert next(row for row in rows if row[:1] == ["100"])[1:3] == ["–", "–"]
    assert (clone.folder / "compared/a.png").read_bytes().startswith(b"\x89PNG")
    refused = clone("python", "-m", compare.__name__, "first", "nothing", "--out", "a.png", fails=True)
    assert refused.startswith("error: nothing: no finished run of that name")


def test_a_bad_param_loses_nothing(clone: Clone, adamw: str) -> None:
    clone("dvc", "exp", "run", *settings(2, optim="adamw"))
    before = clone.output_hashes()
    for change, message in {
        "arch=resnet19": "arch = 'resnet19': choose from resnet18, resnet34, resnet50",
        "strategy=entropie": "strategy = 'entropie': choose from",
        "protocol=full": "protocol = 'full': choose from paper, cpu, cpu_study, two_cores, demo",
        "optim=sdg": "optim = 'sdg': choose from sgd, adam, adamw, rmsprop, adam_then_sgd, sgd_tuned, adam_tuned, "
        "adam_then_sgd_tuned (did you mean sgd?)",
        "dataset=my.images": "dataset = 'my.images': choose from cifar10, digits, cells",
    }.items():
        assert message in clone("dvc", "exp", "run", *settings(2, optim="adamw"), "-S", change, fails=True)
        assert clone.output_hashes() == before
    assert stages_run(clone("dvc", "exp", "run", *settings(2, optim="adamw"))) == []
    assert clone.output_hashes() == before


def test_the_first_stage_of_a_fresh_clone_refuses_every_param(
    clone: Clone, first: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fresh = Clone(tmp_path_factory.mktemp("fresh"))
    log = fresh("dvc", "exp", "run", *settings(2, optim="sdg"), fails=True)
    assert "optim = 'sdg': choose from sgd, adam, adamw, rmsprop" in log
    assert stages_run(log) == ["check"]


def test_a_killed_run_goes_on_at_its_cycle_with_the_same_results(
    clone: Clone, first: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fresh = Clone(tmp_path_factory.mktemp("killed"))
    clone("dvc", "exp", "run", *settings(2))
    (fresh.folder / "params.yaml").write_text(clone.read("params.yaml"))
    with fresh.start() as run:
        while "lab.process.launch cycle 1" not in run.stdout.readline():
            assert run.poll() is None, "it ended before cycle 1"
        os.killpg(run.pid, signal.SIGKILL)
    assert stages_run(fresh("dvc", "repro")) == ["cycle@1", "summarise", "plot"]
    # The same commit, params and machine give the same results, here with a cache of its own.
    assert set(fresh.results()) == RESULTS_OF_TWO_CYCLES
    # The other lock file may still name cycles of a longer run.
    assert fresh.results().items() <= clone.results().items()
