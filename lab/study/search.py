"""A search for an optimizer's settings, the same number of trials for each, judged on held-out training images.

    protocol: demo
    dataset: digits
    validation: 200                   # training images held out, the same for all
    seeds: [100, 101]                 # of no later comparison
    labels: [20, 320]                 # the first and the last budget
    grid:                             # of each optimizer, as many settings as of any other
      sgd: {lr: [0.01, 0.03, 0.1], weight_decay: [0.0005, 0.005]}
      adam: {lr: [0.0003, 0.001, 0.003], weight_decay: [0, 0.0005]}

A trial trains once, on random labels, with the module. The rule, fixed before any trial: of each optimizer the setting
with the highest accuracy, as the mean over the budgets of the mean over the seeds; of equal ones the first.
"""

import json
from itertools import product
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from lab import params
from lab.cycles import pairs
from lab.errors import BadInput
from lab.process import check
from lab.process.schema import Block, Count, not_a_choice, validate
from lab.study.arms import Arm, with_settings

SETTINGS = ["lr", "weight_decay"]
CHOSEN = "_tuned"  # what the name of a block that a search wrote ends with


class Grid(Block):
    # An edge on either side, and something between them.
    lr: Annotated[list[check.NotNegative], Field(min_length=3)]
    weight_decay: Annotated[list[check.NotNegative], Field(min_length=1)]

    @property
    def size(self) -> int:
        return len(self.lr) * len(self.weight_decay)


class SearchFile(Block):
    protocol: str
    dataset: str
    validation: Count
    seeds: Annotated[list[check.Seed], Field(min_length=1)]
    labels: Annotated[list[Count], Field(min_length=1)]
    grid: Annotated[dict[str, Grid], Field(min_length=1)]

    @property
    def trials(self) -> int:
        """Of each optimizer."""
        return next(iter(self.grid.values())).size * len(self.labels) * len(self.seeds)

    @property
    def cost(self) -> str:
        """What the search takes, in a sentence."""
        settings = next(iter(self.grid.values())).size
        seeds, drawn = len(self.seeds), len(self.seeds) * sum(self.labels)
        return (
            f"{self.trials} trials of each optimizer: {settings} settings, {len(self.labels)} budgets, "
            f"{seeds} seed{'s' if seeds > 1 else ''}. They read {self.validation + drawn:,} labels: "
            f"{self.validation:,} of held-out images, {drawn:,} to train on."
        )

    @model_validator(mode="after")
    def _searches_equally(self):
        sizes = {name: grid.size for name, grid in self.grid.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"grid = {sizes}: settings of each optimizer; choose as many for all")
        return self


def is_one(path: Path) -> bool:
    """Whether a file is that of a search, and not of a study."""
    return "grid" in params.read(path)


def read(path: Path) -> SearchFile:
    """The file of a search.

    Raises:
        BadInput: it is refused.
    """
    try:
        return validate(SearchFile, params.read(path))
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"{path} is refused, nothing was run:\n{error}") from None


def arms_of(values: dict, base: dict) -> list[Arm]:
    """The trials of a search, those of a seed and a budget together.

    Args:
        values: of the file. base: params.yaml.

    Raises:
        ValueError: the file is refused, a line a fault.
    """
    file = validate(SearchFile, values)
    choices = [name for name, block in base["optimizers"].items() if "phases" not in block]
    if unknown := [not_a_choice(f"grid.{name}", name, choices) for name in file.grid if name not in choices]:
        raise ValueError("\n".join(unknown))
    return [
        _trial(file, base, optim, dict(zip(SETTINGS, setting, strict=True)), labels, seed)
        for seed, labels in product(file.seeds, file.labels)
        for optim, grid in file.grid.items()
        for setting in product(grid.lr, grid.weight_decay)
    ]


def _trial(file: SearchFile, base: dict, optim: str, setting: dict, labels: int, seed: int) -> Arm:
    settings = {
        "protocol": file.protocol,
        "dataset": file.dataset,
        "optim": optim,
        "strategy": "random",
        "validation": file.validation,
        f"protocols.{file.protocol}.cold_start": labels,
        **{f"optimizers.{optim}.{name}": value for name, value in setting.items()},
        "seed": seed,
        "cold_start_seed": seed,
        "cycles": pairs(1),
    }
    words = "-".join(f"{name}{json.dumps(value)}" for name, value in setting.items())
    group = f"{optim}-{words}-n{labels}".replace("e-", "e_")
    return Arm(f"{file.protocol}-search-{group}-s{seed}", group, seed, settings, with_settings(base, settings))
