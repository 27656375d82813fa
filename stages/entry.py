"""How a stage starts and ends as a process."""

import ctypes
import signal
import sys
from collections.abc import Callable


class BadInput(ValueError):
    """A parameter, file or environment variable that the stage refuses. The message says what to change."""


def run(main: Callable[[], None]) -> None:
    """Run a stage: a ``BadInput`` ends it with its message and status 1, any other error with its traceback."""
    _die_with_parent()
    try:
        main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when DVC dies: an orphan would write beside the next run."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
