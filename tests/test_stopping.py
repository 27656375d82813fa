"""When to stop: intervals, slope, forecast and rules on curves worked out by hand; the line, the picture, the table."""

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from bench import stopping as bench
from lab.measures import stopping
from lab.measures.interval import interval
from lab.process import ending
from lab.report import stopping as report
from tests.study_tables import line as straight
from tests.study_tables import tidy_of

NAN = float("nan")
AGREEMENT, SLOPE, FORECAST = stopping.RULES
SATURATING = [0.9 - 0.19 / cycle for cycle in range(1, 9)]


def curve_of(
    accuracy: list[float], step: int = 100, images: int | list[int] = 10_000, agreement: list[float] | float = NAN
) -> pd.DataFrame:
    """A curve with these accuracies at ``step``, 2 ``step`` … labels."""
    labels = step * np.arange(1, len(accuracy) + 1)
    columns = {"labels": labels, "accuracy": accuracy, "judged_images": images, "agreement": agreement}
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    # Newcombe (1998), single proportions, table I: the score method.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(right: int, images: int, low: float, high: float) -> None:
    assert interval(right / images, images) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_of_a_perfect_accuracy_reaches_below_it() -> None:
    low, high = interval([1.0, 0.5], [500, NAN])
    assert (low[0], high[0]) == pytest.approx((0.99238, 1), abs=1e-5)
    assert np.isnan([low[1], high[1]]).all()


def test_the_slope_of_two_cycles_is_their_difference() -> None:
    # Wilson's half widths of 80 and 90 of 100 are 7.77 and 5.96 points: √(7.77² + 5.96²) = 9.79.
    assert stopping.slope(curve_of([0.8, 0.9], images=100)) == pytest.approx((10, 0.21, 19.79), abs=0.01)
    assert stopping.slope(curve_of([0.8, 0.9], step=50, images=100)) == pytest.approx((20, 0.42, 39.58), abs=0.02)


def test_the_slope_is_of_the_last_three_cycles() -> None:
    # Their half width, 4.37 points, over √2 · 100 labels.
    found = stopping.slope(curve_of([0.1, 0.5, 0.5, 0.5], images=500))
    assert found == pytest.approx((0, -3.087, 3.087), abs=0.001)


def test_a_cycle_weighs_by_its_images() -> None:
    found = stopping.slope(curve_of([0.2, 0.5, 0.6], images=[10, 100_000, 100_000]))
    assert found is not None
    assert found.points == pytest.approx(10, abs=0.1)


def test_a_single_cycle_has_no_slope() -> None:
    assert stopping.slope(curve_of([0.5])) is None


def test_cycles_without_a_fault_have_a_slope_with_an_interval() -> None:
    found = stopping.slope(curve_of([1.0] * 3, images=500))
    assert found is not None
    assert (found.points, -found.low) == pytest.approx((0, found.high))
    assert 0.1 < found.high < 1


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_the_slope_s_interval_holds_the_true_slope(shared: float) -> None:
    """Networks fail on the same images where these share the difficulty, and the interval is too wide then."""
    draw, truth, images = np.random.default_rng(1), (0.85, 0.9, 0.95), 300
    # The normal distribution's quantiles at the truth.
    skill = (1.0364, 1.2816, 1.6449)
    held = 0
    for _ in range(200):
        common = np.sqrt(shared) * draw.normal(size=images)
        accuracy = [float((common + np.sqrt(1 - shared) * draw.normal(size=images) < own).mean()) for own in skill]
        found = stopping.slope(curve_of(accuracy, images=images))
        assert found is not None
        held += found.low <= 100 * (truth[2] - truth[0]) / 2 <= found.high
    assert 0.92 <= held / 200 <= (0.98 if shared == 0 else 1)
    assert shared == 0 or held / 200 > 0.95


@pytest.mark.parametrize(("a", "b", "c"), [(0.95, 3.0, 0.5), (1.0, 2.0, 0.3), (0.9, 50.0, 1.5), (0.6, 0.0, 1.0)])
@pytest.mark.parametrize("cycles", [3, 10])
def test_a_power_law_is_recovered(a: float, b: float, c: float, cycles: int) -> None:
    labels = 100.0 * np.arange(1, cycles + 1)
    at = np.array([50.0, 1500, 100_000])
    assert stopping.forecast(labels, a - b * labels**-c, at) == pytest.approx(a - b * at**-c, abs=1e-4)


