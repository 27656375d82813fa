"""The four optimizers of the paper (section 4.4), by the names that params.yaml uses."""

from collections.abc import Iterable
from types import SimpleNamespace

from torch import nn, optim

# The keys of a block in params.yaml are the arguments of its optimizer.
OPTIMIZERS = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW, "rmsprop": optim.RMSprop}


def build(name: str, settings: SimpleNamespace, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The named optimizer over the parameters. settings: the block ``optimizers.<name>``."""
    return OPTIMIZERS[name](parameters, **vars(settings))
