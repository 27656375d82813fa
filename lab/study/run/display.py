"""Show how far a study is, while it runs."""

import sys
from datetime import timedelta
from pathlib import Path
from time import monotonic

from tqdm import tqdm

from lab.study.arms import Arm
from lab.study.run import folders
from lab.study.run.states import Snapshot


class Display:
    """A line that changes on a terminal; elsewhere a new line whenever an arm starts or ends.

    Args:
        operations: of each cycle of each arm; without them no remaining time is estimated.
    """

    def __init__(self, study: Path, arms: list[Arm], operations: dict[str, list[int]] | None = None) -> None:
        self.folder = folders.of(study)
        self.operations = operations or {arm.name: [0] * len(arm.params["cycles"]) for arm in arms}
        self.total = sum(map(sum, self.operations.values()))
        self.start = monotonic()
        self.done_at_start: int | None = None
        self.last: tuple[int, int, int] | None = None
        self.line = tqdm(bar_format="{desc}", leave=False) if sys.stderr.isatty() else None

    def show(self, state: Snapshot) -> None:
        counts = (len(state.done), len(state.running), len(state.failed))
        waiting = len(self.operations) - sum(counts)
        cycles = {arm.name: len(folders.cycles_of(self.folder, arm.name)) for arm in state.running}
        text = "{} done, {} running, {} failed, {} waiting".format(*counts, waiting) + self._time(state, cycles)
        if state.running:
            text += "; cycles done: " + ", ".join(f"{name} {count}" for name, count in cycles.items())
        if self.line is not None:
            self.line.set_description_str(text)
            if not state.running and not waiting:
                self.line.close()
        elif counts != self.last:
            print(text, flush=True)
        self.last = counts

    def _time(self, state: Snapshot, cycles: dict[str, int]) -> str:
        """Elapsed and remaining time, once this run has finished a cycle."""
        done = sum(sum(self.operations[arm.name]) for arm in state.done)
        done += sum(sum(self.operations[name][:count]) for name, count in cycles.items())
        if self.done_at_start is None:
            self.done_at_start = done
        if done <= self.done_at_start:
            return ""
        given_up = sum(sum(self.operations[name]) for name in state.failed)
        elapsed = monotonic() - self.start
        left = elapsed * (self.total - given_up - done) / (done - self.done_at_start)
        return f"; {_text(elapsed)} elapsed, about {_text(left)} left"


def _text(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
