"""Run one stage in this process: check what it is given, let it work, keep what it leaves."""

import importlib
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from lab.host import Host
from lab.process import check, costs, ending, memory, variables
from lab.process.interruption import Interruption
from lab.process.progress import Progress

# The check of optimizers loads PyTorch, which the other stages do without.
CHECK_OPTIMIZERS = ("check", "cycle", "network")
TRAIN = ("cycle", "network")
SUMMARY, SHEET = Path("metrics/summary.json"), Path("plots/contact_sheet.png")
TABLES = [Path(f"plots/{name}.csv") for name in ("curve", "classes", "confusion", "training", "losses")]


class StageHost(Host):
    """Shows progress, keeps signals until the stage asks, and collects what is to be done after it.

    begin: called when the stage begins its work, after all that it refuses.
    """

    def __init__(self, scratch: Path, begin: Callable[[], None] = lambda: None) -> None:
        self.scratch, self.begin = scratch, begin
        self.costs: dict[str, float] = {}
        self._for_later: list[Callable[[], None]] = []
        self._interruption: Interruption | None = None

    def progress(self, title: str, total: int, unit: str) -> Progress:
        self.begin()
        return Progress(title, total, unit)

    @property
    def is_stopping(self) -> bool:
        return self._signals().is_requested

    def check(self, kept: str) -> None:
        self._signals().check(kept)

    def record(self, **costs: float) -> None:
        self.costs |= costs

    def when_safe(self, do: Callable[[], None]) -> None:
        self._for_later.append(do)

    def do_what_waited(self) -> None:
        """The stage's outputs are safe: do what waited for it. What fails now is a warning and no lost result."""
        for do in self._for_later:
            try:
                do()
            except OSError as error:
                print(f"warning: {ending.describe(error)}", file=sys.stderr)

    def _signals(self) -> Interruption:
        # A stage that never asks has nothing to keep: a signal ends it at once.
        if self._interruption is None:
            self._interruption = Interruption().listen()
        return self._interruption


def run(stage: str, *arguments: str) -> int:
    """Run stages/STAGE.py. Returns the status to exit with; 2 where the params are refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a log is read while it grows
    try:
        check.check_files(optimizers=stage in CHECK_OPTIMIZERS)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: stopped by SIGINT: finished stages are kept", file=sys.stderr)
        return 130
    status = ending.status_of(lambda: _work(stage, *arguments), cycle=arguments[0] if stage == "cycle" else None)
    with suppress(OSError):
        sys.stdout.flush()
    return status


def _work(stage: str, *arguments: str) -> None:
    variables.check_warm()
    host = StageHost(variables.scratch_folder(), *([_forget_an_earlier_run] if stage == "cycle" else []))
    started = time.time()
    if stage in TRAIN:
        memory.keep_freed()
    importlib.import_module(f"stages.{stage}").main(host, *arguments)
    ending.refuse_a_full_cache(started)
    if host.costs:
        host.when_safe(
            lambda: costs.append(int(arguments[0]), host.costs | {"peak_memory_mb": memory.peak_memory_mb()})
        )
    host.do_what_waited()


def _forget_an_earlier_run() -> None:
    """Empty the metrics and the plots of an earlier run, which editors would show as this one's."""
    SHEET.unlink(missing_ok=True)
    for path in (SUMMARY, *TABLES):
        if path.exists():
            text = path.read_text()
            empty = "{}\n" if path == SUMMARY else text.partition("\n")[0] + "\n"
            if text != empty:
                path.write_text(empty)
