"""A study file: which arms, which seeds, which protocol.

    protocol: cpu_study
    seeds: [0, 1, 2]
    arms:                             # every combination of these values
      arch: [resnet18]
      optim: [sgd, adam]
    cycles: 10                        # optional; as in params.yaml where it is left out

Any key of params.yaml can stand under ``arms``, dotted where it lies in a block.
"""

import json
import re
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.errors import BadInput
from lab.params import Yaml12Loader, parse
from lab.process import check

# What a name always says, and what goes without saying in it.
ALWAYS = ("arch", "optim")
USUAL_STRATEGY = "loss_prediction"
# What other keys of the file say.
NOT_IN_ARMS = {"protocol": "protocol", "seed": "seeds", "cold_start_seed": "seeds", "cycles": "cycles"}


class _StudyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    protocol: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    arms: Annotated[dict[str, Annotated[list, Field(min_length=1)]], Field(min_length=1)]
    cycles: Annotated[int | None, Field(ge=1)] = None


class Arm(NamedTuple):
    """One run of a study.

    name: of the experiment, ``resnet18-sgd-s0``; a protocol other than the paper's stands before it, so that
    studies do not meet. group: the name without protocol and seed, the same in every study. settings: key=value
    of params.yaml, dotted keys; those of the protocol, the seed and the cycles included. params: the whole
    params.yaml that they make.
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
        protocol = self.params["protocol"]
        cold_start = self.params["protocols"][protocol]["cold_start"]
        return yaml.safe_dump([protocol, self.params["datasets"], self.params["cold_start_seed"], cold_start])


def read(path: Path, params_text: str) -> list[Arm]:
    """The arms of a study, seed by seed, so that a study that is stopped early has whole seeds.

    Args:
        path: the study file.
        params_text: params.yaml of the revision that the study runs.

    Raises:
        BadInput: the file, or the params of any arm, are refused; every fault is named.
    """
    try:
        study = _StudyFile(**_mapping(path))
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise BadInput("\n".join([f"{path} is refused, nothing was run:", *faults])) from error
    if reserved := [key for key in study.arms if key in NOT_IN_ARMS]:
        faults = [f"  arms.{key}: stands under {NOT_IN_ARMS[key]}, for all arms" for key in reserved]
        raise BadInput("\n".join([f"{path} is refused, nothing was run:", *faults]))
    base = parse(params_text)
    arms = [
        _arm(study, dict(zip(study.arms, values, strict=True)), seed, base)
        for seed in study.seeds
        for values in product(*study.arms.values())
    ]
    faults = [f"  {arm.name}: {fault}" for arm in arms for fault in _faults(arm)]
    names = [arm.name for arm in arms]
    faults += [f"  {name}: {names.count(name)} arms have this name" for name in names if names.count(name) > 1]
    if faults:
        raise BadInput("\n".join([f"{path} is refused, nothing was run:", *dict.fromkeys(faults)]))
    return arms


def get(params: dict, key: str) -> object:
    """The value of a dotted key; None where there is none."""
    for name in key.split("."):
        params = params.get(name) if isinstance(params, dict) else None
    return params


def _mapping(path: Path) -> dict:
    try:
        values = yaml.load(path.read_text(), Loader=Yaml12Loader)
    except OSError as error:
        raise BadInput(f"{path}: the study file cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: must be a mapping with protocol, seeds and arms, not {values!r}")
    return values


def _arm(study: _StudyFile, values: dict[str, object], seed: int, base: dict) -> Arm:
    # One number for both: the arms of a seed share its first labelled set, and differ in what the study varies.
    settings = {"protocol": study.protocol, **values, "seed": seed, "cold_start_seed": seed}
    if study.cycles is not None:
        settings["cycles"] = [{"this": number, "next": number + 1} for number in range(study.cycles)]
    said = [str(values.get(key, base.get(key))) for key in ALWAYS]
    strategy = values.get("strategy", base.get("strategy"))
    if strategy != USUAL_STRATEGY:
        said.append(str(strategy))
    for key, value in values.items():
        if key not in (*ALWAYS, "strategy") and len(study.arms[key]) > 1:
            is_word = isinstance(value, str)
            said.append(_plain(value if is_word else f"{key.rpartition('.')[2]}{json.dumps(value)}"))
    group = "-".join(said)
    params = deepcopy(base)
    for key, value in settings.items():
        *blocks, last = key.split(".")
        block = params
        for name in blocks:
            block = block.setdefault(name, {})
            if not isinstance(block, dict):
                raise BadInput(f"arms.{key}: {name} of params.yaml is no block of params")
        block[last] = value
    prefix = "" if study.protocol == "paper" else f"{study.protocol}-"
    return Arm(f"{prefix}{group}-s{seed}", group, seed, settings, params)


def _faults(arm: Arm) -> list[str]:
    try:
        check.check(yaml.safe_dump(arm.params))
    except ValueError as error:
        return [line.strip() for line in str(error).splitlines()]
    return []


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
