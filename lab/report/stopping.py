"""Whether more labels pay, a line a run: python -m lab.report.stopping [RUN ...] [--out PNG]"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from lab.data.files import replaced
from lab.errors import BadInput
from lab.measures.interval import interval
from lab.measures.stopping import (
    AGREES,
    RULES,
    WINDOW,
    backtest,
    forecast,
    next_labels,
    slope,
)
from lab.process import ending
from lab.report import style
from lab.report.compare import WORKSPACE, curve_of
from lab.report.curve import BUDGET_LABEL, label_ends, set_theme, show_budget

COLUMNS = ("labels", "accuracy", "judged_images", "agreement")
COLOURS = (*style.OPTIMIZERS.values(), *style.OTHERS)
# Queries that the picture looks ahead.
AHEAD = 3
STOPS = f"a rule stops at {AGREES}"
REFERENCE: dict[str, Any] = {"color": style.REFERENCE, "linewidth": 1, "linestyle": "--"}
MEASURED, FORECAST, EARLIER = "measured, 95 % interval", "forecast", "earlier forecasts"
LOOKS: dict[str, dict[str, Any]] = {
    MEASURED: {"gid": MEASURED, "marker": "o"},
    FORECAST: {"gid": FORECAST, "marker": "o", "linestyle": ":", "markerfacecolor": "white"},
    EARLIER: {"gid": EARLIER, "linewidth": 0.7, "alpha": 0.7},
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="experiments, branches or commits (default: workspace)")
    parser.add_argument("--out", type=Path, help="where to write a picture (.png)")
    arguments = parser.parse_args()
    curves = {name: read(name) for name in dict.fromkeys(arguments.runs or [WORKSPACE])}
    for name, curve in curves.items():
        print(f"{name}: {line(curve)}")
    if arguments.out:
        draw(curves, arguments.out)
        print(f"\nPicture: {arguments.out}")


def read(name: str) -> pd.DataFrame:
    """The curve of a finished run.

    Raises:
        BadInput: there is none of that name, or it was computed before agreement was measured.
    """
    curve = curve_of(name)
    if missing := [column for column in COLUMNS if column not in curve]:
        raise BadInput(
            f"{name}: plots/curve.csv has no {' and no '.join(missing)}, as older runs have none; run it again"
        )
    return curve


def line(curve: pd.DataFrame) -> str:
    """What a run says of more labels, in one line."""
    labels, accuracy = curve["labels"].to_numpy(), curve["accuracy"].to_numpy()
    low, high = interval(accuracy[-1], curve["judged_images"].iloc[-1])
    parts = [f"{labels[-1]:,} labels, {accuracy[-1]:.1%} [{100 * low:.1f}, {100 * high:.1f}]: {verdict(curve)}"]
    if pd.notna(agreement := curve["agreement"].iloc[-1]):
        parts.append(f"agreement {agreement:.3f} (a rule stops where {WINDOW} cycles average {AGREES})")
    if found := slope(curve):
        parts.append(f"{found.points:+.1f} points per 100 labels [{found.low:.1f}, {found.high:.1f}]")
    budget = next_labels(labels)
    if budget and (said := forecast(labels, accuracy, budget)) is not None:
        parts.append(f"forecast {said:.1%} at {budget:,}{_earlier(backtest(labels, accuracy))}")
    return "; ".join(parts)


def verdict(curve: pd.DataFrame) -> str:
    """Whether more labels pay, by what the rules say now and by whether the slope is above zero."""
    found, held = slope(curve), [rule.name for rule in RULES if rule.holds(curve)]
    if found is None:
        return "one cycle does not show whether more labels pay"
    rises = found.low > 0
    if not held:
        return "more labels pay" if rises else "not shown whether more labels pay"
    say = f"{len(held)} of {len(RULES)} rules ({', '.join(held)})"
    return f"accuracy still rises, against {say}" if rises else f"more labels pay little, by {say}"


def _earlier(past: pd.DataFrame) -> str:
    errors = past.loc[past["ahead"] == 1, "error"].abs()
    wrong = f"forecasts were wrong by {100 * errors.mean():.1f} points on average"
    return f" ({wrong if len(errors) else 'no earlier forecast shows how good that is'})"


def draw(curves: dict[str, pd.DataFrame], path: Path) -> None:
    """Write a PNG: accuracy with intervals and forecasts above, agreement below, a colour a run.

    Args:
        curves: with the columns of lab/measures/stopping.py, by the name of the run.
    """
    set_theme()
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 6.4), layout="constrained", height_ratios=(2, 1))
    ends, budgets = {}, []
    for number, (name, curve) in enumerate(curves.items()):
        look = {"color": COLOURS[number % len(COLOURS)]}
        said = _draw_accuracy(above, curve, look)
        below.plot(curve["labels"], curve["agreement"], marker="o", **look)
        ends[name] = {"x": said.index[-1], "y": said.iloc[-1], "colour": look["color"]}
        budgets += [*curve["labels"], *said.index]
    below.axhline(AGREES, **REFERENCE)
    verdicts = [verdict(curve).capitalize() for curve in curves.values()]
    above.set(title=verdicts[0] if len(verdicts) == 1 else "Whether more labels pay", ylabel="accuracy")
    below.set(xlabel=BUDGET_LABEL, ylabel="agreement\n(Cohen's kappa)", ylim=(None, 1.02))
    above.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    show_budget(below, pd.Series(budgets))
    label_ends(above, pd.DataFrame.from_dict(ends, orient="index"))
    label_ends(below, pd.DataFrame({"x": below.get_xlim()[1], "y": AGREES, "colour": REFERENCE["color"]}, [STOPS]))
    above.legend(handles=_legend(above), loc="best", frameon=False)
    with replaced(path) as file:
        figure.savefig(file, dpi=150, format="png")
    plt.close(figure)


def _draw_accuracy(axes: plt.Axes, curve: pd.DataFrame, look: dict[str, Any]) -> pd.Series:
    """Draw what was measured and what was forecast.

    Returns:
        the last accuracy and the forecasts that follow it, by labels.
    """
    labels, accuracy = curve["labels"].to_numpy(), curve["accuracy"].to_numpy()
    low, high = interval(accuracy, curve["judged_images"])
    axes.errorbar(
        labels, accuracy, (accuracy - low, high - accuracy), capsize=3, elinewidth=1, **LOOKS[MEASURED] | look
    )
    measured = curve.set_index("labels")["accuracy"]
    for made_at, rows in backtest(labels, accuracy).query("ahead <= @AHEAD").groupby("made_at"):
        line = pd.concat([measured[[made_at]], rows.set_index("labels")["forecast"]])
        axes.plot(line.index, line, **look | LOOKS[EARLIER])
    budget = next_labels(labels)
    if budget is None:
        return measured.tail(1)
    budgets = labels[-1] + (budget - labels[-1]) * np.arange(1, AHEAD + 1)
    said = forecast(labels, accuracy, budgets)
    if said is None:
        return measured.tail(1)
    line = pd.concat([measured.tail(1), pd.Series(said, budgets)])
    axes.plot(line.index, line, **look | LOOKS[FORECAST])
    return line


def _legend(axes: plt.Axes) -> list[Line2D]:
    """What the lines of every run mean, in grey: of those that were drawn."""
    drawn = {line.get_gid() for line in axes.lines}  # `LOOKS` gives each its name
    return [Line2D([], [], color=style.REFERENCE, label=name, **look) for name, look in LOOKS.items() if name in drawn]


if __name__ == "__main__":
    ending.run(main)
