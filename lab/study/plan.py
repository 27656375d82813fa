"""A study file: which arms, which seeds, which protocol.

    protocol: demo
    dataset: digits
    seeds: [0, 1, 2]
    arms:                             # every combination of these values
      arch: [resnet18]
      optim: [sgd, adam]
    cycles: 10                        # optional; as in params.yaml where it is left out
    analysis: …                       # optional; what the study asks: lab/study/analysis.py

Every key of params.yaml can be varied under ``arms``, dotted where it lies in a block.
"""

import json
import re
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from lab import params
from lab.cycles import pairs
from lab.errors import BadInput
from lab.process import check
from lab.process.schema import Block, Count, validate
from lab.study.analysis import Analysis

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
}
# Blocks of which an arm reads the one that it chooses.
CHOSEN = {block: key for key, block in check.BLOCKS.items()}


class _StudyFile(Block):
    protocol: str
    dataset: str
    seeds: Annotated[list[check.Seed], Field(min_length=1)]
    arms: Annotated[dict[str, Annotated[list, Field(min_length=1)]], Field(min_length=1)]
    cycles: Count | None = None
    analysis: Analysis | None = None


class Arm(NamedTuple):
    """One run of a study.

    name: of the experiment, ``resnet18-sgd-s0``; a protocol other than the paper's comes before it, so that studies do
    not share names. group: the name without protocol and seed, the same in every study. settings: key=value of
    params.yaml, dotted keys; protocol, data set, seed and cycles included. params: all of params.yaml with them.
    """

    name: str
    group: str
    seed: int
    settings: dict[str, object]
    params: dict

    @property
    def options(self) -> list[str]:
        """The settings as they are typed after ``dvc exp run``."""
        return [word for key, value in self.settings.items() for word in ("-S", f"{key}={_hydra(value)}")]

    @property
    def prefix(self) -> str:
        """What the stages up to the cold start depend on, which arms share."""
        chosen = [self.params[key] for key in ("protocol", "dataset", "cold_start_seed")]
        return json.dumps([*chosen, self.protocol["cold_start"]])

    @property
    def protocol(self) -> dict:
        """The block of the arm's protocol."""
        return self.params["protocols"][self.params["protocol"]]

    @property
    def labels(self) -> list[int]:
        """Labelled images of each cycle."""
        cold_start, query = self.protocol["cold_start"], self.protocol["query"]["labels"]
        return [cold_start + number * query for number in range(len(self.params["cycles"]))]


def read(path: Path, params_text: str) -> list[Arm]:
    """The arms of a study, seed by seed, so that a study that is stopped early has whole seeds.

    Args:
        path: the study file.
        params_text: params.yaml of the revision that the study runs.

    Raises:
        BadInput: the file, or the params of any arm, are refused; every fault is named.
    """
    try:
        study = validate(_StudyFile, params.read(path))
        if reserved := [key for key in NOT_IN_ARMS if key in study.arms]:
            raise ValueError("\n".join(f"arms.{key}: set {NOT_IN_ARMS[key]} instead, for all arms" for key in reserved))
    except BadInput:
        raise
    except ValueError as error:
        raise _refusal(path, str(error).splitlines()) from None
    base = params.parse(params_text)
    arms = [
        _arm(path, study, dict(zip(study.arms, values, strict=True)), seed, base)
        for seed in study.seeds
        for values in product(*study.arms.values())
    ]
    swept = [key for key, values in study.arms.items() if len(values) > 1]
    # Checking optimizers imports PyTorch, for which a cluster's login node should not wait without need.
    has_optimizers = any(key.startswith("optimizers.") for key in study.arms)
    faults = [f"{arm.name}: {fault}" for arm in arms for fault in _faults(arm, swept, has_optimizers)]
    names = [arm.name for arm in arms]
    faults += [f"{name}: {names.count(name)} arms have this name" for name in names if names.count(name) > 1]
    if study.analysis and not faults:
        faults += study.analysis.faults(list(dict.fromkeys(arm.group for arm in arms)), arms[0].labels)
    if faults:
        raise _refusal(path, dict.fromkeys(faults))
    return arms


def get(values: object, key: str) -> object:
    """The value of a dotted key; None where there is none."""
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def with_settings(params: dict, settings: dict[str, object]) -> dict:
    """A copy of params with values set at dotted keys.

    Raises:
        ValueError: a key leads through a value that is no block.
    """
    found = deepcopy(params)
    for key, value in settings.items():
        *blocks, last = key.split(".")
        block = found
        for name in blocks:
            block = block.setdefault(name, {})
            if not isinstance(block, dict):
                raise ValueError(f"{key}: {name} of params.yaml is a value, and no block of params")
        block[last] = value
    return found


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
    said = [str(values.get(key, base.get(key))) for key in ALWAYS]
    strategy = values.get("strategy", base.get("strategy"))
    if strategy != USUAL_STRATEGY:
        said.append(str(strategy))
    for key, value in values.items():
        if key not in (*ALWAYS, "strategy") and len(study.arms[key]) > 1:
            said.append(_plain(value if isinstance(value, str) else f"{key.rpartition('.')[2]}{json.dumps(value)}"))
    group = "-".join(said)
    try:
        found = with_settings(base, settings)
    except ValueError as error:
        raise _refusal(path, [f"arms.{error}"]) from None
    prefix = "" if study.protocol == "paper" else f"{study.protocol}-"
    return Arm(f"{prefix}{group}-s{seed}", group, seed, settings, found)


def _faults(arm: Arm, swept: list[str], has_optimizers: bool) -> list[str]:
    faults = []
    for key in swept:
        block, _, rest = key.partition(".")
        chosen = arm.params.get(CHOSEN.get(block))
        if chosen is not None and rest.partition(".")[0] != chosen:
            faults.append(f"arms.{key}: several values, none of which this arm reads: its {CHOSEN[block]} = {chosen!r}")
    try:
        check.check(arm.params, optimizers=has_optimizers)
    except ValueError as error:
        faults += str(error).splitlines()
    return faults


def _plain(text: str) -> str:
    """The text with nothing in it that Git refuses in a name."""
    return re.sub(r"[^A-Za-z0-9.+]+", "_", text).strip("._")


def _hydra(value: object) -> str:
    """A value as ``-S`` reads it: flow maps have bare keys there."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_hydra, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)
