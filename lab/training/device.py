"""Where to compute: found by itself, or named by an environment variable. Never a param."""

import os
import platform
import shlex
import shutil
import sysconfig
from pathlib import Path

import torch

from lab.errors import BadInput

VARIABLE = "AL_LAB_DEVICE"


def choose() -> torch.device:
    """cuda, else mps, else cpu; or what AL_LAB_DEVICE names.

    Raises:
        BadInput: the variable names a device that this machine does not have.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    choices = [name for name, present in available.items() if present]
    named = os.environ.get(VARIABLE) or choices[0]
    if named not in choices:
        raise BadInput(f"{VARIABLE} = {named!r}: choose from {', '.join(choices)}")
    return torch.device(named)


def make_deterministic() -> None:
    """The same commit, params and machine give the same bits."""
    # cuBLAS reads this when it starts, and is not deterministic without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling fresh tensors is for code that reads them before it writes; here it would only take time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch makes it a property


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """The named precision, or float32 where the device has no units for bfloat16, with a line that says so."""
    if name == "bfloat16" and not _has_bfloat16(device):
        print(f"precision: float32, since this {device.type} computes bfloat16 no faster")
        return torch.float32
    return getattr(torch, name)


def name_of(precision: torch.dtype, device: torch.device) -> str:
    """The precision that convolutions run in: on an NVIDIA GPU PyTorch runs those of float32 as TF32."""
    is_tf32 = precision == torch.float32 and device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if is_tf32 else str(precision).removeprefix("torch.")


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds what it needs; a line says what is missing."""
    if device.type not in ("cpu", "cuda"):
        print(f"not compiled: {device.type} is not supported")
        return False
    # C++ for the CPU; C for the launchers of CUDA's kernels. Both include Python's headers.
    variable, default = ("CXX", "g++") if device.type == "cpu" else ("CC", "gcc")
    compiler = shlex.split(os.environ.get(variable, default))[0]
    header = Path(sysconfig.get_path("include"), "Python.h")
    missing = [what for what, found in ((compiler, shutil.which(compiler)), (header, header.exists())) if not found]
    if missing:
        print(f"not compiled: this machine has no {' and no '.join(map(str, missing))}")
    return not missing


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def describe(device: torch.device) -> dict[str, str | int]:
    """What a result was computed on: figures and bits may differ elsewhere."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else f"{device.type} {_cpu_name()}",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version() if is_cuda else 0,
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
