"""What crossed arms acquired in common, read from their labelled-index files in DVC's cache; kept in overlap.csv."""

from io import BytesIO
from itertools import combinations
from pathlib import Path

import pandas as pd

from lab.errors import BadInput
from lab.process import extent
from lab.query import replayed
from lab.report import decomposition
from lab.study.arms import Arm
from lab.study.experiments import replay_of

FILE = "overlap.csv"
COLUMNS = ["group", "seed", "other", "other_seed", "labels", "acquired", "jaccard", "chance"]


def collect(arms: list[Arm], finished: dict[str, str], tidy: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Overlap of every two groups that were crossed, seed by seed, and of each of them under every two seeds.

    Args:
        finished: name → commit of the experiment.
        tidy: of the study; an arm without rows in it has none here.
        folder: with the table of an earlier report, whose rows stand in for arms whose files are not to be had here.

    Returns:
        ``COLUMNS``: a row a pair of runs and a query. labels: of the cycle that trains on it; the others are of
        ``decomposition.overlap``, chance NaN where queries are among random subsets of the pool.
    """
    crossed = {arm.chosen_by for arm in arms if arm.chosen_by}
    runs = [arm for arm in arms if arm.name in crossed & {*tidy["arm"]}]
    acquired = {arm.name: sets for arm in runs if arm.name in finished and (sets := _acquired(arm, finished[arm.name]))}
    here = [arm for arm in runs if arm.name in acquired]
    found = [
        _overlap(one, two, acquired)
        for one, two in combinations(here, 2)
        if len(one.labels) > 1 and (one.seed == two.seed) != (one.group == two.group)
    ]
    shown, read_here = ({(arm.group, arm.seed) for arm in some} for some in (runs, here))
    earlier = read(folder)
    pairs = [{(row.group, row.seed), (row.other, row.other_seed)} for row in earlier.itertuples()]
    kept = [pair <= shown and not pair <= read_here for pair in pairs]
    return pd.concat([*found, earlier[kept]], ignore_index=True)


def read(folder: Path) -> pd.DataFrame:
    """The table beside a report; without rows where there is none."""
    path = folder / FILE
    return pd.read_csv(path)[COLUMNS] if path.exists() else pd.DataFrame(columns=COLUMNS)


def _acquired(arm: Arm, commit: str) -> list[set[int]] | None:
    """The images of each query that a cycle trained on; None where their file is in no cache or remote."""
    *_, last, _ = replay_of(commit)["sets"]  # the very last is for a cycle that is not run
    try:
        (content,) = replayed.fetch([last])
    except BadInput:
        return None
    pool = pd.read_csv(BytesIO(content))
    return [set(pool.loc[pool["cycle"] == cycle, "index"]) for cycle in range(1, len(arm.labels))]


def _overlap(one: Arm, two: Arm, acquired: dict[str, list[set[int]]]) -> pd.DataFrame:
    candidates = float("nan")
    if one.protocol["query"]["pool_subset"] is None:
        images = extent.of(one.params["datasets"][one.params["dataset"]]).training
        if images is not None:
            candidates = images - one.params["validation"] - one.protocol["cold_start"]
    table = decomposition.overlap(acquired[one.name], acquired[two.name], candidates)
    ends = {"group": one.group, "seed": one.seed, "other": two.group, "other_seed": two.seed}
    return table.assign(**ends, labels=one.labels[1:])[COLUMNS]
