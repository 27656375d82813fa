"""Signals that ask a process to stop: at the next good moment instead of anywhere."""

import signal

from lab.errors import Interrupted


class Interruption:
    """Notes SIGINT and SIGTERM from ``listen`` on; ``check`` is the moment to obey."""

    def __init__(self) -> None:
        self.number: int | None = None

    def listen(self) -> "Interruption":
        """Take the two signals over from their defaults, for the rest of this process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        return self

    @property
    def is_requested(self) -> bool:
        return self.number is not None

    def check(self, kept: str) -> None:
        """Stop here if a signal asked for it. kept: what is not lost, for the message.

        Raises:
            Interrupted: a signal came.
        """
        if self.number is not None:
            raise Interrupted(self.number, kept)

    def _note(self, number: int, _frame: object) -> None:
        self.number = number
