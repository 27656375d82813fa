"""Choices that are one file each: architectures, strategies, data sets.

A file is found by its name, so that adding one is adding a file, and a stage depends on the chosen one alone.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

LAB = Path(__file__).parent


def names(folder: str) -> list[str]:
    """The choices in a folder of ``lab``, as ``model/architectures``, sorted."""
    return sorted(file.stem for file in (LAB / folder).glob("*.py"))


def load(folder: str, name: str) -> ModuleType:
    """The module of a choice.

    Raises:
        ModuleNotFoundError: there is no such file.
    """
    return import_module(".".join(["lab", *folder.split("/"), name]))
