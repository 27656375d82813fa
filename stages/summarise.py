"""Collect the cycles into what `dvc metrics` and `dvc plots` show."""

from pathlib import Path

import pandas as pd

from lab import params
from lab.data import details, history
from lab.data.files import write_json, write_text
from lab.host import Host
from lab.measures import budget, by_class
from lab.measures.interval import interval

SUMMARY, CURVE = Path("metrics/summary.json"), Path("plots/curve.csv")
CLASSES, CONFUSION = Path("plots/classes.csv"), Path("plots/confusion.csv")
TRAINING, LOSSES = Path("plots/training.csv"), Path("plots/losses.csv")


def main(host: Host, cycles: str) -> None:
    """Summarise a run. cycles: how many it has."""
    settings = params.load(protocol="protocol", target="protocols.{protocol}.target_accuracy")
    results = history.read(int(cycles))
    summary, curve = summarise(results, settings.target)
    write_json(SUMMARY, summary)
    for path, table in {CURVE: curve, **look(results, details.read(int(cycles) - 1))}.items():
        # An empty cell would be drawn as 0 by `dvc plots`.
        write_text(path, table.to_csv(index=False, na_rep="nan"))


def summarise(results: list[dict], target: float) -> tuple[dict, pd.DataFrame]:
    """The figures of a run and its curve: a row a cycle, with its results, label efficiency and interval of accuracy.

    Args:
        results: of each cycle, in order.
        target: accuracy, 0 … 1.
    """
    curve = pd.DataFrame(results)
    curve.insert(3, "label_efficiency", budget.label_efficiency(curve["labels"], curve["accuracy"]))
    curve["accuracy_low"], curve["accuracy_high"] = interval(curve["accuracy"], curve["judged_images"])
    final = curve.iloc[-1]
    needed = budget.labels_to_reach(target, curve["labels"], curve["accuracy"])
    summary = {
        "labels": int(final["labels"]),
        **{name: final[name] for name in ("accuracy", "accuracy_low", "accuracy_high")},
        "judged_images": int(final["judged_images"]),
        **{name: final[name] for name in by_class.NAMES if name in final},
        "area_under_budget_curve": budget.area_under_budget_curve(curve["labels"], curve["accuracy"]),
        "label_efficiency": None if len(curve) == 1 else final["label_efficiency"],
        "target_accuracy": target,
        "labels_to_target": "not reached" if needed is None else needed,
        "parameters": int(final["parameters"]),
    }
    return summary, curve


def look(results: list[dict], last: dict) -> dict[Path, pd.DataFrame]:
    """The tables behind the pictures of a run: the classes that every cycle acquired, and its last cycle close up.

    Args:
        results: of each cycle, in order.
        last: details of the last cycle.
    """
    names = last["classes"]
    acquired = [
        {"labels": result["labels"], "class": name, "images": count, "share": count / max(sum(counts), 1)}
        for result in results
        for counts in [result["acquired_classes"] or []]
        for name, count in zip(names, counts, strict=bool(counts))
    ]
    confused = [
        {"actual": actual, "predicted": predicted, "images": count, "share": count / max(sum(row), 1)}
        for actual, row in zip(names, last["confusion"], strict=True)
        for predicted, count in zip(names, row, strict=True)
    ]
    training = pd.DataFrame(last["training"])
    training.insert(0, "epoch", training.index + 1)
    return {
        CLASSES: pd.DataFrame(acquired, columns=["labels", "class", "images", "share"]),
        CONFUSION: pd.DataFrame(confused),
        TRAINING: training,
        LOSSES: pd.DataFrame(last["losses"]).add_suffix("_loss").assign(rank_correlation=results[-1]["loss_spearman"]),
    }