def test_a_forecast_takes_three_cycles() -> None:
    assert stopping.forecast([100, 200], [0.5, 0.6], 300) is None


def test_a_forecast_stays_below_one_and_never_falls() -> None:
    assert stopping.forecast([100, 200, 300], [0.7, 0.8, 0.9], [10**4, 10**9]) == pytest.approx([1, 1], abs=0.1)
    assert (stopping.forecast([100, 200, 300], [0.7, 0.8, 0.9], [10**4, 10**9]) <= 1).all()
    assert stopping.forecast([100, 200, 300], [1.0, 1.0, 1.0], 400) == pytest.approx(1)
    # A curve that falls is fitted by a constant, its mean with weights 1/0.24, 2/0.25 and 3/0.24.
    assert stopping.forecast([100, 200, 300], [0.6, 0.5, 0.4], [400, 800]) == pytest.approx([0.46622] * 2, abs=1e-5)


def test_earlier_forecasts_are_held_against_what_followed() -> None:
    # Flat for three cycles, then a jump that the forecast did not see.
    past = stopping.backtest([100, 200, 300, 400, 500], [0.5, 0.5, 0.5, 0.7, 0.7])
    assert past["made_at"].tolist() == [300, 300, 400]
    assert past["labels"].tolist() == [400, 500, 500]
    assert past["ahead"].tolist() == [1, 2, 1]
    assert past["forecast"].tolist()[:2] == pytest.approx([0.5, 0.5])
    assert past["error"].tolist()[:2] == pytest.approx([-0.2, -0.2])
    assert past["accuracy"].tolist() == [0.7] * 3
    short = stopping.backtest([100, 200, 300], [0.5, 0.5, 0.5])
    assert short.empty
    assert set(short) == set(past)


@pytest.mark.parametrize(
    ("agreement", "stop"),
    [
        ([NAN, 0.98, 0.99, 0.995, 0.99, 0.9], 500),
        ([NAN, 1.0, 0.985, 0.99], 400),  # their mean, not each
        ([NAN, 0.995, NAN, 0.995, 0.995, 0.995], 600),
        ([NAN, 0.995, 0.995], None),
        ([NAN] * 6, None),
        ([NAN, 0.9, 0.95, 0.98, 0.98, 0.98], None),
    ],
)
def test_stable_predictions(agreement: list[float], stop: int | None) -> None:
    assert AGREEMENT.stops_at(curve_of([0.9] * len(agreement), agreement=agreement)) == stop


@pytest.mark.parametrize(
    ("gain", "images", "stop"),
    [(0.005, 10_000, 3000), (0.015, 10_000, None), (0.005, 100, None), (0.005, NAN, None), (-0.02, 10_000, 3000)],
)
def test_a_flat_slope(gain: float, images: int, stop: int | None) -> None:
    accuracy = [0.9 + gain * cycle for cycle in range(5)]
    assert SLOPE.stops_at(curve_of(accuracy, step=1000, images=images)) == stop


def test_a_flat_slope_takes_three_cycles() -> None:
    assert SLOPE.stops_at(curve_of([0.9, 0.9], images=10**6)) is None


@pytest.mark.parametrize(
    ("accuracy", "stop"),
    [
        ([0.8] * 7, 500),
        ([1.0] * 5, 500),
        ([0.8] * 4, None),
        ([0.2, 0.3, 0.4, 0.5, 0.6, 0.7], None),
        # No better than the one before, once: no three forecasts in a row say so.
        ([0.3, 0.5, 0.5, 0.6, 0.68, 0.74], None),
        # 0.9 − 19 / labels: the k-th cycle forecasts a gain of 0.19 / (k·(k + 1)), below 0.01 from the fourth on.
        (SATURATING, 600),
        # Whatever follows, it stops where it stopped.
        ([*SATURATING[:6], 0.95, 1.0], 600),
    ],
)
def test_a_small_forecast_gain(accuracy: list[float], stop: int | None) -> None:
    assert FORECAST.stops_at(curve_of(accuracy)) == stop


