"""Compare experiments in a table and a picture: python -m lab.report.compare EXPERIMENT ... --out PNG"""

import json
from argparse import ArgumentParser
from io import StringIO
from pathlib import Path

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from lab.process import ending as entry
from lab.report.curve import draw_curve

# What a result depends on beside commit and params, as the costs files record it.
ENVIRONMENT = ("device", "instructions", "threads", "torch", "cudnn", "precision", "compiled")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="+", help="experiments, branches or commits")
    parser.add_argument("--out", type=Path, required=True, help="where to write the picture (.png)")
    arguments = parser.parse_args()

    curves = pd.concat(
        pd.read_csv(StringIO(_read("plots/curve.csv", name))).assign(run=name) for name in arguments.experiments
    )
    # A dash where a run has no such cycle.
    table = curves.pivot(index="labels", columns="run", values="accuracy")[arguments.experiments]
    print("\nTest accuracy by labelled images\n")
    print(table.map("{:.1%}".format, na_action="ignore").fillna("–").rename_axis(index=None, columns=None).to_string())
    # dtype=object: counts stay whole numbers beside shares
    summaries = {
        name: pd.Series(json.loads(_read("metrics/summary.json", name)), dtype=object) for name in arguments.experiments
    }
    print("\nSummary, after the last cycle\n")
    print(pd.DataFrame(summaries).map(_round).to_string())
    for line in differing_environments({name: _costs(name) for name in arguments.experiments}):
        print(f"warning: {line}")
    draw_curve(curves, "accuracy", "Accuracy vs. budget", "test accuracy", arguments.out)
    print(f"\nPicture: {arguments.out}")


def differing_environments(costs: dict[str, pd.DataFrame]) -> list[str]:
    """What the runs were not computed alike with, a line each; none where they are comparable.

    Args:
        costs: plots/costs.csv of each run, by its name.
    """
    lines = []
    for fact in ENVIRONMENT:
        values = {
            name: sorted(set(table[fact].astype(str))) if fact in table else ["not recorded"]
            for name, table in costs.items()
        }
        if len({tuple(value) for value in values.values()}) > 1 or any(len(value) > 1 for value in values.values()):
            named = "; ".join(f"{name} {' and '.join(value)}" for name, value in values.items())
            lines.append(f"not all computed with the same {fact}, which alone changes results ({named})")
    return lines


def _costs(name: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(_read("plots/costs.csv", name)))


def _read(path: str, revision: str) -> str:
    try:
        return dvc.api.read(path, rev=revision)
    except (DvcException, SCMError, OSError) as error:
        raise entry.BadInput(f"{revision}: no finished run of that name, {path} cannot be read ({error})") from error


def _round(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


if __name__ == "__main__":
    entry.run(main)
