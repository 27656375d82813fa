"""The environment variables of a stage, checked before any work."""

import os
import tempfile
from pathlib import Path

from lab.errors import BadInput, reason

SCRATCH, WARM = "AL_LAB_SCRATCH", "AL_LAB_WARM"


def check_warm() -> None:
    """Check AL_LAB_WARM, which says whether stages are forked from a warm process.

    Raises:
        BadInput: it is neither on nor off.
    """
    value = os.environ.get(WARM, "on")
    if value not in ("on", "off"):
        raise BadInput(f"{WARM} = {value!r}: choose from on, off")


def scratch_folder() -> Path:
    """The folder for checkpoints: the one that AL_LAB_SCRATCH names, or scratch/ of the project.

    It is the project's also for `dvc exp run --temp`, whose own folder does not last.

    Raises:
        BadInput: checkpoints cannot be written there.
    """
    value = os.environ.get(SCRATCH)
    if value and not Path(value).is_absolute():
        raise BadInput(f"{SCRATCH} = {value!r}: must be an absolute path, since a run can have a folder of its own")
    folder = Path(value) if value else _project() / "scratch"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = "not a folder" if os.path.isfile(folder) else reason(error)
        which = f"{SCRATCH} = {value!r}" if value else f"{folder}"
        raise BadInput(
            f"{which}: checkpoints cannot be written there, {why}; name a folder that can be written to in {SCRATCH}"
        ) from error
    return folder


def _project() -> Path:
    here = Path.cwd()
    temporary = Path(".dvc/tmp/exps")
    return next((parent for parent in here.parents if here.is_relative_to(parent / temporary)), here)
