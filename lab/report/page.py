"""The report of a study: tables, figures as PNG and SVG, and one page that opens without internet."""

import re
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lab.data.files import replaced, write_text
from lab.process.costs import SECONDS
from lab.query.hidden import CHEATING
from lab.report import anchors, claims, decomposition, figures, saved, style
from lab.report.analysis import answer, answers
from lab.report.ceiling import split
from lab.report.compare import ENVIRONMENT
from lab.report.protocol import is_kept
from lab.report.statistics import (
    FEWEST_SEEDS,
    area,
    collapsed,
    final_accuracy,
    judged_by,
    mean_accuracy,
    pairwise,
    seeds_with_several,
    summary,
)
from lab.report.style import words
from lab.report.tables import account_table, ceiling_lines, overlap_table, passes_table, saved_cells
from lab.study.analysis import ACCURACY, Analysis

TEMPLATE = Path(__file__).with_name("page.html")
TOO_FEW = (
    f"Arms with fewer than {FEWEST_SEEDS} seeds get no deviation, interval, test or verdict: "
    "a difference between them may be chance, and does not show which is better."
)
AREA = "area"
MOST_ROWS = 12  # of a table of pairs that is not folded
NOT_ASKED = "not asked beforehand"


class Stated(NamedTuple):
    """What a study asked in its file. since: a sentence, which commit first held it."""

    analysis: Analysis
    since: str


def write(
    tidy: pd.DataFrame,
    expected: int,
    folder: Path,
    stated: Stated | None = None,
    overlaps: pd.DataFrame | None = None,
    account: pd.DataFrame | None = None,
    measure: str = ACCURACY,
) -> None:
    """Write the report of a tidy table.

    Args:
        expected: arms of the study, seeds included; the report says how many are missing.
        folder: where to; files of an earlier report are replaced.
        stated: the analysis that the study stated; only its questions get verdicts then.
        overlaps: what crossed arms acquired in common, of ``lab.study.overlap``.
        account: what settings were searched, of ``lab.study.choice``.
        measure: what arms are compared by, a column of the table. The paper's claims stay about accuracy.

    Raises:
        BadInput: the table lacks the measure.
    """
    curves, _ = split(tidy)
    judged_by(curves, measure)  # refused, if at all, before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = claims.verdicts(curves)
    if stated:
        verdicts = verdicts.assign(verdict=NOT_ASKED, p_holm=None, needed=None)
    write_text(folder / "tidy.csv", tidy.to_csv(index=False))
    write_text(folder / "claims.csv", verdicts.to_csv(index=False))
    write_text(folder / "claims.md", claims_markdown(curves, verdicts))
    if overlaps is not None and len(overlaps):
        write_text(folder / "overlap.csv", overlaps.to_csv(index=False))
    drawn, drawings = figures.all_figures(tidy, anchors.read(), measure), {}
    found = None
    if stated:
        found = answers(judged_by(curves, measure), stated.analysis)
        drawn["questions"] = figures.questions(found, stated.analysis.equivalence)
    for name, figure in drawn.items():
        drawings[name] = _svg(figure)
        write_text(folder / f"{name}.svg", drawings[name])
        with replaced(folder / f"{name}.png") as file:
            figure.savefig(file, dpi=130, format="png")
        plt.close(figure)
    write_text(
        folder / "report.html", page(tidy, verdicts, drawings, expected, stated, found, overlaps, account, measure)
    )


