"""The report of a study: tables, figures as PNG and SVG, and one page that opens without internet."""

import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lab.data.files import replaced, write_text
from lab.report import anchors, claims, figures, style
from lab.report.compare import differing_environments
from lab.report.figures import SECONDS
from lab.report.statistics import FEWEST_SEEDS, area, final_accuracy, pairwise, summary, unpaired_seeds
from lab.report.style import words

TEMPLATE = Path(__file__).with_name("page.html")
TOO_FEW = (
    f"Arms with fewer than {FEWEST_SEEDS} seeds get no deviation, interval, test or verdict: "
    "a difference between them may be chance, and does not show which is better."
)


def write(tidy: pd.DataFrame, expected: int, folder: Path) -> None:
    """Write the report of a tidy table.

    Args:
        expected: arms of the study, seeds included; the report says how many are missing.
        folder: where to; files of an earlier report are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = claims.verdicts(tidy)
    write_text(folder / "tidy.csv", tidy.to_csv(index=False))
    write_text(folder / "claims.csv", verdicts.to_csv(index=False))
    write_text(folder / "claims.md", claims_markdown(tidy, verdicts))
    drawings = {}
    for name, figure in figures.all_figures(tidy, anchors.read()).items():
        drawings[name] = _svg(figure)
        write_text(folder / f"{name}.svg", drawings[name])
        with replaced(folder / f"{name}.png") as file:
            figure.savefig(file, dpi=130, format="png")
        plt.close(figure)
    write_text(folder / "report.html", page(tidy, verdicts, drawings, expected))


def page(tidy: pd.DataFrame, verdicts: pd.DataFrame, drawings: dict[str, str], expected: int) -> str:
    """The report as one HTML page that loads nothing. drawings: the figures' SVG, by name."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    tested, untested = _claims(verdicts)
    compared = {
        "Area under the budget curve": pairwise(tidy, area),
        "Accuracy at the end": pairwise(tidy, final_accuracy),
    }
    return environment.get_template(TEMPLATE.name).render(
        protocol=tidy["protocol"].iloc[0],
        dataset=tidy["dataset"].iloc[0],
        revision=tidy["revision"].iloc[0],
        arms=tidy["arm"].nunique(),
        expected=expected,
        too_few=TOO_FEW if tidy.groupby("group")["seed"].nunique().min() < FEWEST_SEEDS else "",
        machines=machines(tidy),
        unpaired=unpaired_seeds(tidy),
        warnings=differing_environments(dict(list(tidy.groupby("arm", sort=False)))),
        figures={name: _element(svg) for name, svg in drawings.items()},
        tested=tested,
        untested=untested,
        is_at_paper_scale=claims.Data(tidy).is_at_paper_scale,
        summary=_html(summary_table(tidy)),
        costs=_html(cost_table(tidy)),
        tests={title: _html(test_table(tests)) for title, tests in compared.items() if len(tests)},
        first_sets=_html(first_sets(tidy)),
        anchors=_html(anchors.read().drop(columns="note").rename(columns=str.capitalize)),
    )


