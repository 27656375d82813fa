"""How a stage or another command ends: what went wrong is one line and a status."""

import errno
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from lab import params
from lab.errors import BadInput, Diverged, Interrupted, reason

# Where the stages write what DVC then copies into its cache.
OUTPUTS = ("data", "metrics", "plots")
MARGIN = 2**20  # bytes, for folders and lock files

# What PyTorch, oneDNN and cuBLAS say when memory runs out.
LACK_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "could not create a memory",
    "out of memory",
    "ALLOC_FAILED",
)
KILLED = (
    "the stage was killed (SIGKILL), by somebody or by the system for want of memory: then choose a smaller "
    "training.batch_size or width of the protocol; finished cycles are kept"
)


def run(main: Callable[[], None]) -> None:
    """Run a command and exit with its status."""
    sys.exit(status_of(main))


def status_of(main: Callable[[], None], cycle: str | None = None) -> int:
    """Run a command or a stage, and print what went wrong.

    Args:
        cycle: the number of the cycle that it runs, if it runs one.

    Returns:
        The status to exit with: 0, 1 after an error, 128 + the number of the signal that stopped it.
    """
    message: str | None
    try:
        main()
        return 0
    except Interrupted as error:
        message, status = str(error), 128 + error.number
    except KeyboardInterrupt:
        message, status = "stopped by SIGINT: finished stages are kept", 130
    except Exception as error:
        if (explained := _explanation(error, cycle)) is None:
            traceback.print_exc()
            return 1
        message, status = explained, 1
    print(f"error: {message}", file=sys.stderr)
    return status


def _explanation(error: Exception, cycle: str | None) -> str | None:
    """What to say of an error; None where only its traceback helps."""
    if isinstance(error, BadInput):
        return str(error)
    if isinstance(error, Diverged):
        return f"training diverged: {error}" + _of_cycle(
            cycle,
            " of cycle {cycle}, with optim = {optim!r} and optimizers.{optim}."
            + ("phases" if cycle is not None and _has_phases() else "lr = {optimizer.lr}")
            + "; choose a smaller learning rate (finished cycles are kept)",
            optim="optim",
            optimizer="optimizers.{optim}",
        )
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _is_lack_of_memory(error)):
        first_line = str(error).partition("\n")[0]
        advice = _of_cycle(
            cycle,
            " in cycle {cycle}, with protocols.{protocol}.training.batch_size = {training.batch_size}: choose "
            "a smaller batch_size or width, or a device with more memory; finished cycles are kept",
            protocol="protocol",
            training="protocols.{protocol}.training",
        )
        return "out of memory" + advice + (f" ({first_line})" if first_line else "")
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left on the disk of {Path.cwd()}, {shutil.disk_usage('.').free / 1e6:,.1f} MB are free: "
            "free some and run again; finished stages are kept, and a cycle resumes from its checkpoint"
        )
    return describe(error) if error.filename is not None else None


def describe(error: OSError) -> str:
    """The file and what is wrong with it, or what is known of that."""
    return reason(error) if error.filename is None else f"{error.filename}: {reason(error)}"


def _is_lack_of_memory(error: RuntimeError) -> bool:
    return any(text in str(error) for text in LACK_OF_MEMORY)


def _has_phases() -> bool:
    values = params.current()
    return "phases" in values["optimizers"][values["optim"]]


def _of_cycle(cycle: str | None, text: str, **keys: str) -> str:
    """The text with the number of the cycle and its params, as ``params.load`` names them; nothing without a cycle."""
    return "" if cycle is None else text.format(cycle=cycle, **vars(params.load(**keys)))


def refuse_a_full_cache(started: float) -> None:
    """Fail while DVC would still notice: where its cache is full, it says so and ends with status 0.

    Args:
        started: time at which the stage began to write.

    Raises:
        BadInput: the cache has no room for what was written since.
    """
    if not Path(".dvc").is_dir():
        return
    # Imported late: no stage waits for it before its work.
    from dvc.config import Config

    cache = Path(Config(".dvc", validate=False).get("cache", {}).get("dir") or ".dvc/cache")
    while not cache.exists():
        cache = cache.parent
    statuses = [file.stat() for folder in OUTPUTS for file in Path(folder).rglob("*") if file.is_file()]
    # A file system may keep times by the second.
    written = sum(status.st_size for status in statuses if status.st_mtime >= started - 1)
    free = shutil.disk_usage(cache).free
    if written and free < written + MARGIN:
        raise BadInput(
            f"the disk of DVC's cache ({cache}) is full: {free / 1e6:,.1f} MB are free, and this stage wrote "
            f"{written / 1e6:,.1f} MB; free some and run again"
        )
