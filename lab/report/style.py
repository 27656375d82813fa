"""What runs are called and which colour they have, in every picture and page."""

import re
from collections.abc import Iterable

# Okabe and Ito's colours, which colour-blind readers tell apart.
OPTIMIZERS = {"sgd": "#0072b2", "adam": "#d55e00", "adamw": "#009e73", "rmsprop": "#cc79a7"}
OTHERS = ("#e69f00", "#56b4e9", "#6a3d9a", "#8c564b")
REFERENCE = "#7f7f7f"

NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSProp"}


def colours(optimizers: Iterable[str]) -> dict[str, str]:
    """The colour of each optimizer. Those of the paper always have the same one.

    A searched block, whose name ends with ``_tuned``, has that of the unsearched one, unless both are there.
    """
    names = set(optimizers)
    known = OPTIMIZERS | {f"{name}_tuned": colour for name, colour in OPTIMIZERS.items() if name not in names}
    others = sorted(names - set(known))
    return known | {name: OTHERS[number % len(OTHERS)] for number, name in enumerate(others)}


def seeds(count: int) -> str:
    """The words for a number of seeds."""
    return "1 seed" if count == 1 else f"{count} seeds"


def words(name: str) -> str:
    """The words for a group, architecture, optimizer or strategy.

    ``resnet18-sgd-random`` is "ResNet-18 SGD, random"; ``loss_prediction`` is "loss prediction".
    """
    parts = [_word(part) for part in name.split("-")]
    if len(parts) > 1 and parts[0].startswith("ResNet"):
        parts[:2] = [" ".join(parts[:2])]
    return ", ".join(parts)


def _word(name: str) -> str:
    if depth := re.fullmatch(r"resnet(\d+)", name):
        return f"ResNet-{depth[1]}"
    if name.startswith("chosen_by_"):
        return f"chosen by {_word(name.removeprefix('chosen_by_'))}"
    # a param and its value, lr0.1
    if setting := re.fullmatch(r"([a-z_]+?)(\d.*)", name):
        name, value = setting[1], setting[2].replace("e_", "e-")
        return f"{name.strip('_').replace('_', ' ')} {value}"
    return " ".join(NAMES.get(word, word) for word in name.split("_"))
