"""What pictures show of a run: the record of a cycle, the tables made of it, the templates and the contact sheet."""

import json
from itertools import product
from math import log
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import seaborn as sns
import vl_convert
from dvc_render.vega import VegaRenderer

from lab.data import details, labelled, prepared
from lab.errors import BadInput
from lab.measures.details import confusion, losses, lowest
from lab.params import parse
from lab.report import sheet
from stages import plot, summarise
from tests.conftest import DETAILS, ROOT

PLOTS = {
    name: shown
    for described in (
        *(stage.get("plots", []) for stage in parse((ROOT / "dvc.yaml").read_text())["stages"].values()),
        parse((ROOT / "dvc.yaml").read_text())["plots"],
    )
    for entry in described
    for name, shown in (entry.items() if isinstance(entry, dict) else ())
}

RESULTS = [
    {"labels": 10, "acquired_classes": [1, 3], "loss_spearman": 0.1},
    {"labels": 14, "acquired_classes": [0, 0], "loss_spearman": 0.5},
]


def test_confusion_counts_images_by_their_class_and_the_predicted_one() -> None:
    logits = np.array([[2.0, 1, 0], [0, 1, 0], [0, 1, 2], [5, 1, 2], [0, 0, 9]])
    assert confusion(logits, np.array([0, 0, 2, 2, 2])) == [[1, 1, 0], [0, 0, 0], [1, 0, 2]]


def test_losses_are_those_of_the_same_images() -> None:
    logits = np.array([[0.0, 0.0], [log(3), 0.0], [0.0, log(3)]])
    found = losses(logits, np.array([0.5, -1.0, 2.0], dtype=np.float32), np.array([0, 0, 0]))
    assert found["predicted"] == [0.5, -1.0, 2.0]
    assert found["true"] == pytest.approx([log(2), log(4 / 3), log(4)], rel=1e-4)


def test_of_many_losses_some_are_kept_from_first_to_last() -> None:
    labels, logits = np.arange(599) % 2, np.stack([np.zeros(599), np.arange(599.0)], axis=1)
    found = losses(logits, np.arange(599.0), labels)
    assert found["predicted"] == [2.0 * number for number in range(300)]
    # of label 0, where label 1 has the higher logit
    assert found["true"][1:] == pytest.approx([2.0 * number for number in range(1, 300)], rel=0.1)


def test_without_a_module_there_are_no_losses() -> None:
    assert losses(np.zeros((4, 2)), None, np.zeros(4, dtype=np.int64)) == {"predicted": [], "true": []}


def test_the_lowest_are_left_in_the_pool() -> None:
    scores = np.array([0.5, 3.0, 0.25, 0.5, -np.inf, 2.0])
    candidates = np.array([40, 41, 42, 43, 44, 45])
    found = lowest(scores, np.array([1, 5]), candidates)
    assert found == {"index": [42, 40, 43], "score": [0.25, 0.5, 0.5]}
    assert lowest(scores, np.arange(6), candidates) == {"index": [], "score": []}
    assert lowest(None, np.array([1, 5]), candidates) == {"index": [], "score": []}
    assert lowest(-np.arange(50.0), np.array([0]), np.arange(50))["index"] == [*range(49, 33, -1)]


def test_details_come_back_and_a_broken_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    details.write(DETAILS, 3)
    assert details.read(3) == DETAILS
    details.path_of(3).write_text("{")
    details.write(DETAILS, 4)
    details.path_of(4).write_text("[]")
    for cycle in (2, 3, 4):
        with pytest.raises(BadInput, match=rf"metrics/details/{cycle}.json: no details of cycle {cycle} .*dvc repro"):
            details.read(cycle)


def test_tables_are_those_of_the_run() -> None:
    tables = {path.stem: table for path, table in summarise.look(RESULTS, DETAILS).items()}
    assert tables["classes"].to_numpy().tolist() == [
        [10, "cat", 1, 0.25],
        [10, "dog", 3, 0.75],
        [14, "cat", 0, 0.0],
        [14, "dog", 0, 0.0],
    ]
    assert tables["confusion"].to_numpy().tolist() == [
        ["cat", "cat", 3, 0.75],
        ["cat", "dog", 1, 0.25],
        ["dog", "cat", 0, 0.0],
        ["dog", "dog", 2, 1.0],
    ]
    assert tables["training"].to_numpy().tolist() == [[1, 2.0, 0.25, 0.1], [2, 1.5, 0.5, 0.01]]
    assert tables["losses"].to_numpy().tolist() == [[-1.0, 0.1, 0.5], [2.0, 3.0, 0.5], [0.5, 0.0, 0.5]]


def test_tables_have_the_columns_that_git_keeps_and_plots_name() -> None:
    nothing = {"predicted": [], "true": []}
    for path, table in summarise.look(RESULTS, DETAILS | {"losses": nothing}).items():
        kept = (ROOT / path).read_text().splitlines()[0].split(",")
        assert list(table) == kept
        assert {PLOTS[str(path)][axis] for axis in "xy"} <= set(kept)


def rows_of(name: str) -> list[dict]:
    """The rows that DVC gives to the template of a plot: of two runs, as text."""
    tables = {str(path): table for path, table in summarise.look(RESULTS, DETAILS).items()}
    y = PLOTS[name]["y"]
    table = tables[name if isinstance(y, str) else next(iter(y))].astype(str)
    return [row | {"rev": run} for run in ("demo-adam", "demo-sgd") for row in table.to_dict("records")]


DRAWN = [name for name in PLOTS if name not in ("plots/curve.csv", "label_efficiency", "agreement")]


