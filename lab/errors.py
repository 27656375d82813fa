"""What a stage refuses, and why it stops before its end."""

import signal
from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """A parameter, file or environment variable that is refused. The message says what to change."""


class Diverged(Exception):
    """Training no longer computes finite numbers. The message says what is not finite, and in which epoch."""


class Interrupted(Exception):
    """A signal asked the process to stop. The message says what is kept.

    Args:
        number: of the signal.
        kept: what is not lost.
    """

    def __init__(self, number: int, kept: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {kept}")
        self.number = number


def reason(error: OSError) -> str:
    """What is wrong, without the file."""
    return (error.strerror or str(error)).lower()


def nearest(word: object, choices: Iterable[str]) -> str:
    """What stands behind a refusal: the choice that may be meant, or nothing."""
    close = get_close_matches(str(word), list(choices), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
