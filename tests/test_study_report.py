"""The report of a study: its tables by hand, its page in a browser without a network."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from lab.errors import BadInput
from lab.report import anchors, claims, figures, statistics, style, tables
from lab.report import page as report
from lab.study import __main__ as command
from lab.study import table as tidy
from tests.browser import browse, needs_browser, pixels_of
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
FIGURES = [*figures.CHARTS, "area", "classes", "wins"]


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


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    yield
    plt.close("all")


def words_of(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def figure_3(table: pd.DataFrame) -> Figure:
    return figures.all_figures(table, anchors.read(ROOT / "studies/anchors.csv"))["figure_3"]


def page_of(table: pd.DataFrame, expected: int) -> str:
    """The page without its figures."""
    return report.page(table, claims.verdicts(table), {}, expected)


def test_figures_use_words() -> None:
    drawn = figures.all_figures(tidy_of(CURVES), anchors.read(ROOT / "studies/anchors.csv"))
    assert list(drawn) == FIGURES
    assert [name for name in drawn if "LL4AL, random" in words_of(drawn[name])] == ["figure_3"]
    found = set.union(*map(words_of, drawn.values()))
    assert {"ResNet-18 SGD, random", "SGD, random", "SGD, loss prediction", "airplane"} <= found
    assert not [text for text in found if re.search(r"_|resnet|\bsgd|\badam", text)]


def test_no_dot_is_clipped_at_an_edge() -> None:
    for name, figure in figures.all_figures(tidy_of(CURVES), anchors.read(ROOT / "studies/anchors.csv")).items():
        figure.canvas.draw()
        for axes in figure.axes:
            for dots in axes.findobj(PathCollection):
                if dots.get_clip_on():
                    centres = dots.get_offset_transform().transform(dots.get_offsets())
                    radius = max(dots.get_sizes(), default=0) ** 0.5 / 2 * figure.dpi / 72
                    assert (centres >= axes.bbox.min + radius).all() and (centres <= axes.bbox.max - radius).all(), name


def test_figure_3_shows_the_papers_figures_and_public_curves_of_the_same_strategies() -> None:
    found = words_of(figure_3(tidy_of(CURVES)))
    assert {"ResNet-18", "ResNet-50", "labelled images", "test accuracy", "10,000"} <= found
    assert {"eval-al, loss prediction", "LL4AL, random"} <= found
    assert "eval-al, badge" not in found
    assert (
        "Protocol paper. Lines: means of 3 seeds. Bands: one standard deviation. Stars: the paper's text. "
        "Dashed grey: public curves."
    ) in {" ".join(text.split()) for text in found}


def test_another_scale_shows_neither() -> None:
    table = tidy_of(CURVES, protocol="cpu_study")
    assert not [text for text in words_of(figure_3(table)) if "eval-al" in text or "Stars" in text]
    assert "a verdict holds for this study alone" in page_of(table, 12)


@pytest.mark.parametrize(("seeds", "said"), [(1, "1 seed"), (2, "2 seeds")])
def test_fewer_than_three_seeds_have_neither_band_nor_deviation_nor_interval(seeds: int, said: str) -> None:
    table = tidy_of(CURVES, seeds=seeds, protocol="cpu_study")
    page = page_of(table, 4 * seeds)
    warning = (
        "Arms with fewer than 3 seeds get no deviation, interval, test or verdict: "
        "a difference between them may be chance, and does not show which is better."
    )
    assert warning in page
    assert "±" not in page.replace("Mean ± standard deviation", "")
    assert f"{said}, too few for an interval" in page
    written = report.claims_markdown(table, claims.verdicts(table))
    assert f"labels, {said} or more an arm" in written
    assert warning in written
    assert "| verdict |" not in written, "a table of claims without a row"
    drawn = figures.all_figures(table, anchors.read(ROOT / "studies/anchors.csv"))
    assert "wins" not in drawn
    chance = "With fewer than 3 seeds a difference may be chance."
    assert f"Protocol cpu_study. Lines: single runs, {said}. {chance}" in {
        " ".join(text.split()) for text in words_of(drawn["figure_3"])
    }
    assert chance in words_of(drawn["area"])
    assert not drawn["figure_3"].findobj(FillBetweenPolyCollection), "a band"


def test_the_seeds_of_each_machine_are_named_and_only_those_computed_on_several_warned_of() -> None:
    table = tidy_of(CURVES, seeds=4)
    table.loc[table["seed"] == 3, "device"] = "another"
    same = "none, threads 1, torch 0, float32"
    assert report.machines(table) == [f"made up, {same}: seed 0, 1, 2", f"another, {same}: seed 3"]
    assert "computed with the same" not in page_of(table, 16), "seeds are not compared with each other"
    table.loc[table["arm"].isin(["resnet18-sgd-s0", "resnet18-adam-s1"]) & (table["cycle"] > 4), "device"] = "another"
    warning = "The arms of seed 0, 1 were not all computed with the same device, which alone changes results."
    assert warning in page_of(table, 16)
    assert report.machines(table)[1] == f"another, {same}: seed 0, 1, 3"


def test_another_version_of_pytorch_is_said_once() -> None:
    table = tidy_of(CURVES)
    table.loc[table["arm"] == "resnet18-sgd-s1", "torch"] = "1"
    page = page_of(table, 12)
    assert "The arms of seed 1 were computed by different versions of PyTorch. They are not compared." in page
    assert "computed with the same" not in page


def test_enough_seeds_have_no_warning() -> None:
    table = tidy_of(CURVES)
    texts = page_of(table, 12) + report.claims_markdown(table, claims.verdicts(table))
    drawn = figures.all_figures(table, anchors.read(ROOT / "studies/anchors.csv"))
    assert "fewer than 3" not in texts + " ".join(words_of(drawn["area"]) | words_of(drawn["figure_3"]))


GROUPS = [
    f"{arch}-{optim}{strategy}"
    for arch in ("resnet18", "resnet34")
    for optim in ("sgd", "adam", "adamw", "rmsprop")
    for strategy in ("", "-random")
]


@pytest.mark.parametrize(
    ("groups", "panels"),
    [
        (GROUPS[:4], ["ResNet-18"]),
        (GROUPS[:8], ["ResNet-18, loss prediction", "ResNet-18, random"]),
        (GROUPS[::2], ["ResNet-18", "ResNet-34"]),
        # too many lines of one optimizer: each of the others is grey behind it
        ([f"resnet18-sgd-lr0.{digit}" for digit in range(1, 8)], [f"ResNet-18, lr 0.{digit}" for digit in range(1, 8)]),
        # fewer panels with all strategies in each than with all optimizers
        (
            [
                f"resnet18-{optim}-{name}"
                for optim in ("sgd", "adam")
                for name in ("random", "entropy", "badge", "coreset")
            ],
            ["ResNet-18, SGD", "ResNet-18, Adam"],
        ),
    ],
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_many_arms_become_panels(groups: list[str], panels: list[str], seeds: int) -> None:
    table = figures._in_order(tidy_of(dict.fromkeys(groups, line(0.5, 0.9)), seeds=seeds, protocol="demo"))
    drawn = figures.draw(figures.CHARTS["figure_3"], table)
    assert [axes.get_title() for axes in drawn.axes] == panels
    named = sum(len(axes.texts) for axes in drawn.axes)
    assert named == len(groups), "each line has its name at its end, once"
    assert not any(axes.get_legend() for axes in drawn.axes)


def test_optimizers_that_are_not_the_papers_have_a_colour_each_in_all_panels() -> None:
    curves = {f"resnet18-{optim}-{name}": line(0.5, 0.9) for optim in ("nadam", "radam") for name in "abcd"}
    drawn = figures.draw(figures.CHARTS["figure_3"], figures._in_order(tidy_of(curves)))
    colours = [{text.get_color() for text in axes.texts} for axes in drawn.axes]
    assert colours == [{style.OTHERS[0]}, {style.OTHERS[1]}]


def test_a_searched_optimizer_has_the_colour_of_the_papers_unless_both_are_there() -> None:
    assert style.colours(["sgd_tuned", "adam_then_sgd"])["sgd_tuned"] == style.OPTIMIZERS["sgd"]
    both = style.colours(["sgd_tuned", "sgd"])
    assert (both["sgd"], both["sgd_tuned"]) == (style.OPTIMIZERS["sgd"], style.OTHERS[0])


def test_strategies_of_the_only_optimizer_have_a_colour_each() -> None:
    curves = {f"resnet18-adam{name}": line(0.5, 0.9) for name in ("", "-random", "-margin")}
    drawn = figures.draw(figures.CHARTS["figure_3"], figures._in_order(tidy_of(curves)))
    colours = {text.get_text().split(", ")[1]: text.get_color() for text in drawn.axes[0].texts}
    assert colours["loss prediction"] == style.OPTIMIZERS["adam"]
    assert {colours["random"], colours["margin"]} == set(style.OTHERS[:2])


def test_strategies_of_an_optimizer_of_ones_own_do_not_share_its_colour() -> None:
    curves = {f"resnet18-nadam{name}": line(0.5, 0.9) for name in ("", "-random", "-margin", "-badge")}
    drawn = figures.draw(figures.CHARTS["figure_3"], figures._in_order(tidy_of(curves)))
    assert len({text.get_color() for text in drawn.axes[0].texts}) == 4


def test_another_measure_has_a_figure_of_its_own(tmp_path: Path) -> None:
    table = tidy_of({"resnet18-sgd": line(0.5, 0.9)})
    table["macro_f1"] = table["accuracy"] / 2
    report.write(table, 3, tmp_path, measure="macro_f1")
    assert ">Macro f1 against budget</text>" in (tmp_path / "report.html").read_text()
    drawn = figures.all_figures(table, ANCHOR, "macro_f1")["measure"]
    assert drawn.axes[0].get_ylabel() == "macro f1"
    drawn_means = drawn.axes[0].lines[0].get_ydata()
    assert list(drawn_means) == pytest.approx(list(table.groupby("labels")["macro_f1"].mean()))
    assert "measure" not in figures.all_figures(table, ANCHOR)


def test_no_words_are_clipped_where_classes_are_few() -> None:
    table = tidy_of({f"resnet18-{optim}-random_without_module": line(0.5, 0.9) for optim in ("sgd", "adam", "adamw")})
    table = table.assign(acquired_classes="[5, 15, 5]", class_names='["oak", "ash", "fir"]')
    drawn = figures.all_figures(table, ANCHOR)["classes"]
    drawn.canvas.draw()
    for text in drawn.findobj(Text):
        box = text.get_window_extent()
        assert not text.get_text() or (box.x0 >= 0 and box.x1 <= drawn.bbox.x1), text.get_text()


def test_classes_that_people_were_asked_for_are_not_drawn() -> None:
    table = tidy_of({"resnet18-sgd": line(0.5, 0.9)})
    assert "classes" in figures.all_figures(table, ANCHOR)
    assert "classes" not in figures.all_figures(table.assign(acquired_classes=None), ANCHOR)


def test_arms_that_look_at_hidden_labels_are_named() -> None:
    table = tidy_of(CURVES)
    said = ", so nobody can do as they\ndo: "
    assert said not in page_of(table, 12)
    of_sgd = table["group"] == "resnet18-sgd"
    table.loc[of_sgd, "settings"] += " cold_start_strategy=cheating_class_balanced"
    assert f"{said}ResNet-18 SGD." in page_of(table, 12)


def test_a_collapsed_run_is_named_and_marked() -> None:
    table = tidy_of(CURVES)
    failed = (table["arm"] == "resnet18-sgd-s1") & (table["labels"] == 3000)
    assert "collapsed" not in page_of(table, 12)
    table.loc[failed, "training_accuracy"] = 0.41
    accuracy = table.loc[failed, "accuracy"].iloc[0]
    assert (
        f"ResNet-18 SGD, seed 1, at 3,000 labels: training accuracy 41%, of the best seed 99%; "
        f"test accuracy {accuracy:.1%}"
    ) in page_of(table, 12)
    marks = [
        line.get_xydata().tolist()
        for axes in figure_3(table).axes
        for line in axes.lines
        if line.get_marker() == "x" and len(line.get_xydata())
    ]
    assert marks == [[[3000, pytest.approx(accuracy)]]]


def test_arms_with_all_labels_are_a_line_and_no_curve() -> None:
    table = tidy_of(CURVES | {"resnet18-sgd-all_labels": [0.95], "resnet50-sgd-all_labels": [0.97]}, spread=0)
    table.loc[table["group"].str.endswith("all_labels"), "labels"] = 50_000
    drawn = figure_3(table)
    found = {
        axes.get_title(): [
            line.get_ydata()[0] for line in axes.lines if len(line.get_ydata()) == 2 and line.get_linestyle() == "--"
        ]
        for axes in drawn.axes
    }
    assert found == {"ResNet-18": [pytest.approx(0.95)], "ResNet-50": [pytest.approx(0.97)]}
    assert {"SGD, all 50,000 labels", "all 50,000 labels"} <= words_of(drawn)
    page = page_of(table, 18)
    assert "Ceiling: ResNet-18 SGD with all 50,000 labels: 95.0 ± 0.0 % (3 seeds)." in page
    assert "18 of 18 arms finished" in page
    assert page.count("all_labels") == page.count("all labels,") == 0
    assert "all 50,000" not in page.split("The paper's claims")[1], "in no table of differences, costs or sets"
    only = table[table["group"].str.endswith("all_labels")]
    assert "ResNet-50" in page_of(only, 18), "a study of which nothing else is finished yet"


def test_overlap_stands_beside_chance_and_another_seed() -> None:
    names = ["resnet18-sgd", "resnet18-adam", "resnet18-sgd-chosen_by_adam", "resnet18-adam-chosen_by_sgd"]
    table = tidy_of({name: [0.5, 0.7] for name in names})
    columns = ["group", "seed", "other", "other_seed", "labels", "acquired", "jaccard", "chance"]
    overlaps = pd.DataFrame(
        [
            ("resnet18-adam", 0, "resnet18-sgd", 0, 2000, 1000, 0.2, 0.01),
            ("resnet18-sgd", 1, "resnet18-adam", 1, 2000, 1000, 0.3, 0.01),
            ("resnet18-sgd", 2, "resnet18-adam", 2, 2000, 1000, 0.4, 0.01),
            ("resnet18-sgd", 0, "resnet18-sgd", 1, 2000, 1000, 0.1, 0.01),
            ("resnet18-sgd", 0, "resnet18-sgd", 2, 2000, 1000, 0.2, 0.01),
            ("resnet18-sgd", 1, "resnet18-sgd", 2, 2000, 1000, 0.3, 0.01),
        ],
        columns=columns,
    )
    (row,) = tables.overlap_table(overlaps, "resnet18-sgd", "resnet18-adam").to_dict("records")
    # 0.3 ± 4.303 · 0.1 / √3; three pairs of three seeds are not independent, and have no interval.
    assert row == {
        "labels": "2,000",
        "images acquired by each": "1,000",
        "ResNet-18 SGD and ResNet-18 Adam, the same seed": "30.0% [5.2%, 54.8%]",
        "ResNet-18 SGD under two seeds": "20.0%",
        "ResNet-18 Adam under two seeds": "–",
        "by chance": "1.0%",
    }
    crossed = report.crossed_tables(table, "resnet18-sgd", "resnet18-adam", overlaps)
    assert "30.0% [5.2%, 54.8%]" in crossed["overlap"]
    assert tables.overlap_table(overlaps[3:], "resnet18-sgd", "resnet18-adam") is None
    for none in (None, overlaps.iloc[:0]):
        assert report.crossed_tables(table, "resnet18-sgd", "resnet18-adam", none)["overlap"] == ""


def test_the_page_says_of_every_arm_whether_it_was_searched() -> None:
    table = tidy_of({"resnet18-sgd": line(0.5, 0.9), "resnet18-adam": line(0.5, 0.8)})
    account = pd.DataFrame(
        {
            "group": ["resnet18-sgd", "resnet18-adam"],
            "searched": "no",
            "trials": 0,
            "drawn": 0,
            "held_out": 0,
        }
    )

    def said(account: pd.DataFrame) -> str:
        page = report.page(table, claims.verdicts(table), {}, 6, account=account)
        return page.split("Were the settings searched?")[1].split("<h2>")[0]

    assert "For no arm: 0 trials, 0 labels." in said(account)
    assert "5,000" in said(account.assign(held_out=5000)), "labels that arms are judged on count, too"
    account.loc[0, ["searched", "trials", "drawn", "held_out"]] = ["yes", 24, 11_000, 5_000]
    cells = re.findall("<td>(.*?)</td>", said(account))
    assert cells == ["ResNet-18 SGD", "yes", "24", "11,000", "5,000", "ResNet-18 Adam", "no", "0", "0", "0"]


def test_without_random_queries_the_page_says_that_no_savings_are_known() -> None:
    sentence = "how many labels the strategies save cannot be said"
    assert sentence in page_of(tidy_of({"resnet18-sgd": line(0.5, 0.9)}), 3)
    page = page_of(tidy_of(CURVES), 12)
    assert sentence not in page
    assert page.index("labels saved at a budget of") < page.index("The paper's claims")


def test_an_empty_win_matrix_is_left_out() -> None:
    alike = {"resnet18-sgd": line(0.5, 0.9), "resnet18-adam": line(0.5, 0.9)}
    assert figures.win_matrix(tidy_of(alike, spread=0)) is None


def test_seconds_that_are_not_known_are_no_number() -> None:
    table = tidy_of({"resnet18-sgd": line(0.5, 0.9), "resnet18-adam": line(0.5, 0.8)})
    table.loc[(table["optim"] == "adam") & (table["cycle"] == 3), "training_seconds"] = float("nan")
    assert report.cost_table(table)["seconds of training"].tolist() == ["100", "–"]
    drawn = figures.draw(figures.CHARTS["accuracy_vs_seconds"], figures._with_costs(figures._in_order(table)))
    assert [text.get_text() for text in drawn.axes[0].texts] == ["SGD"]


def test_a_study_without_any_seconds_has_no_figure_of_them() -> None:
    table = tidy_of({"resnet18-sgd": line(0.5, 0.9)}).assign(training_seconds=float("nan"))
    drawn = figures.all_figures(table, ANCHOR)
    assert "accuracy_vs_seconds" not in drawn
    assert "accuracy_vs_image_passes" in drawn


def test_the_page_names_what_is_missing_and_what_differs() -> None:
    table = tidy_of(CURVES)
    table.loc[table["arm"] == "resnet50-sgd-s2", "threads"] = 2
    page = page_of(table, 13)
    assert "12 of 13 arms finished" in page
    assert "1 arms are not finished" in page
    assert "not all computed with the same threads" in page


def test_claims_that_are_not_tested_are_folded_away(folder: Path) -> None:
    shown, folded = (folder / "report.html").read_text().split("<details>")
    folded = folded.split("</details>")[0]
    assert "ResNet-18: adaptive optimizers lead at first" in shown
    assert "ResNet-34: RMSProp is slower" not in shown
    assert "ResNet-34: RMSProp is slower" in folded
    tables = claims.verdicts(tidy_of(CURVES)).drop_duplicates("claim")["verdict"]
    assert folded.count(">not tested</td>") == (tables == "not tested").sum() > 5
    assert "claims not tested" in folded.split("</summary>")[0]
    elsewhere = page_of(tidy_of(CURVES, protocol="cpu_study"), 12)
    assert re.search(
        r"ResNet-18 Adam, mean of 1,000–3,000 labels, stated 75% to 79%: [^<]*\], not the paper&#39;s protocol<",
        elsewhere,
    )
    markdown = (folder / "claims.md").read_text()
    assert "| **ResNet-34: RMSProp is slower**" not in markdown
    assert "ResNet-34: RMSProp is slower" in markdown.split("Not tested:")[1]


def test_nothing_of_the_page_comes_from_elsewhere(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert re.findall(r"<(?:script|link|img|iframe|object)\b", page) == []
    assert re.findall(r"(?:src|xlink:href|href)=\"(?!#)[^\"]*\"", page) == []
    assert re.findall(r"url\((?!#)", page) == []


@needs_browser
def test_the_page_opens_in_a_browser_without_a_network(folder: Path, tmp_path: Path) -> None:
    page = folder / "report.html"
    document = browse(page, tmp_path, "--dump-dom")
    assert document.count("<svg") == len(FIGURES)
    assert "Cross-over, ResNet-18" in document
    picture = tmp_path / "page.png"
    browse(page, tmp_path, "--window-size=1200,2000", f"--screenshot={picture}")
    assert min(pixels_of(picture, style.OPTIMIZERS[optim]) for optim in ("sgd", "adam")) > 100


def test_costs_by_hand() -> None:
    table = report.cost_table(tidy_of({"resnet18-sgd": line(0.5, 0.9)}))
    assert table.loc[0].to_dict() == {
        "arm": "ResNet-18 SGD",
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


def test_params_that_vary_have_lines_of_their_own() -> None:
    # Two learning rates: two lines, and none is their mean.
    curves = {"resnet18-sgd": line(0.45, 0.9), "resnet18-adam": line(0.5, 0.88)}
    table = tidy_of(curves, spread=0, protocol="demo")
    table.loc[table["optim"] == "adam", ["group", "optim"]] = ["resnet18-sgd-lr0.5", "sgd"]
    assert {"SGD, loss prediction", "SGD, lr 0.5"} <= words_of(figure_3(table))


def test_the_claims_for_a_readme_say_what_they_are_judged_by(folder: Path, tmp_path: Path) -> None:
    assert (
        "Protocol `paper`, 1,000 to 10,000 labels, 3 seeds or more an arm; the paper's protocol"
        in (folder / "claims.md").read_text()
    )
    table = tidy_of(CURVES, protocol="cpu_study")
    written = report.claims_markdown(table, claims.verdicts(table))
    assert "**not the paper's protocol** (protocol cpu_study)" in written


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tidy.csv").write_text("arm,accuracy\na,0.5\n")
    with pytest.raises(BadInput, match=r"without .*labels"):
        tidy.read(tmp_path / "tidy.csv")


def test_arms_are_compared_by_the_measure_that_the_study_names() -> None:
    table = tidy_of(CURVES)
    # By this measure SGD is what it is by accuracy, and Adam is worse.
    is_adam = table["group"] == "resnet18-adam"
    table["balanced_accuracy"] = table["accuracy"].where(~is_adam, table["accuracy"] - 0.2)
    by_accuracy = page_of(table, 12)
    by_measure = report.page(table, claims.verdicts(table), {}, 12, measure="balanced_accuracy")
    assert "accuracy at the end" in by_accuracy and "balanced accuracy at the end" not in by_accuracy
    assert "balanced accuracy at the end" in by_measure and "seeds that reach it" not in by_measure
    assert "compares its arms by balanced accuracy" in by_measure
    judged = statistics.judged_by(table, "balanced_accuracy")
    rows = report.summary_table(judged, "balanced accuracy").set_index("arm")["balanced accuracy at the end"]
    plain = report.summary_table(table).set_index("arm")["accuracy at the end"]
    assert rows["ResNet-18 SGD"] == plain["ResNet-18 SGD"]
    assert float(plain["ResNet-18 Adam"].split()[0]) - float(rows["ResNet-18 Adam"].split()[0]) == pytest.approx(20)
    assert rows["ResNet-18 Adam"] in by_measure


def test_a_measure_that_the_table_lacks_is_refused() -> None:
    table = tidy_of(CURVES)
    table.loc[0, "macro_f1"] = None
    with pytest.raises(BadInput, match=r"measure = 'macro_f1': not in the table of "):
        statistics.judged_by(table, "macro_f1")


def test_the_measure_of_a_study_file_reaches_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = tmp_path / "study.yaml"
    study.write_text((ROOT / "studies/digits/study.yaml").read_text() + "measure: macro_f1\n")
    written = []
    monkeypatch.setattr(report, "write", lambda *arguments: written.append(arguments))
    monkeypatch.setattr(sys, "argv", ["study", "report", str(study), "--tidy", "studies/cells/results/tidy.csv"])
    command.main()
    assert written[0][-1] == "macro_f1"


def test_a_table_from_before_a_column_was_recorded_is_read() -> None:
    found = tidy.read(ROOT / "studies/cells/results/tidy.csv")
    assert found[tidy.SINCE].isna().all(axis=None)


@pytest.mark.parametrize("seeds", [2, 3])
def test_no_words_are_clipped(seeds: int) -> None:
    names = ("sgd_tuned", "sgd_tuned-random", "sgd_tuned-chosen_by_adam_tuned", "adam_tuned", "adam_then_sgd_tuned")
    drawn = figures.all_figures(tidy_of({f"resnet18-{name}": line(0.5, 0.9) for name in names}, seeds), ANCHOR)
    for name, figure in drawn.items():
        figure.canvas.draw()
        seen, whole = figure.get_tightbbox(), figure.bbox_inches
        assert (seen.min >= whole.min).all() and (seen.max <= whole.max).all(), f"{name}: {seen} of {whole}"


def test_panels_of_optimizers_come_in_the_papers_order_the_searched_ones_too() -> None:
    names = ("adam_then_sgd_tuned", "adam_tuned", "sgd_tuned")
    variants = ("", "-random", "-margin", "-badge")
    table = tidy_of({f"resnet18-{name}{variant}": line(0.5, 0.9) for name in names for variant in variants})
    titles = [axes.get_title() for axes in figure_3(table).axes]
    assert titles == ["ResNet-18, SGD tuned", "ResNet-18, Adam tuned", "ResNet-18, Adam then SGD tuned"]


def test_label_efficiency_is_drawn_in_points_for_each_thousand_labels() -> None:
    drawn = figures.all_figures(tidy_of({"resnet18-sgd": line(0.5, 0.95)}), ANCHOR)["label_efficiency"]
    assert drawn.axes[0].lines[0].get_ydata() == pytest.approx([5] * 9)
