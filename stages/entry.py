"""How a stage starts and ends as a process."""

import sys
from collections.abc import Callable


class BadInput(ValueError):
    """A parameter, file or environment variable that the stage refuses. The message says what to change."""


def run(main: Callable[[], None]) -> None:
    """Run a stage: a ``BadInput`` ends it with its message and status 1, any other error with its traceback."""
    try:
        main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
