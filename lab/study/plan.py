"""A study file: which arms, which seeds, which protocol.

    protocol: demo
    dataset: digits
    seeds: [0, 1, 2]
    arms:                             # every combination of these values
      arch: [resnet18]
      optim: [sgd, adam]
    cycles: 10                        # optional; as in params.yaml where it is left out
    ceiling: {optim: [sgd]}           # optional; as arms: each trains once, with all labels of the data set
    search: studies/s/search.yaml     # optional; the search that the optimizers' settings come from
    allow_oracle: true                # optional; strategies that look at hidden labels are refused without it
    analysis: …                       # optional; what the study asks: lab/study/analysis.py

Every key of params.yaml can be varied under ``arms``, dotted where it lies in a block.
"""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from lab import choices, params
from lab.cycles import pairs
from lab.errors import BadInput
from lab.process import check, extent
from lab.process.schema import Block, Count, validate
from lab.study import search
from lab.study.analysis import ANOTHER_SEED, CROSSED, Analysis
from lab.study.arms import ALL_LABELS, Arm, with_settings

# What an arm's name always has, and the strategy that it leaves out.
ALWAYS = ("arch", "optim")
USUAL_STRATEGY = "loss_prediction"
# What other keys of the file set, for all arms.
NOT_IN_ARMS = {
    "cycles": "cycles",
    "protocol": "protocol",
    "dataset": "dataset",
    "seed": "seeds",
    "cold_start_seed": "seeds",
    "allow_oracle": "allow_oracle",
}
# What is added to the seed of an arm that replays itself under another one.
SEED_APART = 1_000_000


_Grid = Annotated[dict[str, Annotated[list, Field(min_length=1)]], Field(min_length=1)]


class _StudyFile(Block):
    protocol: str
    dataset: str
    seeds: Annotated[list[check.Seed], Field(min_length=1)]
    arms: Annotated[
        Annotated[_Grid, Tag("one")] | Annotated[list[_Grid], Field(min_length=1), Tag("several")],
        Discriminator(lambda arms: "several" if isinstance(arms, list) else "one"),
    ]
    crossed: list[Literal["optim", "arch", "seed"]] = Field(default_factory=list)
    cycles: Count | None = None
    ceiling: _Grid | None = None
    search: str | None = None
    allow_oracle: bool = False
    analysis: Analysis | None = None
    # All rise as networks get better, as labels saved needs.
    measure: Literal["accuracy", "balanced_accuracy", "macro_f1"] = "accuracy"

    @property
    def grids(self) -> list[dict[str, list]]:
        return self.arms if isinstance(self.arms, list) else [self.arms]

    def is_varied(self, key: str) -> bool:
        """Whether arms differ in a param."""
        return len({json.dumps(value, default=str) for grid in self.grids for value in grid.get(key, [])}) > 1


def read(path: Path, params_text: str, *, optimizers: bool = True) -> list[Arm]:
    """The arms of a study, seed by seed, so that a study that is stopped early has whole seeds; or a search's trials.

    Args:
        path: the study file, or the file of a search, which has a ``grid``.
        params_text: params.yaml of the revision that the study runs.
        optimizers: check the settings of optimizers against their classes too, which imports PyTorch.

    Raises:
        BadInput: the file, or the params of any arm, are refused; every fault is named.
    """
    base = params.parse(params_text)
    try:
        values = params.read(path)
        if search.is_one(path):
            return _without_faults(path, search.arms_of(values, base), optimizers)
        study = validate(_StudyFile, values)
        if study.search is not None and not (Path(study.search).is_file() and search.is_one(Path(study.search))):
            raise ValueError(f"search = {study.search!r}: must be the file of a search, which has a grid")
        keys = {key for grid in (*study.grids, study.ceiling or {}) for key in grid}
        if reserved := [key for key in NOT_IN_ARMS if key in keys]:
            raise ValueError("\n".join(f"arms.{key}: set {NOT_IN_ARMS[key]} instead, for all arms" for key in reserved))
    except BadInput:
        raise
    except ValueError as error:
        raise _refusal(path, str(error).splitlines()) from None
    arms = []
    for seed in study.seeds:
        for grid in study.grids:
            chosen = _combinations(grid)
            found = [_arm(path, study, values, seed, base) for values in chosen]
            # Those that are replayed come first, and those that replay them directly behind.
            arms += found
            # One with a fault is refused below, and may have no strategy.
            if study.crossed and not any(_faults(arm, False) for arm in found):
                arms += _crossed(study, chosen, found)
        ceilings = [_arm(path, study, values, seed, base) for values in _combinations(study.ceiling or {})]
        # One with a fault is refused below.
        arms += [arm if _faults(arm, False) else _with_all_labels(arm) for arm in ceilings]
    # Checking optimizers imports PyTorch, for which a cluster's login node should not wait without need.
    optimizers &= any(key.startswith("optimizers.") for key in keys)
    return _without_faults(path, arms, optimizers, study.analysis)


def _without_faults(path: Path, arms: list[Arm], has_optimizers: bool, analysis: Analysis | None = None) -> list[Arm]:
    faults = [f"{arm.name}: {fault}" for arm in arms for fault in _faults(arm, has_optimizers)]
    names = [arm.name for arm in arms]
    faults += [f"{name}: {names.count(name)} arms have this name" for name in names if names.count(name) > 1]
    if analysis and not faults:
        faults += analysis.faults({arm.group: arm.labels for arm in arms if not arm.group.endswith(ALL_LABELS)})
    if faults := faults or list(_repeated(arms)):
        raise _refusal(path, dict.fromkeys(faults))
    return arms


def search_of(path: Path) -> Path | None:
    """The search that a study file names, which ``read`` has checked; None where it names none."""
    name = params.read(path).get("search")
    return Path(name) if name else None