def test_every_picture_is_among_them() -> None:
    assert len(DRAWN) == 7


def specification(name: str) -> dict:
    shown = PLOTS[name]
    y = shown["y"] if isinstance(shown["y"], str) else next(iter(shown["y"].values()))
    template = str(ROOT / f".dvc/plots/{shown['template']}.json")
    return VegaRenderer(rows_of(name), name, **{**shown, "y": y, "template": template}).get_filled_template()


@pytest.mark.parametrize("name", DRAWN)
def test_runs_are_told_apart_in_every_picture(name: str) -> None:
    filled = specification(name)
    assert "<DVC_METRIC" not in json.dumps(filled)
    svg = vl_convert.vegalite_to_svg(filled)
    for text in ("demo-adam", "demo-sgd", *(PLOTS[name][key] for key in ("title", "x_label", "y_label"))):
        assert f">{text}<" in svg, text
    # Overlaid in colours, or side by side.
    assert filled["encoding"]["color"]["scale"]["range"] if "encoding" in filled else filled["facet"]["column"]


def test_a_matrix_shows_its_counts_and_the_losses_their_rank_correlation() -> None:
    svg = vl_convert.vegalite_to_svg(specification("plots/confusion.csv"))
    assert [svg.count(f">{count}<") for count in (3, 1, 0, 2)] == [2, 2, 2, 2]
    assert vl_convert.vegalite_to_svg(specification("plots/losses.csv")).count(">rank correlation 0.50<") == 2


def test_accuracy_by_class_has_a_bar_a_class_and_run() -> None:
    svg = vl_convert.vegalite_to_svg(specification("accuracy_by_class"))
    bars = [
        f"accuracy: {share}; class: {name}; rev: {run};"
        for run, (name, share) in product(("demo-adam", "demo-sgd"), (("cat", "75%"), ("dog", "100%")))
    ]
    assert all(bar in svg for bar in bars)
    assert svg.count("accuracy: ") == len(bars)


@pytest.fixture
def queried(laboratory: Path) -> pd.DataFrame:
    """The labelled pool after a query in which 20 images were acquired, best first."""
    acquired = np.setdiff1d(np.arange(39), [*labelled.read(labelled.path_of(0))["index"], 7, 8])[:20]
    pool = labelled.extend(labelled.read(labelled.path_of(0)), acquired, 20 - np.arange(20.0))
    labelled.write(pool, labelled.path_of(1))
    return pool


def captions_of(indices: list[int], scores: list[str]) -> list[str]:
    labels = prepared.read_split("train").labels
    return [f"{labels[index]}\n{score}" for index, score in zip(indices, scores, strict=True)]


def test_the_sheet_shows_the_highest_and_the_lowest_of_the_pool(queried: pd.DataFrame) -> None:
    details.write(DETAILS, 0)
    highest, low = plot.last_query(0)
    images, first = prepared.read_split("train").images, queried["index"].tolist()[6:22]
    np.testing.assert_array_equal(highest.images, images[first])
    assert highest.captions == captions_of(first, [str(score) for score in range(20, 4, -1)])
    np.testing.assert_array_equal(low.images, images[[7, 8, 39]])
    assert low.captions == captions_of([7, 8, 39], ["-2", "-1.5", "0.333"])
    assert "labels are hidden: this picture alone reads them" in low.heading


def test_without_scores_of_the_pool_the_sheet_shows_first_and_last_of_the_acquired(queried: pd.DataFrame) -> None:
    details.write(DETAILS | {"lowest": {"index": [], "score": []}}, 0)
    first, last = plot.last_query(0)
    assert (first.heading, len(first.images)) == ("Acquired first", 16)
    assert last.heading.startswith("Acquired last")
    assert last.captions == captions_of(queried["index"].tolist()[22:], ["4", "3", "2", "1"])


def test_the_sheet_has_a_tile_an_image_with_its_caption_below() -> None:
    images = np.arange(11 * 4 * 4 * 3, dtype=np.uint8).reshape(11, 4, 4, 3)
    parts = [
        sheet.Part("High", images[:9], [f"cat\n{number}" for number in range(9)]),
        sheet.Part("Low", images[9:], ["dog\n-1", "dog\n-2"]),
        sheet.Part("None", images[:0], []),
    ]
    sns.set_theme(style="whitegrid")  # the sheet looks the same whatever was drawn before
    figure = sheet.sheet(parts, "Query")
    figure.draw_without_rendering()
    tiles = [axes for axes in figure.get_axes() if axes.images]
    assert [axes.get_xlabel() for axes in tiles] == [caption for part in parts for caption in part.captions]
    np.testing.assert_array_equal([axes.images[0].get_array() for axes in tiles], images)
    assert [block.get_suptitle() for block in (figure, *figure.subfigs)] == ["Query", "High", "Low"]
    texts = [axes.xaxis.label.get_window_extent() for axes in tiles]
    pictures = [axes.images[0].get_window_extent() for axes in tiles]
    assert not any(text.overlaps(picture) for text in texts for picture in pictures)
    assert not any(one.overlaps(two) for at, one in enumerate(texts) for two in texts[:at])
    assert all(text.y0 >= 0 and text.x1 <= figure.bbox.width for text in texts), "nothing is cut off"


def test_a_query_of_nothing_is_drawn(queried: pd.DataFrame, tmp_path: Path) -> None:
    nothing = sheet.Part("High", np.empty((0, 4, 4, 3), np.uint8), [])
    sheet.draw_sheet([nothing], "Query", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
