"""Compare experiments in a table and a picture: python -m lab.report.compare EXPERIMENT ... --out PNG"""

import json
from argparse import ArgumentParser
from functools import partial
from io import StringIO
from pathlib import Path

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import SCMError

from lab.errors import BadInput
from lab.params import PARAMS_FILE, parse
from lab.process import ending
from lab.report.curve import draw_curve

# What a result depends on beside commit and params.
ENVIRONMENT = ("device", "instructions", "threads", "torch", "cudnn", "precision", "compiled")
REFERENCE = "logistic regression"
WORKSPACE = "workspace"  # what DVC calls the files that are checked out


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="+", help="experiments, branches or commits")
    parser.add_argument("--out", type=Path, required=True, help="where to write the picture (.png)")
    parser.add_argument(
        "--reference", action="store_true", help="also train a logistic regression on the labelled images of each run"
    )
    arguments = parser.parse_args()

    names = list(dict.fromkeys(arguments.experiments))
    curves = {name: curve_of(name) for name in names}
    chosen = {name: parse(_read(f"{PARAMS_FILE}", name).decode(), f"{name}:{PARAMS_FILE}") for name in names}
    references = _references(curves) if arguments.reference else {}
    print(f"\nTest accuracy by labelled images\n\n{_table(curves, references)}")
    # dtype=object: counts stay whole numbers beside shares
    summaries = {name: pd.Series(json.loads(_read("metrics/summary.json", name)), dtype=object) for name in names}
    summary = pd.DataFrame(summaries).rename(index=lambda name: name.replace("_", " "))
    print(f"\nSummary, after the last cycle\n\n{summary.to_string(float_format='{:.4g}'.format)}")
    print("", *seen(curves, references, [params["dataset"] for params in chosen.values()]), sep="\n")
    for line in differing_environments(curves):
        print(f"warning: {line}")
    lines = [curve.assign(run=name, optim=chosen[name]["optim"]) for name, curve in curves.items()]
    lines += [curve.assign(run=f"{REFERENCE} ({name})", optim=None) for name, curve in references.items()]
    draw_curve(pd.concat(lines), "accuracy", "Accuracy against budget", "test accuracy", arguments.out)
    print(f"\nPicture: {arguments.out}")


def differing_environments(curves: dict[str, pd.DataFrame]) -> list[str]:
    """What the runs were not computed alike with, a line each; none where they are comparable.

    Args:
        curves: plots/curve.csv of each run, by its name.
    """
    lines = []
    for fact in ENVIRONMENT:
        values = {
            name: sorted(set(curve[fact].astype(str))) if fact in curve else ["not recorded"]
            for name, curve in curves.items()
        }
        if len(set().union(*values.values())) > 1:
            named = "; ".join(f"{name} {' and '.join(value)}" for name, value in values.items())
            lines.append(f"not all computed with the same {fact}, which alone changes results ({named})")
    return lines


def seen(curves: dict[str, pd.DataFrame], references: dict[str, pd.DataFrame], datasets: list[str]) -> list[str]:
    """What the numbers show and what they do not, a line each.

    Args:
        curves: columns labels and accuracy of each run, by its name.
        references: the same of the logistic regressions.
        datasets: of the runs.
    """
    accuracies = {name: curve.set_index("labels")["accuracy"] for name, curve in curves.items()}
    common = set.intersection(*(set(accuracy.index) for accuracy in accuracies.values()))
    if not common:
        return ["The runs have no number of labels in common: they cannot be compared."]
    labels = max(common)
    final = pd.Series({name: accuracy[labels] for name, accuracy in accuracies.items()})
    final = final.sort_values(ascending=False, kind="stable")
    (first, best), *rest = final.items()
    if rest:
        (second, accuracy), *_ = rest
        points = 100 * (best - accuracy)
        ahead = f"is {points:.1f} points ahead of" if points >= 0.05 else "is level with"
        lines = [f"At {labels:,} labels {first} {ahead} {second} ({best:.1%}, {accuracy:.1%})."]
    else:
        lines = [f"At {labels:,} labels {first} reaches {best:.1%}."]
    for name, reference in references.items():
        other = reference.set_index("labels")["accuracy"][labels]
        points, side = 100 * abs(final[name] - other), "above" if final[name] > other else "below"
        lines.append(f"{name} is {points:.1f} points {side} a logistic regression on its labels ({other:.1%}).")
    if rest:
        lines.append(
            "Each is one run with one seed. This does not show which is better: a study repeats it over seeds."
        )
    if "digits" in datasets:
        lines.append("Digits say nothing about CIFAR-10.")
    return lines


def _table(curves: dict[str, pd.DataFrame], references: dict[str, pd.DataFrame]) -> str:
    parts = [
        pd.DataFrame({name: curve.set_index("labels")["accuracy"].map("{:.1%}".format) for name, curve in some.items()})
        for some in (curves, references)
    ]
    table = pd.concat(parts, axis=1, keys=["network", REFERENCE]) if references else parts[0]
    # A dash where a run has no such cycle.
    return table.sort_index().fillna("–").rename_axis(index=None).to_string()


def _references(curves: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The curve of a logistic regression on the labels of each run whose data can be read and have labels."""
    from lab.report import reference  # scikit-learn takes a second to load

    found = {}
    for name, curve in curves.items():
        try:
            accuracies = reference.of_run(partial(_read, revision=name), curve["cycle"])
        except BadInput as error:
            print(f"No {REFERENCE} for {name}: {error}")
        else:
            found[name] = curve[["labels"]].assign(accuracy=accuracies)
    return found


def curve_of(name: str) -> pd.DataFrame:
    """plots/curve.csv of a finished run: an experiment, a branch or a commit, or ``WORKSPACE``.

    Raises:
        BadInput: there is none of that name.
    """
    try:
        curve = pd.read_csv(StringIO(_read("plots/curve.csv", name).decode()))
    except BadInput as error:
        raise BadInput(f"{name}: no finished run of that name; {error}") from error
    if curve.empty:
        raise BadInput(f"{name}: no finished run, plots/curve.csv has no rows there")
    return curve


def _read(path: str, revision: str) -> bytes:
    try:
        return dvc.api.read(path, rev=None if revision == WORKSPACE else revision, mode="rb")
    except (DvcException, SCMError, OSError) as error:
        raise BadInput(f"{path} of {revision} cannot be read: {error}") from error


if __name__ == "__main__":
    ending.run(main)
