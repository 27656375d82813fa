"""A run's summary, its curve, and the comparison of runs."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dvc_render.vega import VegaRenderer
from matplotlib import pyplot as plt
from matplotlib.text import Text

from lab.data import details, history, labelled
from lab.data.dataset import Split
from lab.data.sets import digits
from lab.errors import BadInput
from lab.host import Host
from lab.report import compare, curve, plots_page, reference, style
from stages import plot, summarise
from tests.browser import browse, needs_browser, pixels_of
from tests.conftest import DETAILS, ROOT

ACCURACY = [0.5, 0.6, 0.8]
TEMPLATE = ROOT / ".dvc/plots/budget.json"


def results(accuracies: list[float]) -> list[dict]:
    """The history of a run with made-up figures."""
    return [
        {
            "cycle": cycle,
            "labels": 1000 * (cycle + 1),
            "accuracy": accuracy,
            "judged_images": 263,
            "parameters": 7,
            "loss_spearman": 0.5,
            "loss_pair_accuracy": None,
            "acquired_classes": [1, 0],
        }
        for cycle, accuracy in enumerate(accuracies)
    ]


@pytest.fixture
def finished(laboratory: Path) -> Path:
    """Three finished cycles, and a fourth left over from a longer run."""
    history.write(results(ACCURACY), 3)
    history.write(results([*ACCURACY, 0.99]), 4)
    for cycle in range(3):
        details.write(DETAILS, cycle)
        labelled.write(labelled.read(labelled.path_of(0)), labelled.path_of(cycle + 1))
    return laboratory


def test_summary_and_curve(finished: Path) -> None:
    summarise.main(Host(), "3")
    assert json.loads(summarise.SUMMARY.read_text()) == {
        "labels": 3000,
        "accuracy": 0.8,
        "accuracy_low": pytest.approx(0.7475, abs=1e-4),
        "accuracy_high": pytest.approx(0.8439, abs=1e-4),
        "judged_images": 263,
        "area_under_budget_curve": pytest.approx(0.625),
        "label_efficiency": pytest.approx(1.5e-4),
        "target_accuracy": 0.9,
        "labels_to_target": "not reached",
        "parameters": 7,
    }
    table = pd.read_csv(summarise.CURVE)
    assert table["accuracy"].tolist() == ACCURACY
    assert table["acquired_classes"].map(json.loads).tolist() == [[1, 0]] * 3
    # undefined at the cold start, and written so: an empty cell would be drawn as 0
    assert summarise.CURVE.read_text().splitlines()[1].startswith('0,1000,0.5,nan,263,7,0.5,nan,"[1, 0]",0.44')


def test_a_reached_target_is_the_labels_it_took() -> None:
    assert summarise.summarise(results(ACCURACY), target=0.6)[0]["labels_to_target"] == 2000


def test_a_single_cycle_has_no_area_and_no_efficiency() -> None:
    summary, _ = summarise.summarise(results([0.5]), target=0.6)
    assert (summary["area_under_budget_curve"], summary["label_efficiency"]) == (None, None)


@pytest.mark.parametrize("count", [1, 3])
def test_the_pictures_show_the_curves_and_repeat(finished: Path, count: int) -> None:
    history.write(results(ACCURACY[:count]), count)
    summarise.main(Host(), f"{count}")
    plot.main(Host(), f"{count - 1}")
    first = {path: path.read_bytes() for path in (plot.SHEET, *(path for _, path in plot.FIGURES.values()))}
    assert pixels_of(plot.FIGURES["accuracy"][1], style.OPTIMIZERS["sgd"]) > 50 * count
    plot.main(Host(), f"{count - 1}")
    assert {path: path.read_bytes() for path in first} == first


# As studies/answer has them, the first closer than the last.
ANSWER = [1000, 2000, 3000, 4000, 6000, 8000, 10_000]


@pytest.mark.parametrize(
    ("labels", "ticks"),
    [([10], [10]), (range(100, 1001, 100), range(200, 1001, 200)), (ANSWER, range(2000, 10001, 2000))],
)
def test_the_last_number_of_labels_is_marked(labels: list[int], ticks: list[int]) -> None:
    axes = curve.plt.figure().subplots()
    curve.show_budget(axes, pd.Series(labels))
    assert sorted(axes.get_xticks()) == list(ticks)


def test_names_at_line_ends_do_not_overlap() -> None:
    figure, axes = curve.plt.subplots()
    ends = pd.DataFrame({"x": 1, "y": [0.5, 0.5, 0.51, 0.1], "colour": "black"}, index=list("abcd"))
    axes.set_ylim(0, 1)
    curve.label_ends(axes, ends)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the thread to the line
    assert not any(one.overlaps(two) for one in boxes for two in boxes if one is not two)
    # the lines that are apart keep their names at their ends
    assert axes.texts[0].xyann[1] == pytest.approx(0.1)


def test_every_cycle_has_a_dot() -> None:
    axes = curve.plt.figure().subplots()
    curve.draw_lines(axes, run_of().assign(line="a"), "labels", "accuracy", {"a": curve.Look("black")})
    assert axes.lines[0].get_marker() == "o"


def test_words_for_names() -> None:
    names = (
        "resnet18-sgd",
        "resnet50-adamw-random_without_module",
        "resnet18-adam-lr5e_05",
        "loss_prediction",
        "nadam",
    )
    assert [style.words(name) for name in names] == [
        "ResNet-18 SGD",
        "ResNet-50 AdamW, random without module",
        "ResNet-18 Adam, lr 5e-05",
        "loss prediction",
        "nadam",
    ]


def test_an_optimizer_has_its_colour_whatever_it_is_drawn_with(tmp_path: Path) -> None:
    runs = {"adam": "b", "nadam": "a", "sgd": "c"}
    for drawn in (["adam"], ["nadam", "adam", "sgd"]):
        curves = pd.concat(
            run_of([0.5, 0.6 + 0.1 * n]).assign(run=runs[optim], optim=optim) for n, optim in enumerate(drawn)
        )
        curve.draw_curve(curves, "accuracy", "", "", tmp_path / "a.png")
        assert pixels_of(tmp_path / "a.png", style.OPTIMIZERS["adam"]) > 50
    assert len(set(style.colours(["nadam", "radam"]).values())) == 6


def test_the_interval_of_an_accuracy_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, table = summarise.summarise(results(ACCURACY), 0.9)
    monkeypatch.setattr(plt, "close", lambda figure: None)
    curve.draw_curve(table.assign(run="a", optim="sgd"), "accuracy", "", "accuracy", tmp_path / "a.png")
    axes = plt.gca()
    monkeypatch.undo()
    plt.close()
    (band,) = axes.collections
    drawn = {tuple(corner) for corner in band.get_paths()[0].vertices}
    ends = ("accuracy_low", "accuracy_high")
    assert drawn == {tuple(row) for end in ends for row in table[["labels", end]].to_numpy()}
    assert axes.get_ylabel() == "accuracy, with its 95 % interval"


def run_of(accuracies: list[float] = ACCURACY, **changes: object) -> pd.DataFrame:
    """plots/curve.csv of a run."""
    facts = {"device": "cpu A", "instructions": "AVX2", "threads": 2, "torch": "2.15.0", "precision": "float32"}
    return pd.DataFrame([row | facts | {"compiled": False} | changes for row in results(accuracies)])


def test_runs_computed_alike_are_compared_without_a_warning() -> None:
    assert compare.differing_environments({"a": run_of(), "b": run_of([0.1, 0.2])}) == []


def test_runs_computed_differently_are_warned_of() -> None:
    (line,) = compare.differing_environments({"a": run_of(), "b": run_of(threads=1)})
    assert line == "not all computed with the same threads, which alone changes results (a 2; b 1)"


def test_one_run_computed_on_two_machines_is_warned_of() -> None:
    (line,) = compare.differing_environments({"a": pd.concat([run_of(), run_of(device="cpu B")])})
    assert line == "not all computed with the same device, which alone changes results (a cpu A and cpu B)"


def test_what_was_seen_and_what_it_does_not_show() -> None:
    curves = {"a": run_of([0.5, 0.6, 0.7]), "b": run_of([0.4, 0.65]), "c": run_of([0.9, 0.61])}
    caveat = "Each is one run with one seed. This does not show which is better: a study repeats it over seeds."
    assert compare.seen(curves, {}, ["cifar10"] * 3) == [
        "At 2,000 labels b is 4.0 points ahead of c (65.0%, 61.0%).",
        caveat,
    ]
    level = compare.seen({"a": run_of(), "b": run_of()}, {}, ["cifar10", "digits"])
    assert level == ["At 3,000 labels a is level with b (80.0%, 80.0%).", caveat, "Digits say nothing about CIFAR-10."]
    reference = {"a": run_of([0.5, 0.6, 0.9])}
    assert compare.seen({"a": run_of()}, reference, ["cifar10"]) == [
        "At 3,000 labels a reaches 80.0%.",
        "a is 10.0 points below a logistic regression on its labels (90.0%).",
    ]
    (apart,) = compare.seen({"a": run_of(), "b": run_of().assign(labels=[1, 2, 3])}, {}, ["cifar10"] * 2)
    assert apart == "The runs have no number of labels in common: they cannot be compared."


def test_the_table_has_a_dash_where_a_run_has_no_such_cycle() -> None:
    shown = compare._table({"a": run_of(), "b": run_of([0.4])}, {})
    assert [row.split() for row in shown.splitlines()] == [
        ["a", "b"],
        ["1000", "50.0%", "40.0%"],
        ["2000", "60.0%", "–"],
        ["3000", "80.0%", "–"],
    ]
    beside = compare._table({"a": run_of([0.5])}, {"a": run_of([0.6])})
    assert beside.splitlines()[0].split() == ["network", "logistic", "regression"]
    assert beside.splitlines()[-1].split() == ["1000", "50.0%", "60.0%"]


def test_the_reference_learns_from_the_labelled_images_alone(tmp_path: Path) -> None:
    digits.fetch(tmp_path, Host())
    train, test, *_ = digits.read(tmp_path, Host())
    order = np.random.default_rng(0).permutation(len(train.labels))
    few, many = order[:20], order[:110]
    found = reference.accuracies([few, many], train, test)
    assert 0.5 < found[0] < 0.8 < 0.88 < found[1] < 0.95
    # Labels of other images do not count.
    scrambled = train.labels.copy()
    scrambled[order[110:]] = 0
    assert reference.accuracies([few, many], Split(train.images, scrambled), test) == found


def test_the_reference_is_that_of_all_pixels(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    train, test = (Split(draw.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8), np.arange(60) % 3) for _ in range(2))
    pixels = [split.images.reshape(60, -1) / 255 for split in (train, test)]
    by_hand = LogisticRegression(max_iter=1000).fit(pixels[0][:20], train.labels[:20]).score(pixels[1], test.labels)
    one_class = np.arange(0, 60, 3)
    assert reference.accuracies([one_class[:4], np.arange(20)], train, test)[1] == by_hand
    assert reference.accuracies([one_class], train, test) == [pytest.approx(1 / 3)]


def test_a_run_whose_data_are_not_here_has_no_reference(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def refuse(path: str, revision: str) -> bytes:
        raise BadInput(f"{path} of {revision} cannot be read: no cache")

    monkeypatch.setattr(compare, "_read", refuse)
    assert compare._references({"a": run_of()}) == {}
    assert "No logistic regression for a: data" in capsys.readouterr().out


def test_a_campaign_has_no_reference(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def read(path: str, revision: str) -> bytes:
        content = BytesIO()
        np.save(content, np.full(3, -1) if path.endswith("labels.npy") else np.zeros((3, 1, 1, 3), np.uint8))
        return content.getvalue() if path.endswith(".npy") else b"index\n0\n"

    monkeypatch.setattr(compare, "_read", read)
    assert compare._references({"a": run_of()}) == {}
    assert capsys.readouterr().out == "No logistic regression for a: people gave its labels\n"


def test_the_template_follows_the_anchors_of_an_editor() -> None:
    rows = [{"labels": 10, "accuracy": 0.5, "rev": run} for run in ("demo-adam", "demo-sgd")]
    names = {"x": "labels", "y": "accuracy", "x_label": "labelled images", "y_label": "test accuracy", "title": "A"}
    plots = [VegaRenderer([dict(row) for row in rows], "a", template=str(TEMPLATE), **names) for _ in range(2)]
    whole = plots[0].get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(whole)
    assert (whole["width"], whole["title"]["text"]) == (300, "A")
    split, anchors = plots[1].get_partial_filled_template()
    assert {f"<DVC_METRIC_{name}>" for name in ("COLOR", "PLOT_HEIGHT", "PLOT_WIDTH", "DATA", "TITLE")} <= set(
        anchors["anchor_definitions"]
    )
    assert (split["encoding"]["color"], split["width"]) == ("<DVC_METRIC_COLOR>", "<DVC_METRIC_PLOT_WIDTH>")


@needs_browser
def test_the_page_of_plots_gives_optimizers_their_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.html"
    monkeypatch.setattr("sys.argv", ["plots_page", str(page)])
    plots_page.main()
    rows = [
        {"labels": labels, "accuracy": accuracy / 10, "rev": run}
        for accuracy, run in enumerate(("demo-adam", "demo-sgd", "again_sgd", "happy-bird", "demo-adam_then_sgd"))
        for labels in (10, 20)
    ]
    names = {"x": "labels", "y": "accuracy", "x_label": "labelled images", "y_label": "test accuracy", "title": "A"}
    plot = VegaRenderer(rows, "a", template=str(TEMPLATE), **names).generate_html()
    page.write_text(page.read_text().replace("{plot_divs}", plot))
    browse(page, tmp_path, "--window-size=900,600", f"--screenshot={tmp_path / 'page.png'}")
    for colour in (style.OPTIMIZERS["adam"], style.OPTIMIZERS["sgd"], *style.OTHERS[:2]):
        assert pixels_of(tmp_path / "page.png", colour) > 300