def read_by(params: dict) -> dict:
    """What an arm with these params can depend on: of blocks to choose from, the chosen one alone."""
    blocks = {block: params.get(block, {}).get(params.get(key)) for key, block in check.BLOCKS.items()}
    # A permission changes no number.
    return {key: value for key, value in params.items() if key not in (*blocks, "allow_oracle")} | blocks


def _combinations(grid: dict[str, list]) -> list[dict[str, object]]:
    """Every choice of one value a key; none of an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []


def _with_all_labels(arm: Arm) -> Arm:
    """The arm with one cycle on the whole pool, which leaves nothing to choose."""
    images = extent.of(arm.params["datasets"][arm.params["dataset"]]).training
    if images is None:
        raise BadInput(f"ceiling: how many images datasets.{arm.params['dataset']} has is not known here")
    settings = arm.settings | {
        f"protocols.{arm.params['protocol']}.cold_start": images - arm.params["validation"],
        "cycles": pairs(1),
    }
    group = f"{arm.group}{ALL_LABELS}"
    return arm._replace(
        name=arm.name.replace(arm.group, group),
        group=group,
        settings=settings,
        params=with_settings(arm.params, settings),
    )


def _refusal(path: Path, faults) -> BadInput:
    return BadInput("\n".join([f"{path} is refused, nothing was run:", *(f"  {fault}" for fault in faults)]))


def _arm(path: Path, study: _StudyFile, values: dict[str, object], seed: int, base: dict) -> Arm:
    # One number for both: the arms of a seed share its first labelled set, and differ in what the study varies.
    settings = {
        "protocol": study.protocol,
        "dataset": study.dataset,
        **values,
        "seed": seed,
        "cold_start_seed": seed,
    }
    if study.cycles is not None:
        settings["cycles"] = pairs(study.cycles)
    if study.allow_oracle:
        settings["allow_oracle"] = True
    # Without dashes in them: dashes part the words of a name.
    said = [_plain(str(values.get(key, base.get(key)))) for key in ALWAYS]
    strategy = values.get("strategy", base.get("strategy"))
    if strategy != USUAL_STRATEGY:
        said.append(str(strategy))
    for key, value in values.items():
        if key not in (*ALWAYS, "strategy") and study.is_varied(key):
            said.append(
                _plain(value if isinstance(value, str) else f"{key.rpartition('.')[2]}{json.dumps(value, default=str)}")
            )
    group = "-".join(said)
    try:
        # Each study says for itself that it cheats.
        found = with_settings(base | {"allow_oracle": False}, settings)
    except ValueError as error:
        raise _refusal(path, [f"arms.{error}"]) from None
    prefix = "" if study.protocol == "paper" else f"{study.protocol}-"
    return Arm(f"{prefix}{group}-s{seed}", group, seed, settings, found)


def _crossed(study: _StudyFile, chosen: list[dict], arms: list[Arm]) -> Iterator[Arm]:
    """Arms that train on what another arm acquired: every ordered pair that differs in one crossed param alone.

    Args:
        chosen: the values of each arm. arms: of one seed. An arm that chooses without its network is not replayed.
    """
    pairs_of_arms = [(one, other) for one in zip(chosen, arms, strict=True) for other in zip(chosen, arms, strict=True)]
    for axis, ((values, arm), (others, source)) in product(study.crossed, pairs_of_arms):
        strategy = choices.load(check.FILES["strategy"], source.params["strategy"])
        is_pair = arm is source if axis == "seed" else arm is not source and values | {axis: others.get(axis)} == others
        if not (is_pair and strategy.PREDICTS_POOL):
            continue
        settings = arm.settings | {"strategy": "replay" if strategy.TRAINS_MODULE else "replay_without_module"}
        if axis == "seed":
            settings["seed"] = arm.seed + SEED_APART
        chosen_by = ANOTHER_SEED if axis == "seed" else f"{CROSSED}{_plain(str(others[axis]))}"
        # Stands for the labelled sets of an arm that may not be finished.
        sets = ["0" * 32] * (len(arm.params["cycles"]) + 1)
        replay = {"dataset": study.dataset, "strategy": source.params["strategy"], "sets": sets}
        group = f"{arm.group}{chosen_by}"
        yield arm._replace(
            name=arm.name.replace(arm.group, group),
            group=group,
            settings=settings,
            params=arm._replace(settings=settings).replaying(replay).params,
            chosen_by=source.name,
        )


def _faults(arm: Arm, has_optimizers: bool) -> list[str]:
    try:
        check.check(arm.params, optimizers=has_optimizers)
    except ValueError as error:
        return str(error).splitlines()
    return []


def _repeated(arms: list[Arm]) -> Iterator[str]:
    """Arms that would compute what another one does: they differ in nothing that changes it."""
    seen: dict[str, Arm] = {}
    for arm in arms:
        first = seen.setdefault(json.dumps([_computed_from(arm), arm.chosen_by], default=str), arm)
        for key in (key for key, value in arm.settings.items() if first.settings.get(key) != value):
            yield f"arms.{key}: {first.name} and {arm.name} are the same run, since it changes nothing in them"


def _computed_from(arm: Arm) -> dict:
    """The params that change what an arm computes."""
    found = deepcopy(read_by(arm.params))
    del found["protocols"]["target_accuracy"]
    # Loading a strategy imports PyTorch.
    sets_module = any(".loss_prediction" in key for key in arm.settings)
    if sets_module and not choices.load(check.FILES["strategy"], arm.params["strategy"]).TRAINS_MODULE:
        del found["protocols"]["loss_prediction"]
    return found


def _plain(text: str) -> str:
    """The text with nothing in it that Git refuses in a name."""
    return re.sub(r"[^A-Za-z0-9.+]+", "_", text).strip("._")
