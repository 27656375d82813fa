"""What a study asks, stated in its file before it runs.

    analysis:
      correction: holm          # over the primary questions, and over the secondary ones
      equivalence: 0.01         # a difference of less than a point is none that matters
      primary:
      - name: Adam leads early
        difference: [resnet18-adam, resnet18-sgd]     # the first minus the second
        labels: [1000, 3000]                          # mean accuracy of the cycles from and to; or measure: area
      secondary:
      - name: Adam chooses better
        choosing: [resnet18-adam, resnet18-sgd]       # or learning: crossed arms taken apart
        measure: area

Nothing here needs more than pydantic: a study is checked on a cluster's login node.
"""

from math import inf
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lab import params
from lab.process.schema import Block, Count, validate

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
KINDS = ("difference", "learning", "choosing")
ACCURACY = "accuracy"
CROSSED = "-chosen_by_"
# An arm that replays its own choices under another seed.
ANOTHER_SEED = f"{CROSSED}another_seed"


def crossed(trained: str, chosen: str) -> str:
    """The group of one arm trained on what another acquired: ``resnet18-adam-chosen_by_sgd``.

    Args:
        trained, chosen: groups, which differ in some of their words.
    """
    if trained == chosen:
        return trained
    own = trained.split("-")
    return f"{trained}{CROSSED}{'-'.join(word for word in chosen.split('-') if word not in own)}"


class Question(Block):
    name: str
    difference: Pair | None = None
    learning: Pair | None = None
    choosing: Pair | None = None
    labels: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    measure: Literal["area"] | None = None

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "Question":
        if sum(getattr(self, kind) is not None for kind in KINDS) != 1:
            raise ValueError(f"{self.name}: one of {', '.join(KINDS)} must name two groups")
        if (self.labels is None) == (self.measure is None):
            raise ValueError(f"{self.name}: either labels: [from, to] or measure: area")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def groups(self) -> list[str]:
        """The two groups that are compared."""
        return getattr(self, self.kind)


class Analysis(Block):
    correction: Literal["holm"] = "holm"
    equivalence: Annotated[float, Field(gt=0, lt=1)]
    primary: Annotated[list[Question], Field(min_length=1)]
    secondary: Annotated[list[Question], Field(default_factory=list)]

    def faults(self, labels: dict[str, list[int]]) -> list[str]:
        """What the arms of the study cannot answer, a line each.

        Args:
            labels: the name of each arm without its seed → labels of its cycles.
        """
        found = []
        for rank in ("primary", "secondary"):
            for question in getattr(self, rank):
                one, two = question.groups
                key = f"analysis.{rank}: {question.name}: "
                needed = [one, two]
                if question.kind != "difference":
                    needed += [crossed(one, two), crossed(two, one)]
                found += [
                    f"{key}{question.kind} needs {name}: choose from {', '.join(labels)}"
                    for name in needed
                    if name not in labels
                ]
                if one == two:
                    found.append(f"{key}{question.kind} = {question.groups}: a group is not compared with itself")
                # Arms can have other budgets than those that they are compared with.
                common = sorted(set.intersection(*(set(labels.get(name, [])) for name in needed)))
                low, high = question.labels or (0, inf)
                if labels.keys() >= {*needed} and not any(low <= count <= high for count in common):
                    numbers = ", ".join(map(str, common))
                    found.append(f"{key}labels = {question.labels}: no cycle has so many; choose from {numbers}")
        return found


def read(path: Path) -> Analysis | None:
    """The analysis that a study file states, which ``plan.read`` has checked; None where it states none."""
    stated = params.read(path).get("analysis")
    return None if stated is None else validate(Analysis, stated)
