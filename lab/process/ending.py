"""How a stage or another command ends as a process."""

import errno
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab.process.interruption import Interrupted

# Where the stages write what DVC then copies into its cache.
OUTPUTS = ("data", "metrics", "plots")
MARGIN = 2**20  # bytes, for folders and lock files


class BadInput(ValueError):
    """A parameter, file or environment variable that the stage refuses. The message says what to change."""


def run(main: Callable[[], None]) -> None:
    """Run a command, and turn what went wrong into a message and a status.

    A ``BadInput`` and a full disk end the process with their message and status 1, a signal that asked to
    stop with 128 + its number, any other error with its traceback.
    """
    try:
        main()
    except BadInput as error:
        _fail(str(error))
    except Interrupted as error:
        _fail(str(error), 128 + error.number)
    except KeyboardInterrupt:
        _fail("stopped by SIGINT: finished stages are kept", 130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(
            f"no space left on the disk of {Path.cwd()}, {shutil.disk_usage('.').free / 1e6:,.1f} MB are free: "
            "free some and run again; finished stages are kept, and a cycle goes on from its checkpoint"
        )


def run_stage(main: Callable[[], Callable[[], None] | None]) -> None:
    """Run a stage as ``run`` does, and refuse what it wrote where DVC's cache has no room for it.

    Args:
        main: the stage. It may return what is to be done once its outputs are safe.
    """

    def guarded() -> None:
        started = time.time()
        when_safe = main()
        _refuse_a_full_cache(started)
        if when_safe:
            when_safe()

    run(guarded)


def _refuse_a_full_cache(started: float) -> None:
    """Fail while DVC would still notice: where its cache is full, it says so and ends with status 0.

    Raises:
        BadInput: what was written since ``started`` has no room in the cache.
    """
    # Imported late: no stage waits for it before its work.
    from dvc.config import Config
    from dvc.exceptions import NotDvcRepoError

    try:
        cache = Path(Config.from_cwd(validate=False).get("cache", {}).get("dir") or ".dvc/cache")
    except NotDvcRepoError:
        return
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


def _fail(message: str, status: int = 1) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
