"""What a report's intervals and verdicts are worth, by simulation: python -m bench.verdicts

Prints the coverage of intervals where runs collapse, how many studies show a wrong verdict, and how often planted
effects are found. Runs on one core.
"""

from argparse import ArgumentParser
from collections.abc import Iterator

import numpy as np
import pandas as pd

from lab.process import ending
from lab.process.costs import SECONDS
from lab.report import claims, saved
from lab.report.analysis import Outcome, answers
from lab.report.claims import ADAPTIVE, OPTIMIZERS, Verdict, arms
from lab.report.protocol import LABELS
from lab.report.statistics import CONFIDENCE, FEWEST_SEEDS, estimate
from lab.study.analysis import Analysis

SEEDS = (FEWEST_SEEDS, 6, 8)
# Standard deviations in 24 runs at protocol cpu_study, none of them collapsed: of a run's own level, and of a cycle.
RUN, CYCLE = 0.008, 0.015
COLLAPSE, COLLAPSES = -0.08, 0.2
# Of paired differences: over three cycles, and in one.
SPREADS = (0.005, 0.024)
GROUPS = [name for group in arms("resnet18", *OPTIMIZERS) for name in (group, f"{group}-random")]
ADAM, SGD = arms("resnet18", "adam", "sgd")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400, help="simulated ones a row of each table")
    studies = parser.parse_args().studies
    print(f"{studies} simulated studies a row; sd {100 * RUN:.1f} points a run, {100 * CYCLE:.1f} a cycle\n")
    for title, rows in (
        (f"Coverage of the 95 % interval; collapse: {100 * COLLAPSE:.0f} points", coverage(10 * studies)),
        ("Studies with a wrong verdict, nothing being true", null(studies)),
        ("Labels that random queries save beside random queries, five seeds", savings(studies)),
        ("Planted effects found: a difference early, of Adam or of all adaptive optimizers", power(studies)),
    ):
        table = pd.DataFrame(rows)
        print(f"{title}\n\n| {' | '.join(table)} |\n{'|---' * len(table.columns)}|")
        print("\n".join(f"| {' | '.join(map(str, row))} |" for row in table.to_numpy()), "\n", sep="", flush=True)


def coverage(count: int) -> Iterator[dict[str, object]]:
    """Of a difference between two groups, of which the runs of one may collapse; for a small and a large spread."""
    for probability in (0.0, COLLAPSES):
        for seeds in SEEDS:
            held = []
            for spread in SPREADS:
                draw = np.random.default_rng([1, seeds])
                values = draw.normal(0, spread, (count, seeds)) + COLLAPSE * (draw.random((count, seeds)) < probability)
                # The interval holds the truth where its p is not small.
                found = [estimate(pd.Series(row - COLLAPSE * probability)).p for row in values]
                held.append(np.mean([p is not None and p > 1 - CONFIDENCE for p in found]))
            said = {
                f"covered, sd {100 * spread:.1f}": f"{share:.1%}" for spread, share in zip(SPREADS, held, strict=True)
            }
            yield {"runs that collapse": f"{probability:.0%}", "seeds": seeds, **said}


def null(count: int) -> Iterator[dict[str, object]]:
    """Of four optimizers with their controls, all alike: by the table of claims, and by one primary question."""
    for probability in (0.0, COLLAPSES):
        for seeds in SEEDS:
            draw = np.random.default_rng([2, seeds])
            base = table_of(GROUPS, seeds)
            truth = claims.verdicts(base)
            wrong = asked = 0
            for _ in range(count):
                tidy = noisy(base, draw, probability)
                wrong += is_wrong(claims.verdicts(tidy), truth)
                asked += answers(tidy, one_question())["outcome"].isin([Outcome.DIFFERENCE, Outcome.SMALL]).any()
            yield {
                "runs that collapse": f"{probability:.0%}",
                "seeds": seeds,
                "the table of claims": f"{wrong / count:.1%}",
                "one primary question": f"{asked / count:.1%}",
            }


