"""What is drawn and summarised from the cycles' files."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lab.data import labelled
from lab.data.files import write_json
from lab.process.ending import BadInput
from lab.report import compare
from stages import plot, summarise
from tests.conftest import read_params, write_params

ACCURACY = [0.5, 0.6, 0.8]


@pytest.fixture
def finished(laboratory: Path) -> Path:
    """Three finished cycles with made-up figures, and a fourth left over from a longer run."""
    write_params({**read_params(), "cycles": [{"this": number, "next": number + 1} for number in range(3)]})
    pool = labelled.cold_start(pd.Series([0, 1]).to_numpy())
    for number, accuracy in enumerate([*ACCURACY, 0.99]):
        labelled.write(pool, labelled.path_of(number))
        pool = labelled.extend(pool, pd.Series([10 + number]).to_numpy(), pd.Series([0.5]).to_numpy())
        row = {"cycle": number, "labels": 1000 * (number + 1)}
        found = {"loss_spearman": 0.5, "loss_pair_accuracy": None, "acquired_classes": [1, 0]}
        counts = {"parameters": 7, "flops": 70, "training_images": 10}
        write_json(summarise.RESULTS / f"{number}.json", {**row, "accuracy": accuracy, **counts, **found})
        seconds = {"training_seconds": 2.0, "evaluation_seconds": 1.0, "query_seconds": 0.5}
        machine = {name: name for name in ("host", "device", "instructions", "torch", "python")} | {"threads": 2}
        cost = {**row, **seconds, "images_per_second": number, "peak_memory_mb": 10.0 * number, **machine}
        write_json(summarise.COSTS / f"{number}.json", cost)
    return laboratory


def test_summary_and_curve(finished: Path) -> None:
    summarise.main()
    assert json.loads(summarise.SUMMARY.read_text()) == {
        "labels": 3000,
        "accuracy": 0.8,
        "area_under_budget_curve": pytest.approx(0.625),
        "label_efficiency": pytest.approx(1.5e-4),
        "target_accuracy": 0.9,
        "labels_to_target": "not reached",
        "parameters": 7,
    }
    # undefined at the cold start, and shown so
    header, first, *_ = summarise.CURVE.read_text().splitlines()
    assert header.startswith("cycle,labels,accuracy,label_efficiency,loss_spearman,loss_pair_accuracy,")
    assert first.startswith("0,1000,0.5,nan,0.5,nan,")
    assert pd.read_csv(summarise.CURVE)["acquired_classes"].map(json.loads).tolist() == [[1, 0]] * 3
    assert pd.read_csv(summarise.CURVE)["accuracy"].tolist() == ACCURACY
    costs = json.loads(summarise.COSTS_SUMMARY.read_text())
    assert pd.read_csv(summarise.COSTS_CURVE)["threads"].tolist() == [2, 2, 2]
    assert costs == {
        "training_seconds": 6.0,
        "evaluation_seconds": 3.0,
        "query_seconds": 1.5,
        "images_per_second": 1,
        "peak_memory_mb": 20.0,
    }


def test_a_reached_target_is_the_labels_it_took(finished: Path) -> None:
    params = read_params()
    params["protocols"]["demo"]["target_accuracy"] = 0.6
    write_params(params)
    summarise.main()
    assert json.loads(summarise.SUMMARY.read_text())["labels_to_target"] == 2000


def test_a_single_cycle_has_no_area_and_no_efficiency(finished: Path) -> None:
    write_params({**read_params(), "cycles": [{"this": 0, "next": 1}]})
    summarise.main()
    summary = json.loads(summarise.SUMMARY.read_text())
    assert (summary["area_under_budget_curve"], summary["label_efficiency"]) == (None, None)


def test_a_broken_chain_is_not_summarised(finished: Path) -> None:
    path = labelled.path_of(1)
    path.write_text(path.read_text().replace("\n1,0", "\n9,0"))
    with pytest.raises(BadInput, match=r"1\.csv does not begin with all images"):
        summarise.main()
    assert not summarise.SUMMARY.exists()


def test_the_pictures_show_the_curves_and_repeat(finished: Path) -> None:
    summarise.main()
    plot.main()
    first = {}
    for _, path in plot.FIGURES.values():
        first[path] = path.read_bytes()
        with Image.open(path) as picture:
            assert picture.size == (1050, 675)
            drawn = picture.convert("RGB").getcolors(maxcolors=1_000_000)
        # seaborn's first colour: the line is there
        assert any(colour == (76, 114, 176) and count > 500 for count, colour in drawn)
    plot.main()
    assert {path: path.read_bytes() for path in first} == first


def costs(**changes: object) -> pd.DataFrame:
    """plots/costs.csv of a run of two cycles."""
    facts = {"device": "cpu A", "instructions": "AVX2", "threads": 2, "torch": "2.15.0", "precision": "float32"}
    return pd.DataFrame([{**facts, "compiled": False, "training_seconds": t, **changes} for t in (1.0, 2.0)])


def test_runs_computed_alike_are_compared_without_a_warning() -> None:
    assert compare.differing_environments({"a": costs(), "b": costs(training_seconds=9.0)}) == []


def test_runs_computed_differently_are_warned_of() -> None:
    (line,) = compare.differing_environments({"a": costs(), "b": costs(threads=1)})
    assert line == "not all computed with the same threads, which alone changes results (a 2; b 1)"


def test_one_run_computed_on_two_machines_is_warned_of() -> None:
    mixed = pd.concat([costs(), costs(device="cpu B")])
    (line,) = compare.differing_environments({"a": mixed})
    assert line == "not all computed with the same device, which alone changes results (a cpu A and cpu B)"
