"""Where files of the user's lie that params name: images, weights."""

from pathlib import Path


def located(path: str) -> Path:
    """An absolute path as it is, ``~`` spelt out; another one begins in the project.

    It is the project's also for a run that DVC or a study gives a folder of its own, below ``.dvc/tmp``.
    """
    here = Path.cwd()
    project = next((parent for parent in here.parents if here.is_relative_to(parent / ".dvc/tmp")), here)
    return project / Path(path).expanduser()
