"""Collect the cycles into what `dvc metrics` and `dvc plots` show: python -m stages.summarise

Results proper and costs, which differ from run to run, go to files of their own.
"""

import json
from pathlib import Path

import pandas as pd

from lab import params
from lab.data import labelled
from lab.data.files import write_json, write_text
from lab.measures import budget as measures
from lab.process import ending as entry

RESULTS, COSTS = Path("metrics/cycles"), Path("metrics/costs")
SUMMARY, COSTS_SUMMARY = Path("metrics/summary.json"), Path("metrics/costs.json")
CURVE, COSTS_CURVE = Path("plots/curve.csv"), Path("plots/costs.csv")

CURVE_COLUMNS = [
    "cycle",
    "labels",
    "accuracy",
    "label_efficiency",
    "loss_spearman",
    "loss_pair_accuracy",
    "training_images",
    "parameters",
    "flops",
    "acquired_classes",
]


def main() -> None:
    settings = params.load(
        cycles="cycles",
        target="protocols.{protocol}.target_accuracy",
    )
    # Only the cycles of this run: files of a cycle that was dropped stay on disk.
    numbers = [cycle["this"] for cycle in settings.cycles]
    labelled.check_chain([labelled.read(labelled.path_of(number)) for number in numbers])
    results = _read(RESULTS, numbers)
    costs = _read(COSTS, numbers)

    results["label_efficiency"] = measures.label_efficiency(results["labels"], results["accuracy"])
    final = results.iloc[-1]
    needed = measures.labels_to_reach(settings.target, results["labels"], results["accuracy"])
    write_json(
        SUMMARY,
        {
            "labels": int(final["labels"]),
            "accuracy": final["accuracy"],
            "area_under_budget_curve": measures.area_under_budget_curve(results["labels"], results["accuracy"]),
            "label_efficiency": None if len(results) == 1 else final["label_efficiency"],
            "target_accuracy": settings.target,
            "labels_to_target": "not reached" if needed is None else needed,
            "parameters": int(final["parameters"]),
        },
    )
    write_json(
        COSTS_SUMMARY,
        {
            **{name: costs[name].sum() for name in ("training_seconds", "evaluation_seconds", "query_seconds")},
            "images_per_second": costs["images_per_second"].median(),
            "peak_memory_mb": costs["peak_memory_mb"].max(),
        },
    )
    # An empty cell would be drawn as 0 by `dvc plots`.
    write_text(CURVE, results[CURVE_COLUMNS].to_csv(index=False, na_rep="nan"))
    write_text(COSTS_CURVE, costs.to_csv(index=False))


def _read(folder: Path, numbers: list[int]) -> pd.DataFrame:
    """One row a cycle, from its JSON file."""
    return pd.DataFrame(json.loads((folder / f"{number}.json").read_text()) for number in numbers)


if __name__ == "__main__":
    entry.run_stage(main)
