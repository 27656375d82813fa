"""Optimizers of ``torch.optim``, each described by a block of params.yaml: its class and the arguments.

A block may hold ``phases`` instead: such blocks by name, each but the last until a number of labels or a share of a
cycle's training. An optimizer begins with no momenta, at the start of each cycle and of each of its phases.
"""

import inspect
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from torch import Tensor, optim

# They need a closure, sparse gradients or matrices alone.
UNSUITABLE = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
# They choose an implementation, or maximize.
NOT_SETTINGS = {"params", "self", "foreach", "maximize", "capturable", "differentiable", "fused"}

# Of a block: which class, and until when.
NOT_ARGUMENTS = {"class", "until_labels", "until_share"}


def classes() -> dict[str, type[optim.Optimizer]]:
    """The optimizers that a block can name, by class name."""
    found = {name: value for name, value in vars(optim).items() if inspect.isclass(value)}
    return {name: cls for name, cls in found.items() if issubclass(cls, optim.Optimizer) and name not in UNSUITABLE}


def arguments(name: str) -> dict[str, object]:
    """The settings of an optimizer's class and their defaults."""
    signature = inspect.signature(classes()[name]).parameters
    return {key: value.default for key, value in signature.items() if key not in NOT_SETTINGS}


class Phase(NamedTuple):
    """until: the share of a cycle's training up to which the optimizer steps."""

    until: float
    optimizer: optim.Optimizer


def phases_of(block: dict, labels: int, parameters: Iterable[Tensor]) -> list[Phase]:
    """The optimizers of a cycle over the parameters, in their order; one without ``until_share``.

    Args:
        block: ``optimizers.<name>`` in params.yaml.
        labels: images that the cycle trains on.
    """
    parameters = list(parameters)
    phases = sorted(block.get("phases", {"": block}).values(), key=_end)
    phases = [phase for phase in phases if labels <= phase.get("until_labels", labels)]
    if "until_share" not in phases[0]:
        phases = phases[:1]
    return [Phase(phase.get("until_share", 1.0), build(phase, parameters)) for phase in phases]


def _end(phase: dict) -> float:
    return phase.get("until_labels", phase.get("until_share", inf))


def build(block: dict, parameters: Iterable[Tensor]) -> optim.Optimizer:
    """The optimizer of a block, or of one of its phases, over the parameters.

    Raises:
        ValueError, TypeError: the class refuses an argument.
    """
    cls = classes()[block["class"]]
    # Fused: a step is one pass over all parameters.
    fused: dict = {"fused": True} if "fused" in inspect.signature(cls).parameters else {}
    return cls(parameters, **{key: value for key, value in block.items() if key not in NOT_ARGUMENTS}, **fused)