def savings(count: int) -> Iterator[dict[str, object]]:
    """Of an arm that is no better than random queries: means, and how many of the intervals that are shown miss 0."""
    groups = [ADAM, f"{ADAM}-random"]
    base = table_of(groups, 5)
    base = base.assign(arm=base["group"] + base["seed"].astype(str), training_images=0)
    for gain in (0.5, 1, 3):
        draw, found = np.random.default_rng([4, int(10 * gain)]), []
        for _ in range(count):
            level = 0.5 + gain / 100 * base["labels"] / LABELS[0]
            tidy = base.assign(accuracy=level + draw.normal(0, CYCLE, len(base)))
            found.append(saved.saved(tidy, ADAM, f"{ADAM}-random", saved.LABELS))
        table = pd.concat(found)
        shown = table.dropna(subset=["low"])
        missed = (shown["low"] > 0) | (shown["high"] < 0)
        yield {
            "points a budget": gain,
            **{f"{labels:,}": f"{mean:+,.0f}" for labels, mean in table.groupby("labels")["mean"].mean().items()},
            "intervals shown": f"{len(shown) / len(table):.0%}",
            "of them, miss 0": f"{missed.mean():.1%}",
        }


def power(count: int) -> Iterator[dict[str, object]]:
    """Of a lead at 1,000 to 3,000 labels: by one primary question, and by the claim among all claims of ResNet-18."""
    lead = next(claim.name for claim in claims.CLAIMS if claim.parts[0].labels == claims.EARLY)
    for points in (1, 2, 3):
        for seeds in SEEDS:
            draw = np.random.default_rng([3, points, seeds])
            base = table_of(GROUPS, seeds)
            is_ahead = base["optim"].isin(ADAPTIVE) & (base["labels"] <= claims.EARLY[1])
            base["accuracy"] += points / 100 * is_ahead
            asked = claimed = 0
            for _ in range(count):
                tidy = noisy(base, draw, 0)
                asked += answers(tidy, one_question())["outcome"].isin([Outcome.DIFFERENCE, Outcome.SMALL]).any()
                found = claims.verdicts(tidy).drop_duplicates("claim").set_index("claim")
                claimed += found.loc[lead, "verdict"] == Verdict.SUPPORTED
            yield {
                "effect, points": points,
                "seeds": seeds,
                "one primary question": f"{asked / count:.0%}",
                "a claim of three parts, among all": f"{claimed / count:.0%}",
            }


def one_question() -> Analysis:
    question = {"name": "Adam leads early", "difference": [ADAM, SGD], "labels": list(claims.EARLY)}
    return Analysis.model_validate({"equivalence": 0.01, "primary": [question]})


def table_of(groups: list[str], seeds: int) -> pd.DataFrame:
    """The columns that verdicts read, without noise: all groups learn from 50 to 90 %, and none is the paper's."""
    index = pd.MultiIndex.from_product([groups, range(seeds), LABELS], names=["group", "seed", "labels"])
    table = index.to_frame(index=False)
    return table.assign(
        optim=table["group"].str.split("-").str[1],
        dataset="cifar10",
        departures="simulated",
        first_set=table["seed"],
        torch="any",
        accuracy=0.5 + 0.4 * np.log10(table["labels"] / LABELS[0]),
        **dict.fromkeys(SECONDS, 1.0),
    )


def noisy(base: pd.DataFrame, draw: np.random.Generator, probability: float) -> pd.DataFrame:
    """With noise. Cycles of SGD collapse with a probability, and the others make up for it: means stay as they were."""
    cycles = len(LABELS)
    runs = np.repeat(draw.normal(0, RUN, len(base) // cycles), cycles)
    failed = (base["optim"] == "sgd") & (draw.random(len(base)) < probability)
    lost = COLLAPSE * (failed - probability * (base["optim"] == "sgd"))
    return base.assign(accuracy=base["accuracy"] + runs + draw.normal(0, CYCLE, len(base)) + lost)


def is_wrong(found: pd.DataFrame, truth: pd.DataFrame) -> bool:
    """Whether a claim is supported of which not all inequalities hold, or contradicted though none fails.

    Args:
        truth: the same table without noise. Where a figure is at its bound, neither verdict is right.
    """
    above, below = truth["mean"] - truth["above"].fillna(-np.inf), truth["below"].fillna(np.inf) - truth["mean"]
    margin = np.minimum(above, below).round(9)
    least = margin.where(truth["mean"].notna(), np.inf).groupby(truth["claim"]).min()
    verdict = found.drop_duplicates("claim").set_index("claim")["verdict"]
    least = least.loc[verdict.index]
    supported, contradicted = verdict == Verdict.SUPPORTED, verdict == Verdict.CONTRADICTED
    return bool(((supported & (least <= 0)) | (contradicted & (least >= 0))).any())


if __name__ == "__main__":
    ending.run(main)
