"""An arm: one run of a study, with all that sets it apart."""

import json
from copy import deepcopy
from itertools import accumulate
from typing import NamedTuple

from lab.data import sizes

# What the group of an arm with all training labels ends with.
ALL_LABELS = "-all_labels"
# Of the params at the top, those that the stages up to the cold start read.
PREFIX = ("protocol", "dataset", "validation", "cold_start_seed", "cold_start_strategy")


class Arm(NamedTuple):
    """One run of a study.

    name: of the experiment, ``resnet18-sgd-s0``; a protocol other than the paper's comes before it, so that studies do
    not share names. group: the name without protocol and seed, the same in every study. settings: key=value of
    params.yaml, dotted keys; protocol, data set, seed and cycles included. params: all of params.yaml with them.
    chosen_by: the name of the arm whose labels this one acquires again, or None; which labels those are is known once
    that one is finished.
    """

    name: str
    group: str
    seed: int
    settings: dict[str, object]
    params: dict
    chosen_by: str | None = None

    def replaying(self, replay: dict[str, object]) -> "Arm":
        """This arm with the settings of ``lab.study.experiments.replay_of``, which replay the arm that it names."""
        settings = self.settings | {f"replay.{key}": value for key, value in replay.items()}
        return self._replace(settings=settings, params=with_settings(self.params, settings), chosen_by=None)

    @property
    def options(self) -> list[str]:
        """The settings as they are typed after ``dvc exp run``."""
        return [word for key, value in self.settings.items() for word in ("-S", f"{key}={_hydra(value)}")]

    @property
    def prefix(self) -> str:
        """What the stages up to the cold start depend on, which arms share."""
        chosen = [self.params[key] for key in PREFIX]
        return json.dumps([*chosen, self.protocol["cold_start"]])

    @property
    def labels(self) -> list[int]:
        """Labelled images of each cycle."""
        cold_start, query = self.protocol["cold_start"], self.protocol["query"]["labels"]
        return list(accumulate(sizes.acquired(cold_start, query, len(self.params["cycles"]))))

    @property
    def protocol(self) -> dict:
        """The block of the arm's protocol."""
        return self.params["protocols"][self.params["protocol"]]


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


def _hydra(value: object) -> str:
    """A value as ``-S`` reads it: flow maps have bare keys there."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_hydra(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_hydra, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)
