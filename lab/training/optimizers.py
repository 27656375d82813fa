"""Optimizers of ``torch.optim``, each described by a block of params.yaml: its class and the arguments."""

import inspect
from collections.abc import Iterable

from torch import Tensor, optim

# They need a closure, sparse gradients or matrices alone.
UNSUITABLE = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
# They choose an implementation, or maximize.
NOT_SETTINGS = {"params", "self", "foreach", "maximize", "capturable", "differentiable", "fused"}


def classes() -> dict[str, type[optim.Optimizer]]:
    """The optimizers that a block can name, by class name."""
    found = {name: value for name, value in vars(optim).items() if inspect.isclass(value)}
    return {name: cls for name, cls in found.items() if issubclass(cls, optim.Optimizer) and name not in UNSUITABLE}


def arguments(name: str) -> dict[str, object]:
    """The settings of an optimizer's class and their defaults."""
    signature = inspect.signature(classes()[name]).parameters
    return {key: value.default for key, value in signature.items() if key not in NOT_SETTINGS}


def build(block: dict, parameters: Iterable[Tensor]) -> optim.Optimizer:
    """The optimizer of a block over the parameters.

    Args:
        block: ``class`` and arguments of it, as ``optimizers.<name>`` in params.yaml.

    Raises:
        ValueError, TypeError: the class refuses an argument.
    """
    cls = classes()[block["class"]]
    # Fused: a step is one pass over all parameters.
    fused: dict = {"fused": True} if "fused" in inspect.signature(cls).parameters else {}
    return cls(parameters, **{key: value for key, value in block.items() if key != "class"}, **fused)
