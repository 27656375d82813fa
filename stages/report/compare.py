"""Compare experiments in a table and a picture: python -m stages.report.compare EXPERIMENT ... --out PNG"""

import json
from argparse import ArgumentParser
from io import StringIO
from pathlib import Path

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from stages import entry
from stages.report.figures import draw_curve


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
    draw_curve(curves, "accuracy", "Accuracy vs. budget", "test accuracy", arguments.out)
    print(f"\nPicture: {arguments.out}")


def _read(path: str, revision: str) -> str:
    try:
        return dvc.api.read(path, rev=revision)
    except (DvcException, SCMError, OSError) as error:
        raise entry.BadInput(f"{revision}: no finished run of that name, {path} cannot be read ({error})") from error


def _round(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


if __name__ == "__main__":
    entry.run(main)
