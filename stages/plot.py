"""Draw the run's curve: python -m stages.plot"""

from pathlib import Path

import pandas as pd

from stages import errors, params
from stages.report.figures import draw_curve

CURVE = Path("plots/curve.csv")
FIGURE = Path("plots/accuracy_vs_budget.png")


def main() -> None:
    settings = params.load(optim="optim", arch="arch", strategy="strategy", protocol="protocol", seed="seed")
    curve = pd.read_csv(CURVE)
    curve["run"] = f"{settings.optim}, {settings.strategy}, seed {settings.seed}"
    draw_curve(curve, "accuracy", f"{settings.arch}, protocol {settings.protocol}", "test accuracy", FIGURE)


if __name__ == "__main__":
    errors.run(main)
