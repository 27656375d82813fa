"""Draw the run's curves, and the images of its last query."""

from pathlib import Path

import pandas as pd

from lab import params
from lab.data import details, labelled, prepared
from lab.host import Host
from lab.report.curve import draw_curve
from lab.report.sheet import Part, draw_sheet
from lab.report.style import words

CURVE = Path("plots/curve.csv")
FIGURES = {
    "accuracy": ("test accuracy", Path("plots/accuracy_vs_budget.png")),
    "label_efficiency": ("accuracy gained per label", Path("plots/label_efficiency.png")),
}
SHEET = Path("plots/contact_sheet.png")
SHOWN = 16  # images of each part of the sheet


def main(host: Host, cycle: str) -> None:
    """cycle: the number of the last one."""
    settings = params.load(optim="optim", arch="arch", strategy="strategy", protocol="protocol", seed="seed")
    curve = pd.read_csv(CURVE)
    curve["optim"] = settings.optim
    run = f"{words(settings.optim)}, {words(settings.strategy)}, seed {settings.seed}"
    curve["run"] = run
    for column, (label, path) in FIGURES.items():
        draw_curve(curve, column, f"{words(settings.arch)}, protocol {settings.protocol}", label, path)
    title = f"Query of cycle {cycle}: label, where it is known, and acquisition score of each image\n{run}"
    draw_sheet(last_query(int(cycle)), title, SHEET)
    if asked := details.read(int(cycle))["asked"]:
        count = len(asked["predicted"])
        print(f"batch {int(cycle) + 1} waits for {count:,} labels: `python -m lab.campaign` says what comes next")


def last_query(cycle: int) -> list[Part]:
    """The images that a cycle's query ranked highest and lowest, with their acquisition scores, and their labels where
    the data set has them.

    The lowest are those that were left in the pool. A strategy that does not rank the pool has none: then they are the
    last ones of what was acquired.
    """
    pool = labelled.read(labelled.path_of(cycle + 1))
    acquired = pool[pool["cycle"] == cycle + 1]
    seen = details.read(cycle)
    left, is_hidden = pd.DataFrame(seen["lowest"]), seen["asked"] is None
    highest = acquired.head(SHOWN)
    if len(left):
        heading = "Lowest scores, left in the pool"
        heading += ". Their labels are hidden: this picture alone reads them" if is_hidden else ""
        return [_part("Highest scores, acquired", highest, is_hidden), _part(heading, left, is_hidden)]
    rest = acquired.iloc[len(highest) :].tail(SHOWN)
    heading = "Acquired last; the rest of the pool has no scores"
    return [_part("Acquired first", highest, is_hidden), _part(heading, rest, is_hidden)]


def _part(heading: str, chosen: pd.DataFrame, is_hidden: bool) -> Part:
    """chosen: columns index and score. is_hidden: the labels are those of the data set."""
    images, classes = prepared.read_split("train"), prepared.read_statistics().classes
    indices = chosen["index"].to_numpy(dtype=int)
    names = [f"{classes[label]}\n" if is_hidden else "" for label in images.labels[indices]]
    captions = [f"{name}{score:.3g}" for name, score in zip(names, chosen["score"], strict=True)]
    return Part(heading, images.images[indices], captions)
