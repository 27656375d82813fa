"""What a stage can ask of the process that runs it.

Stages and the code below them know this interface alone. How progress is shown, when a signal counts and where
seconds are logged is up to ``lab.process``, so that a change there leaves every finished cycle valid.
"""

from collections.abc import Callable
from pathlib import Path


class Progress:
    """Counts finished work and shows nothing. ``total`` units are expected, ``done`` are finished."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def update(self, count: int = 1, **figures: str) -> None:
        """Count more finished units. figures: what to show beside them, name=text."""
        self.done += count


class Host:
    """Runs a stage without progress, signals or a log: in tests, benchmarks and estimates.

    scratch: the folder for checkpoints.
    """

    scratch = Path("scratch")

    @property
    def is_stopping(self) -> bool:
        """Whether a signal asked to stop."""
        return False

    def progress(self, title: str, total: int, unit: str) -> Progress:
        """Show progress. title: the work. total: its amount. unit: what is counted, in the plural."""
        return Progress(total)

    def check(self, kept: str) -> None:
        """Stop here if a signal asked for it. kept: what is not lost.

        Raises:
            Interrupted: a signal came.
        """

    def record(self, **costs: float) -> None:
        """Log what this cycle cost. costs: seconds and megabytes, which differ from run to run."""

    def when_safe(self, do: Callable[[], None]) -> None:
        """Do something once the outputs of the stage are safe: remove a checkpoint, say."""
