"""Signals that ask a stage to stop: at the next good moment instead of anywhere."""

import signal


class Interrupted(Exception):
    """A signal asked to stop. The message says what is kept."""

    def __init__(self, number: int, kept: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {kept}")
        self.number = number


class Interruption:
    """Notes SIGINT and SIGTERM from ``listen`` on; ``check`` is the moment to obey."""

    def __init__(self) -> None:
        self.number = None

    def listen(self) -> "Interruption":
        """Take the two signals over from their defaults, for the rest of this process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        return self

    @property
    def is_requested(self) -> bool:
        return self.number is not None

    def check(self, kept: str) -> None:
        """Raise where a signal has come. kept: what is not lost, for the message.

        Raises:
            Interrupted: a signal has come.
        """
        if self.number is not None:
            raise Interrupted(self.number, kept)

    def _note(self, number: int, _frame: object) -> None:
        self.number = number
