"""Draw the run's curves."""

from pathlib import Path

import pandas as pd

from lab import params
from lab.host import Host
from lab.report.curve import draw_curve
from lab.report.style import words

CURVE = Path("plots/curve.csv")
FIGURES = {
    "accuracy": ("test accuracy", Path("plots/accuracy_vs_budget.png")),
    "label_efficiency": ("accuracy gained per label", Path("plots/label_efficiency.png")),
}


def main(host: Host) -> None:
    settings = params.load(optim="optim", arch="arch", strategy="strategy", protocol="protocol", seed="seed")
    curve = pd.read_csv(CURVE)
    curve["optim"] = settings.optim
    curve["run"] = f"{words(settings.optim)}, {words(settings.strategy)}, seed {settings.seed}"
    for column, (label, path) in FIGURES.items():
        draw_curve(curve, column, f"{words(settings.arch)}, protocol {settings.protocol}", label, path)
