"""The report of a study: its tables by hand, its page in a browser without a network."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from lab.process.ending import BadInput
from lab.report import anchors, claims
from lab.report import study as report
from lab.study import table as tidy
from tests.conftest import ROOT
from tests.study_tables import line, tidy_of

CURVES = {
    "resnet18-sgd": line(0.45, 0.9),
    "resnet18-adam": line(0.5, 0.88),
    "resnet18-sgd-random": line(0.45, 0.86),
    "resnet50-sgd": line(0.4, 0.91),
}
ANCHOR = pd.DataFrame(
    {
        "source": "S",
        "method": "random",
        "arch": "resnet18",
        "labels": [1000, 3000, 4500],
        "accuracy": [0.5, 0.6, 0.7],
    }
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FIGURES = [
    "figure_3",
    "label_efficiency",
    "area",
    "accuracy_vs_image_passes",
    "accuracy_vs_seconds",
    "loss_spearman",
    "loss_pair_accuracy",
    "classes",
    "wins",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a made-up study at the paper's scale, of which one arm is missing."""
    folder = tmp_path_factory.mktemp("report")
    report.write(tidy_of(CURVES), 13, folder)
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_picture(folder: Path, name: str) -> None:
    with Image.open(folder / f"{name}.png") as picture:
        assert len(picture.convert("RGB").getcolors(maxcolors=2**24)) > 50, "it is drawn"
    assert (folder / f"{name}.svg").read_text().lstrip().startswith("<?xml")


def test_the_table_is_tidy_and_comes_back(folder: Path) -> None:
    table = tidy.read(folder / "tidy.csv")
    assert len(table) == 4 * 3 * 10
    assert set(tidy_of(CURVES)) == set(tidy.COLUMNS), "the made-up tables are like real ones"
    assert not table.duplicated(["arm", "cycle"]).any()
    pd.testing.assert_frame_equal(table[["arm", "accuracy"]], tidy_of(CURVES)[["arm", "accuracy"]])


def test_figure_3_shows_optimizers_the_papers_figures_and_public_curves(folder: Path) -> None:
    words = re.findall(r">([^<>]+)</text>", (folder / "figure_3.svg").read_text())
    assert {"resnet18", "resnet50", "sgd", "adam", "random", "labelled images", "test accuracy"} <= set(words)
    assert any("eval-al, loss_prediction" in text for text in words)
    assert any("3 seeds; means, band: one standard deviation" in text and "stars" in text for text in words)


def test_another_scale_shows_neither(tmp_path: Path) -> None:
    report.write(tidy_of(CURVES, protocol="cpu_study"), 12, tmp_path)
    figure = (tmp_path / "figure_3.svg").read_text()
    assert "eval-al" not in figure
    assert "stars" not in figure
    assert "a verdict holds\nfor this study's scale alone" in (tmp_path / "report.html").read_text()