def page(
    tidy: pd.DataFrame,
    verdicts: pd.DataFrame,
    drawings: dict[str, str],
    expected: int,
    stated: Stated | None = None,
    found: pd.DataFrame | None = None,
    overlaps: pd.DataFrame | None = None,
    account: pd.DataFrame | None = None,
    measure: str = ACCURACY,
) -> str:
    """The report as one HTML page that loads nothing. drawings: the figures' SVG, by name. found: what was answered."""
    finished = tidy["arm"].nunique()
    tidy, ceilings = split(tidy)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    tested, untested = _claims(verdicts)
    judged, compared_by = judged_by(tidy, measure), measure.replace("_", " ")
    compared = {
        "Area under the budget curve": pairwise(judged, area),
        f"{compared_by.capitalize()} at the end": pairwise(judged, final_accuracy),
    }
    return environment.get_template(TEMPLATE.name).render(
        protocol=tidy["protocol"].iloc[0],
        dataset=tidy["dataset"].iloc[0],
        revisions=sorted({revision[:9] for revision in tidy["revision"]}),
        arms=finished,
        expected=expected,
        too_few=TOO_FEW if tidy.groupby("group")["seed"].nunique().min() < FEWEST_SEEDS else "",
        machines=machines(tidy),
        unpaired=seeds_with_several(tidy, "first_set"),
        versions=seeds_with_several(tidy, "torch"),
        unlike=unlike(tidy),
        figures={name: _element(svg) for name, svg in drawings.items()},
        tested=tested,
        untested=untested,
        departures=departures(tidy),
        stated=stated,
        answers="" if stated is None or found is None else _html(answer_table(found, stated.analysis.equivalence)),
        crossed=[crossed_tables(judged, one, two, overlaps) for one, two in decomposition.pairs(tidy)],
        measure=compared_by,
        ceilings=ceiling_lines(ceilings),
        has_random=bool(saved.beside_random(tidy)),
        passes=_html(passes_table(judged)) if saved.beside_fresh(tidy) else "",
        account=account,
        accounts=_html(account_table(account)) if account is not None else "",
        cheating=cheating_arms(tidy),
        collapsed=collapsed_lines(tidy),
        summary=_html(summary_table(judged, compared_by)),
        costs=_html(cost_table(tidy)),
        most_rows=MOST_ROWS,
        tests={title: _html(test_table(tests)) for title, tests in compared.items() if len(tests)},
        first_sets=_html(first_sets(tidy)),
        anchors=_html(anchors.read().drop(columns="note").rename(columns=str.capitalize)),
    )


def claims_markdown(tidy: pd.DataFrame, verdicts: pd.DataFrame) -> str:
    """The claims as Markdown: what they are judged by, and a table with a row a claim, a line a part."""
    scale = "the paper's protocol"
    if not is_kept(tidy):
        scale = f"**not the paper's protocol** ({departures(tidy)}): verdicts hold here alone"
    seeds = tidy.groupby("group")["seed"].nunique().min()
    lines = [
        f"Protocol `{tidy['protocol'].iloc[0]}`, {tidy['labels'].min():,} to {tidy['labels'].max():,} labels, "
        f"{style.seeds(seeds)} or more an arm; {scale}.",
        "",
        *([f"**{TOO_FEW}**", ""] if seeds < FEWEST_SEEDS else []),
    ]
    tested, untested = _claims(verdicts)
    if tested:
        lines += [
            "Points of accuracy with 95 % intervals (Student's t, paired by seed). A claim is supported where all its "
            "inequalities are clear, contradicted where the opposite of any is; p is corrected for the tested claims "
            "(Holm).",
            "",
            *("| claim (section of the paper) | measured | verdict |", "|---|---|---|"),
        ]
    for claim in tested:
        text = f"**{claim['claim']}** ({claim['source']}): “{claim['sentence']}”"
        verdict = "<br>".join([f"**{claim['verdict']}**", *claim["notes"]])
        lines.append(f"| {text} | {'<br>'.join(claim['lines'])} | {verdict} |")
    if untested:
        reasons = pd.DataFrame(untested).groupby("why", sort=False)["claim"]
        lines += [*([""] if tested else []), "Not tested:", ""]
        lines += [f"- {why}: {'; '.join(names)}" for why, names in reasons]
    return "\n".join(lines) + "\n"


def claim_lines(rows: pd.DataFrame) -> list[str]:
    """The figures of a claim, a line each; of those that the study does not have, how many, and why the first."""
    lines = [
        f"{row['measured']}: {interval(row)}{', ' if row['why'] else ''}{row['why']}"
        for _, row in rows[rows["seeds"] > 0].iterrows()
    ]
    absent = rows[rows["seeds"] == 0]
    if len(absent):
        lines.append(f"{len(absent)} of {len(rows)} figures are not in this study: {absent['why'].iloc[0]}")
    return lines


