"""The four optimizers of the paper (section 4.4), by the names that params.yaml uses."""

from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace

from torch import nn, optim

# The keys of a block in params.yaml are the arguments of its optimizer. Fused: all parameters in one pass.
OPTIMIZERS = {
    "sgd": partial(optim.SGD, fused=True),
    "adam": partial(optim.Adam, fused=True),
    "adamw": partial(optim.AdamW, fused=True),
    "rmsprop": optim.RMSprop,  # PyTorch has no fused one
}


def build(name: str, settings: SimpleNamespace, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
    """The named optimizer over the parameters. settings: the block ``optimizers.<name>``."""
    return OPTIMIZERS[name](parameters, **vars(settings))
