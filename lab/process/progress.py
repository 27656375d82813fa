"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import sys
from time import monotonic

from tqdm import tqdm

from lab import host

SECONDS_BETWEEN_LINES = 20


class Progress(host.Progress):
    """Counts finished work and shows it, with figures beside it and the time left."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        super().__init__(total)
        self.title, self.unit = title, unit
        self.started = self.last_line = monotonic()
        self.bar = tqdm(total=total, desc=title, unit=f" {unit}") if sys.stderr.isatty() else None

    def update(self, count: int = 1, **figures: str) -> None:
        super().update(count)
        is_last = self.done >= self.total
        if self.bar is not None:
            self.bar.set_postfix(figures, refresh=False)
            self.bar.update(count)
            if is_last:
                self.bar.close()
        elif is_last or monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = monotonic()
            elapsed = self.last_line - self.started
            left = elapsed * (self.total / self.done - 1)
            parts = [f"{self.done:,} of {self.total:,} {self.unit}"]
            parts += [f"{name} {text}" for name, text in figures.items()]
            parts += [f"{elapsed:.0f} s" if is_last else f"{elapsed:.0f} s gone, {left:.0f} s left"]
            print(f"{self.title}: {', '.join(parts)}", flush=True)