def _claims(verdicts: pd.DataFrame) -> tuple[list[dict], list[dict]]:
    """The claims that the study tests, and those that it does not: each with what the pages say of it."""
    tested: list[dict] = []
    untested: list[dict] = []
    for _, rows in verdicts.groupby("claim", sort=False):
        about = rows.iloc[0][["claim", "source", "sentence", "verdict", "p_holm", "needed", "hours"]]
        notes = [f"p by Holm {about['p_holm']:.3g}"] if pd.notna(about["p_holm"]) else []
        if pd.notna(about["needed"]):
            notes.append(_to_decide(claims.PARITY, about["needed"], about["hours"]))
        claim = {"lines": claim_lines(rows), "notes": notes, "why": rows["why"].iloc[0], **about}
        (tested if (rows["why"] == "").any() else untested).append(claim)
    return tested, untested


def _to_decide(size: float, needed: float, hours: float) -> str:
    cost = "hours not known" if pd.isna(hours) else f"{hours:,.1f} hours more"
    points = "1 point" if size == 0.01 else f"{100 * size:g} points"
    return f"{needed:.0f} seeds would find a difference of {points} ({cost})"


def departures(tidy: pd.DataFrame) -> str:
    """How runs depart from the paper's protocol, in one line; empty where none does."""
    found = "; ".join(tidy["departures"].unique()).split("; ")
    return ", ".join(dict.fromkeys(filter(None, found)))


def answer_table(found: pd.DataFrame, margin: float) -> pd.DataFrame:
    """The answers to the questions of a study as text."""
    outcomes = [
        answer(row) + (f": {_to_decide(margin, row['needed'], row['hours'])}" if pd.notna(row["needed"]) else "")
        for _, row in found.iterrows()
    ]
    shown = found[["p", "p_flip", "p_holm", "p_within"]].astype(float).map("{:.3g}".format).replace("nan", "–")
    return pd.DataFrame(
        {
            "question": found["rank"] + ": " + found["name"],
            "measured": found["asked"],
            "points [95 % interval]": [interval(row) for _, row in found.iterrows()],
            "p": shown["p"],
            "p by sign flips": shown["p_flip"],
            "p by Holm": shown["p_holm"],
            f"p of ±{100 * margin:g} points or more, by Holm": shown["p_within"],
            "answer": outcomes,
        }
    )


def crossed_tables(tidy: pd.DataFrame, one: str, two: str, overlaps: pd.DataFrame | None = None) -> dict[str, str]:
    """What two arms learn and choose: the gap taken apart, the matrices at each budget, and what they acquired."""
    tidy = decomposition.whole(tidy, one, two)
    table = decomposition.effects(tidy, one, two)
    table["points"] = [interval(row) for _, row in table.iterrows()]
    table["labels"] = [AREA if pd.isna(count) else f"{count:,.0f}" for count in table["labels"]]
    effects = table.pivot(index="labels", columns="effect", values="points").loc[table["labels"].unique()]
    effects = effects[[name for name in decomposition.EFFECTS if name in effects]]
    effects = effects.rename_axis(columns=None).reset_index()
    measures = {AREA: area} | {f"{count:,}": mean_accuracy([count]) for count in np.unique(tidy["labels"])}
    cells = {when: decomposition.matrix(tidy, [one, two], measure).stack() for when, measure in measures.items()}
    matrix = pd.DataFrame(cells).T.map("{:.1%}".format)
    names = [(f"trained by {words(trained)}", f"chosen by {words(chosen)}") for trained, chosen in matrix]
    matrix = pd.DataFrame({"labels": matrix.index} | dict(zip(names, matrix.T.to_numpy(), strict=True)))
    shared = None if overlaps is None or overlaps.empty else overlap_table(overlaps, one, two)
    return {
        "title": f"{words(one)} − {words(two)}",
        "effects": _html(effects),
        "matrix": _html(matrix),
        "overlap": "" if shared is None else _html(shared),
    }


def cheating_arms(tidy: pd.DataFrame) -> list[str]:
    """The arms whose strategy or cold start looks at hidden labels."""
    is_cheating = (tidy["settings"] + tidy["departures"]).str.contains(CHEATING)
    return [words(group) for group in tidy.loc[is_cheating, "group"].unique()]


