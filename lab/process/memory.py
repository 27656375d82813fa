"""How much memory a process has used, and that it keeps what it frees."""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed() -> None:
    """Have this process keep the memory that it frees, where the C library is glibc; elsewhere nothing changes.

    Otherwise it gives tensors of 32 MB and more back to the system, and what is free at the end of its heap, and
    fetches both again at each batch, page by page.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never


def peak_memory_mb() -> float:
    """Highest memory in use so far, in MB: of the tensors on a CUDA device where one is in use, else of the process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_resident_mb()


def peak_resident_mb() -> float:
    """Highest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike getrusage's, it does not start at what the parent process had.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (peak if sys.platform == "darwin" else peak * 1024) / 1e6