def claims_markdown(tidy: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """The claims as Markdown: what they are judged by, and a table with a row a claim, a line a part."""
    scale = "the paper's scale"
    if not claims.Data(tidy).is_at_paper_scale:
        scale = "**not the paper's scale**: its labels stand for shares of this budget, and verdicts hold here alone"
    seeds = tidy.groupby("group")["seed"].nunique().min()
    lines = [
        f"Protocol `{tidy['protocol'].iloc[0]}`, {tidy['labels'].min():,} to {tidy['labels'].max():,} labels, "
        f"{style.seeds(seeds)} or more an arm; {scale}. Points of accuracy with 95 % intervals (Student's t, paired by "
        "seed). A claim is supported where all its parts are, contradicted where any is, by an interval widened for "
        "the number of parts.",
        "",
        *([f"**{TOO_FEW}**", ""] if seeds < FEWEST_SEEDS else []),
    ]
    tested, untested = _claims(verdicts)
    if tested:
        lines += ["| claim (section of the paper) | measured | verdict |", "|---|---|---|"]
    for claim in tested:
        text = f"**{claim['claim']}** ({claim['source']}): “{claim['sentence']}”"
        lines.append(f"| {text} | {'<br>'.join(claim['lines'])} | **{claim['verdict']}** |")
    if untested:
        lines += [*([""] if tested else []), "Not tested: " + "; ".join(claim["claim"] for claim in untested) + "."]
    return "\n".join(lines) + "\n"


def claim_lines(rows: pd.DataFrame) -> list[str]:
    """The parts of a claim, a line each; those that need what the study does not have are only counted."""
    lines = [
        f"{row['measured']}: {interval(row)}, {row['part'] if row['is_judged'] else 'not tested'}"
        for _, row in rows[rows["seeds"] > 0].iterrows()
    ]
    if absent := len(rows) - len(lines):
        lines.append(f"{absent} of {len(rows)} figures need arms or cycles that this study does not have")
    return lines


def _claims(verdicts: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """The claims that the study tests, and those that it does not: each with what the pages say of it."""
    tested: list[dict] = []
    untested: list[dict] = []
    for _, rows in verdicts.groupby("claim", sort=False):
        about = rows.iloc[0][["claim", "source", "sentence", "verdict"]]
        (tested if rows["is_judged"].any() else untested).append({"lines": claim_lines(rows), **about})
    return tested, untested


def interval(row: pd.Series) -> str:
    """A mean of shares and its interval in points, as text."""
    if not row["seeds"]:
        return "–"
    if row["seeds"] < FEWEST_SEEDS:
        return f"{style.seeds(row['seeds'])}, too few for an interval"
    if pd.isna(row["low"]):
        return f"{100 * row['mean']:.1f}, the same in all {row['seeds']} seeds"
    return f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]".replace("-", "−")


def summary_table(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a group: seeds, accuracy at the end, area, labels to the target."""
    table = summary(tidy)
    target = tidy["target_accuracy"].iloc[0]
    return pd.DataFrame(
        {
            "arm": table["group"].map(words),
            "seeds": table["seeds"],
            "accuracy at the end": _spread(table["final_accuracy"], table["final_accuracy_sd"]),
            "area under the budget curve": _spread(table["area"], table["area_sd"]),
            f"labels to {target:.0%}, median": table["labels_to_target"].map(
                lambda count: "not reached" if np.isinf(count) else f"{count:,.0f}"
            ),
            "seeds that reach it": table["reached"],
        }
    )


def cost_table(tidy: pd.DataFrame) -> pd.DataFrame:
    """A row a group: what one run costs, the mean over seeds."""
    runs = tidy.groupby(["group", "seed"], sort=False)
    others = runs.agg({"training_images": "sum", "peak_memory_mb": "max", "parameters": "max", "flops": "max"})
    # The sum of a run with a cycle that was restored, and so has no seconds, is not known.
    table = runs[SECONDS].sum(skipna=False).join(others).groupby("group", sort=False).mean()
    columns = {
        **{f"seconds of {name.removesuffix('_seconds')}": (table[name], ",.0f") for name in SECONDS},
        "images trained on": (table["training_images"], ",.0f"),
        "peak memory, MB": (table["peak_memory_mb"], ",.0f"),
        "parameters, millions": (table["parameters"] / 1e6, ".2f"),
        "MFLOP an image, forward": (table["flops"] / 1e6, ",.1f"),
    }
    shown = {name: ["–" if np.isnan(n) else f"{n:{form}}" for n in values] for name, (values, form) in columns.items()}
    return pd.DataFrame({"arm": table.index.map(words), **shown})


def first_sets(tidy: pd.DataFrame) -> pd.DataFrame:
    """The hash of the first labelled set of every arm: a row a group, a column a seed."""
    table = tidy.drop_duplicates("arm").pivot(index="group", columns="seed", values="first_set")
    table = table.loc[tidy["group"].unique()].rename(index=words, columns="seed {}".format)
    return table.rename_axis("arm").reset_index()


def test_table(tests: pd.DataFrame) -> pd.DataFrame:
    """Paired differences as text, the clearest first."""
    return pd.DataFrame(
        {
            "difference": tests["group"].map(words) + " − " + tests["other"].map(words),
            "points [95 % interval]": [interval(row) for _, row in tests.iterrows()],
            "p": tests["p"].map("{:.3g}".format),
            "p by Holm": tests["p_holm"].map("{:.3g}".format),
        }
    ).iloc[np.argsort(tests["p"].to_numpy(dtype=float), kind="stable")]


def machines(tidy: pd.DataFrame) -> list[str]:
    """What the arms ran on, a line a kind of machine."""
    facts = ["device", "instructions", "threads", "torch", "precision", "compiled"]
    return [
        f"{device}, {instructions}, threads {threads}, torch {torch}, {precision}{', compiled' if compiled else ''}"
        for device, instructions, threads, torch, precision, compiled in tidy[facts].drop_duplicates().to_numpy()
    ]


def _spread(mean: pd.Series, deviation: pd.Series) -> list[str]:
    """Means with their deviations, a dash where there are too few seeds for either."""
    return [
        "–" if np.isnan(two) else f"{100 * one:.1f} ± {100 * two:.1f} %"
        for one, two in zip(mean, deviation, strict=True)
    ]


def _html(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, na_rep="")


def _svg(figure: Figure) -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _element(svg: str) -> str:
    """The drawing as an element of a page, which scales with it."""
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :], count=2)
