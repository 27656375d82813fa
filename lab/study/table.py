"""The tidy table of a study: one row an arm, seed and cycle, read from its experiments' commits.

Only files that Git keeps are read: a clone without the cache collects as well.
"""

import json
from io import StringIO
from pathlib import Path

import pandas as pd

from lab.data import history, labelled
from lab.errors import BadInput
from lab.measures import by_class
from lab.params import PARAMS_FILE, parse
from lab.process.costs import LOG, SECONDS
from lab.report.protocol import departures
from lab.study import experiments
from lab.study.arms import Arm
from lab.study.experiments import git
from stages.summarise import CONFUSION, CURVE

# nan in tables that were written before
SINCE = ["compile_seconds", "last_set"]
# What a reader of the table may rely on.
COLUMNS = [
    *("arm", "group", "arch", "optim", "strategy", "protocol", "dataset", "settings", "seed", "cycle", "labels"),
    "departures",
    *("accuracy", "training_accuracy", "label_efficiency", "loss_spearman", "loss_pair_accuracy"),
    *(*by_class.NAMES, "accuracy_by_class", "agreement", "judged_images", "class_names"),
    *("training_images", "parameters", "flops", "acquired_classes"),
    *(*SECONDS, "compile_seconds", "images_per_second", "peak_memory_mb"),
    *("target_accuracy", "first_set", "last_set"),
    *("device", "instructions", "threads", "torch", "cudnn", "precision", "compiled", "revision"),
]


def collect(arms: list[Arm], finished: dict[str, str], kept: pd.DataFrame | None = None) -> pd.DataFrame:
    """The tidy table of the finished arms: ``COLUMNS``, sorted by arm and cycle.

    Args:
        finished: name → commit of the experiment.
        kept: rows of arms without an experiment, of ``kept``.
    """
    tables = {} if kept is None else {str(name): rows for name, rows in kept.groupby("arm")}
    computed = [arm for arm in arms if arm.name in finished]
    begun = {item.commit: item.revision for item in experiments.experiments_of(computed)}
    for arm in computed:
        commit = finished[arm.name]
        tables[arm.name] = _rows(arm, commit).assign(revision=begun[commit])
    return pd.concat([tables[arm.name] for arm in arms if arm.name in tables], ignore_index=True)[COLUMNS]


def kept(folder: Path, arms: list[Arm], revision: str, computed: dict[str, str]) -> pd.DataFrame:
    """Rows of an earlier table that still hold: whole arms, with the settings and what they depend on as at a revision.

    Args:
        folder: with the table, ``tidy.csv``; no rows where there is none.
        computed: arms with an experiment, name → commit. These have no rows here, and a row of what replays one of
            them holds if it acquired the same.

    Raises:
        BadInput: this clone lacks a commit that an arm began from.
    """
    path = folder / "tidy.csv"
    table = read(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    by_name = {arm.name: arm for arm in arms}

    def holds(rows: pd.DataFrame) -> bool:
        arm, first = by_name.get(rows["arm"].iloc[0]), rows.iloc[0]
        if arm is None or arm.name in computed or len(rows) != len(arm.params["cycles"]):
            return False
        if arm.chosen_by in computed:
            *_, last_set = experiments.replay_of(computed[arm.chosen_by])["sets"]
            if first["last_set"] != last_set:
                return False
        (begun,) = rows["revision"].unique()
        try:
            git("cat-file", "-e", f"{begun}^{{commit}}")
        except BadInput:
            raise BadInput(
                f"{path}: {arm.name} began from {begun[:9]}, which this clone lacks: git fetch --unshallow, or delete "
                "its rows"
            ) from None
        return first["settings"] == _settings_of(arm) and experiments.is_same(arm, begun, revision)

    return table.groupby("arm", sort=False).filter(holds)


def read(path: Path) -> pd.DataFrame:
    """Read a tidy table from a CSV.

    Raises:
        BadInput: the file cannot be read, or a column is missing.
    """
    try:
        # "" is a value of departures
        table = pd.read_csv(path, converters={"departures": str})
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a tidy table ({error})") from error
    table = table.assign(**{name: float("nan") for name in SINCE if name not in table})
    if missing := set(COLUMNS) - set(table):
        raise BadInput(f"{path}: not a tidy table, without {', '.join(sorted(missing))}")
    return table


def _rows(arm: Arm, commit: str) -> pd.DataFrame:
    curve = pd.read_csv(StringIO(git("show", f"{commit}:{CURVE}")))
    # A class may be called 1, or null.
    classes = pd.read_csv(StringIO(git("show", f"{commit}:{CONFUSION}")), dtype=str, na_filter=False)["actual"]
    curve = curve.assign(class_names=json.dumps(classes.unique().tolist(), ensure_ascii=False))
    params = parse(git("show", f"{commit}:{PARAMS_FILE}"))
    hashes = _hashes(git("show", f"{commit}:dvc.lock"))
    # A cycle that was restored and not computed cost nothing, and has no row.
    costs = pd.read_csv(StringIO(git("show", f"{commit}:{LOG}")))
    costs = costs.drop_duplicates("history", keep="last").drop(columns=["cycle", "labels"])
    if "compile_seconds" not in costs:
        costs["compile_seconds"] = float("nan")
    chosen = {key: params[key] for key in ("arch", "optim", "strategy", "protocol", "dataset")}
    return (
        curve.assign(history=[hashes.get(str(history.path_of(cycle + 1))) for cycle in curve["cycle"]])
        .merge(costs, on="history", how="left", validate="one_to_one")
        .assign(
            arm=arm.name,
            group=arm.group,
            **chosen,
            # Of the study: a crossed arm may train under another one.
            seed=arm.seed,
            departures="; ".join(departures(params)),
            settings=_settings_of(arm),
            target_accuracy=params["protocols"][params["protocol"]]["target_accuracy"],
            first_set=hashes[str(labelled.path_of(0))],
            last_set=hashes[str(labelled.path_of(len(params["cycles"])))],
        )
    )


def _settings_of(arm: Arm) -> str:
    return " ".join(word for word in arm.options if word != "-S")


def _hashes(lock: str) -> dict[str, str]:
    """The hash of every output that a dvc.lock names."""
    outs = [out for stage in parse(lock, "dvc.lock")["stages"].values() for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs}