def collapsed_lines(tidy: pd.DataFrame) -> list[str]:
    """The collapsed runs, a line each cycle."""
    return [
        f"{words(row['group'])}, seed {row['seed']}, at {row['labels']:,} labels: training accuracy "
        f"{row['training_accuracy']:.0%}, of the best seed {row['best']:.0%}; test accuracy {row['accuracy']:.1%}"
        for _, row in collapsed(tidy).iterrows()
    ]


def interval(row: pd.Series) -> str:
    """A mean of shares and its interval in points, as text."""
    if not row["seeds"]:
        return "–"
    if row["seeds"] < FEWEST_SEEDS:
        return f"{style.seeds(row['seeds'])}, too few for an interval"
    if pd.isna(row["low"]):
        return f"{100 * row['mean']:.1f}, the same in all {row['seeds']} seeds"
    return f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]".replace("-", "−")


def summary_table(tidy: pd.DataFrame, measure: str = ACCURACY) -> pd.DataFrame:
    """A row a group: seeds, the measure at the end, labels saved at each budget, area, labels to the target."""
    table = summary(tidy)
    labels_saved = saved_cells(tidy, saved.beside_random(tidy), saved.LABELS, "labels saved at a budget of")
    target = tidy["target_accuracy"].iloc[0]
    shown = pd.DataFrame(
        {
            "arm": table["group"].map(words),
            "seeds": table["seeds"],
            f"{measure} at the end": _spread(table["final_accuracy"], table["final_accuracy_sd"]),
            **{title: labels_saved[title].to_numpy() for title in labels_saved},
            "area under the budget curve": _spread(table["area"], table["area_sd"]),
            f"labels to {target:.0%}, median": table["labels_to_target"].map(
                lambda count: "not reached" if np.isinf(count) else f"{count:,.0f}"
            ),
            "seeds that reach it": table["reached"],
        }
    )
    # The target is one of accuracy.
    return shown if measure == ACCURACY else shown.iloc[:, :-2]


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
            "p by sign flips": tests["p_flip"].map("{:.3g}".format),
            "p by Holm": tests["p_holm"].map("{:.3g}".format),
        }
    ).iloc[np.argsort(tests["p"].to_numpy(dtype=float), kind="stable")]


def machines(tidy: pd.DataFrame) -> list[str]:
    """What the arms ran on, a line a kind of machine, with the seeds that it computed."""
    facts = ["device", "instructions", "threads", "torch", "precision", "compiled"]
    lines = []
    for values, rows in tidy.groupby(facts, sort=False, dropna=False):
        device, instructions, threads, torch, precision, compiled = values
        alike = (
            f"{device}, {instructions}, threads {threads}, torch {torch}, {precision}{', compiled' if compiled else ''}"
        )
        lines.append(f"{alike}: seed {', '.join(map(str, sorted(rows['seed'].unique())))}")
    return lines


def unlike(tidy: pd.DataFrame) -> list[str]:
    """What the arms of a seed, which are compared with each other, were not computed alike with: a line each.

    But for PyTorch: arms of different versions are not compared, which the page says.
    """
    lines = []
    for fact in set(ENVIRONMENT) - {"torch"}:
        if seeds := seeds_with_several(tidy, fact):
            which = f"The arms of seed {', '.join(map(str, seeds))}"
            lines.append(f"{which} were not all computed with the same {fact}, which alone changes results.")
    return sorted(lines)


def _spread(mean: pd.Series, deviation: pd.Series) -> list[str]:
    """Means with their deviations, a dash where there are too few seeds for either."""
    return [
        "–" if np.isnan(two) else f"{100 * one:.1f} ± {100 * two:.1f} %"
        for one, two in zip(mean, deviation, strict=True)
    ]


def _html(table: pd.DataFrame) -> str:
    """Columns that are pairs stand under a common title where their first halves are the same."""
    if any(isinstance(name, tuple) for name in table):
        pairs = [name if isinstance(name, tuple) else ("", name) for name in table]
        table = table.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)
    return table.to_html(index=False, border=0, na_rep="")


def _svg(figure: Figure) -> str:
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _element(svg: str) -> str:
    """The drawing as an element of a page, which scales with it."""
    return re.sub(r' (width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :], count=2)
