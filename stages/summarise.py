"""Collect the cycles into what `dvc metrics` and `dvc plots` show."""

from pathlib import Path

import pandas as pd

from lab import params
from lab.data import history
from lab.data.files import write_json, write_text
from lab.host import Host
from lab.measures import budget, by_class

SUMMARY, CURVE = Path("metrics/summary.json"), Path("plots/curve.csv")


def main(host: Host, cycles: str) -> None:
    """Summarise a run. cycles: how many it has."""
    settings = params.load(protocol="protocol", target="protocols.{protocol}.target_accuracy")
    summary, curve = summarise(history.read(int(cycles)), settings.target)
    write_json(SUMMARY, summary)
    # An empty cell would be drawn as 0 by `dvc plots`.
    write_text(CURVE, curve.to_csv(index=False, na_rep="nan"))


def summarise(results: list[dict], target: float) -> tuple[dict, pd.DataFrame]:
    """The figures of a run and its curve: a row a cycle, with its results and its label efficiency.

    Args:
        results: of each cycle, in order.
        target: accuracy, 0 … 1.
    """
    curve = pd.DataFrame(results)
    curve.insert(3, "label_efficiency", budget.label_efficiency(curve["labels"], curve["accuracy"]))
    final = curve.iloc[-1]
    needed = budget.labels_to_reach(target, curve["labels"], curve["accuracy"])
    summary = {
        "labels": int(final["labels"]),
        "accuracy": final["accuracy"],
        **{name: final[name] for name in by_class.NAMES if name in final},
        "area_under_budget_curve": budget.area_under_budget_curve(curve["labels"], curve["accuracy"]),
        "label_efficiency": None if len(curve) == 1 else final["label_efficiency"],
        "target_accuracy": target,
        "labels_to_target": "not reached" if needed is None else needed,
        "parameters": int(final["parameters"]),
    }
    return summary, curve
