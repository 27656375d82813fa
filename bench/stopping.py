"""When rules for stopping would have stopped the runs of a study: python -m bench.stopping TIDY.csv

Prints what each rule saves and loses beside the whole budget, and how wrong forecasts of the next budget were. Ranges
are over the seeds.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lab.measures.stopping import RULES, backtest
from lab.process import ending
from lab.study import table

NOTHING = "–"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("tidy", type=Path, help="the tidy table of a study, as studies/stopping/results/tidy.csv")
    tidy = table.read(parser.parse_args().tidy)
    for rows in (stops(tidy), forecasts(tidy)):
        found = pd.DataFrame(rows)
        print(f"| {' | '.join(found)} |\n{'|---' * len(found.columns)}|")
        print("\n".join(f"| {' | '.join(row)} |" for row in found.to_numpy()), end="\n\n")


def stops(tidy: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A row a group and rule: how many seeds it stopped, and of these the labels that it saved and the points it lost.

    Points are 100 × (accuracy at the whole budget − accuracy at the stop): negative where the run got worse after it.
    """
    for group, curves in _curves(tidy):
        for rule in RULES:
            is_recorded = all(curve[rule.needs].notna().any() for curve in curves)
            found = [(curve.set_index("labels")["accuracy"], rule.stops_at(curve)) for curve in curves]
            # One at the last budget stops nothing.
            stopped = [(accuracy, labels) for accuracy, labels in found if labels not in (None, accuracy.index[-1])]
            yield {
                "group": group,
                "rule": rule.name,
                "stopped": f"{len(stopped)} of {len(curves)}" if is_recorded else "not recorded",
                "labels not spent": _range([accuracy.index[-1] - labels for accuracy, labels in stopped], ",.0f"),
                "points lost": _range([100 * (accuracy.iloc[-1] - accuracy[labels]) for accuracy, labels in stopped]),
            }


def forecasts(tidy: pd.DataFrame) -> Iterator[dict[str, str]]:
    """A row a group: points by which forecasts of the next budget were wrong, and those that the last accuracy was."""
    for group, curves in _curves(tidy):
        fitted, unchanged = [], []
        for curve in curves:
            made = backtest(curve["labels"], curve["accuracy"]).query("ahead == 1")
            last = curve.set_index("labels")["accuracy"][made["made_at"]].to_numpy()
            fitted.append(100 * made["error"].abs().mean())
            unchanged.append(100 * np.abs(last - made["accuracy"]).mean())
        yield {
            "group": group,
            "forecasts": f"{len(curves)} × {len(made)}",
            "wrong by, points": _range(fitted),
            "no change would be wrong by": _range(unchanged),
        }


def _curves(tidy: pd.DataFrame) -> Iterator[tuple[str, list[pd.DataFrame]]]:
    """The curve of each seed of each group."""
    for group, runs in tidy.sort_values("labels").groupby("group", sort=False):
        yield str(group), [run for _, run in runs.groupby("seed")]


def _range(values: list[float], form: str = ".1f") -> str:
    """The mean of a figure, and its least and greatest."""
    return f"{np.mean(values):{form}} [{min(values):{form}}, {max(values):{form}}]" if values else NOTHING


if __name__ == "__main__":
    ending.run(main)