def test_the_line_of_a_run() -> None:
    curve = curve_of([0.6, 0.7, 0.75, 0.78, 0.72], images=[500] * 5, agreement=[NAN, 0.5, 0.7, 0.8, 0.8714])
    # Forecasts of the next budget were 77.8 and 80.0 %.
    assert report.line(curve) == (
        "500 labels, 72.0% [67.9, 75.8]: not shown whether more labels pay; "
        "agreement 0.871 (a rule stops where 3 cycles average 0.99); "
        "-1.4 points per 100 labels [-4.2, 1.3]; "
        "forecast 75.1% at 600 (forecasts were wrong by 4.1 points on average)"
    )


def test_the_line_of_short_runs() -> None:
    one, two, three = (report.line(curve_of([0.6, 0.7, 0.75][:cycles], images=500)) for cycles in (1, 2, 3))
    assert one == "100 labels, 60.0% [55.6, 64.2]: one cycle does not show whether more labels pay"
    assert two == "200 labels, 70.0% [65.8, 73.9]: more labels pay; +10.0 points per 100 labels [4.1, 15.9]"
    assert three.endswith("at 400 (no earlier forecast shows how good that is)")


@pytest.mark.parametrize(
    ("accuracy", "images", "agreement", "says"),
    [
        ([0.6, 0.7, 0.75], 500, NAN, "more labels pay"),
        ([0.7, 0.72, 0.73], 500, NAN, "not shown whether more labels pay"),
        ([0.8] * 5, 500, 0.995, "more labels pay little, by 2 of 3 rules (agreement, forecast)"),
        ([0.8] * 5, 10_000, 0.995, "more labels pay little, by 3 of 3 rules (agreement, slope, forecast)"),
        ([0.6, 0.7, 0.75], 500, 0.995, "accuracy still rises, against 1 of 3 rules (agreement)"),
    ],
)
def test_the_verdict(accuracy: list[float], images: int, agreement: float, says: str) -> None:
    assert report.verdict(curve_of(accuracy, images=images, agreement=agreement)) == says


def test_the_picture_repeats(tmp_path: Path) -> None:
    runs = {"sgd": curve_of([0.6, 0.7, 0.75, 0.78], agreement=[NAN, 0.5, 0.7, 0.8]), "new": curve_of([0.5])}
    for name in ("first", "second"):
        report.draw(runs, tmp_path / f"{name}.png")
    first, second = ((tmp_path / f"{name}.png").read_bytes() for name in ("first", "second"))
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_what_the_picture_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "close", lambda figure: None)
    accuracy = [0.6, 0.7, 0.75, 0.78, 0.8]
    report.draw({"sgd": curve_of(accuracy, agreement=[NAN, 0.5, 0.7, 0.8, 0.9])}, tmp_path / "a.png")
    above, below = plt.gcf().axes
    monkeypatch.undo()
    plt.close()
    assert above.get_title() == "More labels pay"
    assert [text.get_text() for text in above.get_legend().get_texts()] == [*report.LOOKS]
    (bars,) = above.containers
    measured, caps, _ = bars.lines
    assert measured.get_ydata().tolist() == accuracy
    low, high = interval(accuracy, 10_000)
    assert [cap.get_ydata().tolist() for cap in caps] == [pytest.approx(low), pytest.approx(high)]
    earlier, later, forecast = (line for line in above.lines if line not in (measured, *caps))
    # from the third cycle on, each to the cycles that followed
    assert earlier.get_xdata().tolist() == [300, 400, 500]
    assert later.get_xdata().tolist() == [400, 500]
    assert forecast.get_xdata().tolist() == [500, 600, 700, 800]
    assert forecast.get_ydata()[1:] == pytest.approx(stopping.forecast(measured.get_xdata(), accuracy, [600, 700, 800]))
    agreement, stop = below.lines
    assert agreement.get_ydata().tolist()[1:] == [0.5, 0.7, 0.8, 0.9]
    assert set(stop.get_ydata()) == {0.99}