def test_two_seeds_have_neither_band_nor_deviation_nor_interval(tmp_path: Path) -> None:
    report.write(tidy_of(CURVES, seeds=2), 8, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Fewer than 3 seeds" in page
    assert "band:" not in page
    assert "±" not in re.sub(r"Mean ± standard deviation", "", page)
    assert "2 seeds, too few" in page
    assert "2 seeds; single runs" in page
    assert "means" not in page
    assert not (tmp_path / "wins.png").exists()


def test_the_page_names_what_is_missing_and_what_differs(tmp_path: Path) -> None:
    table = tidy_of(CURVES)
    table.loc[table["arm"] == "resnet50-sgd-s2", "threads"] = 2
    report.write(table, 13, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "12 of 13 arms finished" in page
    assert "1 arms are not finished" in page
    assert "not all computed with the same threads" in page


def test_nothing_of_the_page_comes_from_elsewhere(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert re.findall(r"<(?:script|link|img|iframe|object)\b", page) == []
    assert re.findall(r"(?:src|xlink:href|href)=\"(?!#)[^\"]*\"", page) == []
    assert re.findall(r"url\((?!#)", page) == []


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(os.getuid() != 0, reason="cutting off the network needs root")
def test_the_page_opens_in_a_browser_without_a_network(folder: Path, tmp_path: Path) -> None:
    def chromium(*options: str) -> str:
        # a network namespace of its own, with no interface in it
        command = ["unshare", "--net", CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        page = f"file://{folder / 'report.html'}"
        done = subprocess.run([*command, profile, *options, page], text=True, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    document = chromium("--dump-dom")
    assert document.count("<svg") == len(FIGURES)
    assert "Cross-over, resnet18" in document
    picture = tmp_path / "page.png"
    chromium("--window-size=1200,2000", f"--screenshot={picture}")
    with Image.open(picture) as shown:
        assert shown.size == (1200, 2000)
        # The first figure is in the upper half, in the colours of its optimizers.
        colours = {colour for _, colour in shown.convert("RGB").crop((0, 150, 1200, 1200)).getcolors(2**24)}
    assert {(1, 115, 178), (222, 143, 5)} <= colours


def test_costs_by_hand() -> None:
    table = report.cost_table(tidy_of({"resnet18-sgd": line(0.5, 0.9)}))
    assert table.loc[0].to_dict() == {
        "arm": "resnet18-sgd",
        "seconds of training": "100",
        "seconds of evaluation": "10",
        "seconds of query": "20",
        "images trained on": "11,000,000",
        "peak memory, MB": "900",
        "parameters, millions": "11.17",
        "MFLOP an image, forward": "1,110.0",
    }


def test_anchors_name_their_sources_and_are_shares() -> None:
    curves = anchors.read(ROOT / "studies/anchors.csv")
    assert curves["accuracy"].between(0.3, 1).all()
    assert curves[["source", "address", "method"]].notna().all(axis=None)
    assert not curves.duplicated(["source", "method", "labels"]).any()


def test_an_anchor_is_compared_at_common_labels() -> None:
    group = "resnet18-sgd-random"
    found = anchors.compare(tidy_of({group: line(0.5, 0.95)}, spread=0), group, ANCHOR, "S", "random")
    assert found["labels"].tolist() == [1000, 3000]
    assert found["difference"].tolist() == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("group", "source", "message"),
    [
        ("resnet18-sdg", "S", "choose from resnet18-sgd"),
        ("resnet18-sgd-random", "T", "choose from S random"),
        ("resnet18-sgd", "S", "resnet18 with loss_prediction, the anchor resnet18 with random"),
        ("resnet50-sgd-random", "S", "resnet50 with random, the anchor resnet18 with random"),
    ],
)
def test_what_is_not_alike_is_not_compared(group: str, source: str, message: str) -> None:
    groups = ("resnet18-sgd", "resnet18-sgd-random", "resnet50-sgd-random")
    with pytest.raises(BadInput, match=message):
        anchors.compare(tidy_of(dict.fromkeys(groups, line(0.5, 0.95))), group, ANCHOR, source, "random")


def test_an_anchor_is_no_measure_of_another_scale() -> None:
    table = tidy_of({"resnet18-sgd-random": line(0.5, 0.95)}, protocol="cpu_study")
    with pytest.raises(BadInput, match=r"protocol cpu_study\) was not run at the paper's scale"):
        anchors.compare(table, "resnet18-sgd-random", ANCHOR, "S", "random")


def test_params_that_vary_have_lines_of_their_own(tmp_path: Path) -> None:
    # Two learning rates: two lines, none of them their mean.
    curves = {"resnet18-sgd": line(0.45, 0.9), "resnet18-adam": line(0.5, 0.88)}
    table = tidy_of(curves, spread=0, protocol="demo")
    table.loc[table["optim"] == "adam", ["group", "optim"]] = ["resnet18-sgd-lr0.5", "sgd"]
    report.write(table, 6, tmp_path)
    words = re.findall(r">([^<>]+)</text>", (tmp_path / "figure_3.svg").read_text())
    assert {"loss_prediction", "lr0.5"} <= set(words)


def test_the_claims_for_a_readme_say_what_they_are_judged_by(folder: Path, tmp_path: Path) -> None:
    assert (
        "Protocol `paper`, 1,000 to 10,000 labels, 3 seeds or more an arm; the paper's scale"
        in (folder / "claims.md").read_text()
    )
    table = tidy_of(CURVES, protocol="cpu_study")
    written = report.claims_markdown(table, claims.verdicts(table))
    assert "**not the paper's scale**" in written


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tidy.csv").write_text("arm,accuracy\na,0.5\n")
    with pytest.raises(BadInput, match=r"without .*labels"):
        tidy.read(tmp_path / "tidy.csv")