def test_the_legend_has_no_more_than_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "close", lambda figure: None)
    for accuracy, drawn in (([0.6], 1), ([0.6, 0.7, 0.75], 2)):
        report.draw({"sgd": curve_of(accuracy)}, tmp_path / "a.png")
        legend = plt.gcf().axes[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == [*report.LOOKS][:drawn]
    monkeypatch.undo()
    plt.close("all")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with an older run at its first commit, a finished one at its second, and a later one checked out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plots").mkdir()
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    older = curve_of([0.4]).drop(columns="agreement")
    for curve in (older, curve_of([0.5, 0.6]), curve_of([0.5, 0.6, 0.65])):
        curve.to_csv("plots/curve.csv", index=False, na_rep="nan")
        if len(curve) < 3:
            subprocess.run(["git", "add", "."], check=True)
            subprocess.run([*git, "commit", "-q", "-m", "a run"], check=True)
    return tmp_path


def status_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["stopping", *arguments])
    return ending.status_of(report.main)


def test_the_command(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(monkeypatch) == 0
    assert status_of(monkeypatch, "HEAD", "--out", "a.png") == 0
    workspace, head, _, picture = capsys.readouterr().out.splitlines()
    assert workspace.startswith("workspace: 300 labels, 65.0% [")
    assert head.startswith("HEAD: 200 labels, 60.0% [")
    assert picture == "Picture: a.png"
    assert (repository / "a.png").exists()
    assert status_of(monkeypatch, "nothing") == status_of(monkeypatch, "HEAD~1") == 1
    unknown, older = capsys.readouterr().err.splitlines()
    assert unknown.startswith("error: nothing: no finished run of that name; ")
    assert older == "error: HEAD~1: plots/curve.csv has no agreement, as older runs have none; run it again"


def test_the_table_of_a_study() -> None:
    tidy = tidy_of({"resnet18-sgd": [0.8] * 10, "resnet18-adam": straight(0.1, 0.9)}, spread=0)
    rows = {(row["group"], row["rule"]): row for row in bench.stops(tidy)}
    flat, rising = rows["resnet18-sgd", "forecast"], rows["resnet18-adam", "forecast"]
    assert (flat["stopped"], flat["labels not spent"], flat["points lost"]) == (
        "3 of 3",
        "5,000 [5,000, 5,000]",
        "0.0 [0.0, 0.0]",
    )
    assert rows["resnet18-sgd", "slope"]["labels not spent"] == "7,000 [7,000, 7,000]"
    assert rows["resnet18-sgd", "agreement"]["stopped"] == "0 of 3"
    assert (rising["stopped"], rising["labels not spent"], rising["points lost"]) == ("0 of 3", "–", "–")


def test_the_table_counts_what_a_stop_loses() -> None:
    tidy = tidy_of({"resnet18-sgd": [0.8] * 9 + [0.83]}, spread=0)
    row = next(row for row in bench.stops(tidy) if row["rule"] == "slope")
    assert row["points lost"] == "3.0 [3.0, 3.0]"
    (forecasts,) = bench.forecasts(tidy)
    assert forecasts == {
        "group": "resnet18-sgd",
        "forecasts": "3 × 7",
        # 3 points once in seven
        "wrong by, points": "0.4 [0.4, 0.4]",
        "no change would be wrong by": "0.4 [0.4, 0.4]",
    }


def test_a_table_says_what_was_not_recorded() -> None:
    tidy = tidy_of({"resnet18-sgd": [0.8] * 10}).assign(agreement=NAN, judged_images=NAN)
    assert [row["stopped"] for row in bench.stops(tidy)] == ["not recorded", "not recorded", "3 of 3"]


def test_a_rule_that_holds_after_the_last_cycle_stops_nothing() -> None:
    tidy = tidy_of({"resnet18-sgd": [0.8] * 10})
    agreement = dict(zip(range(10), [0.5] * 7 + [1.0] * 3, strict=True))
    row = next(bench.stops(tidy.assign(agreement=tidy["cycle"].map(agreement))))
    assert (row["rule"], row["stopped"], row["labels not spent"]) == ("agreement", "0 of 3", "–")
