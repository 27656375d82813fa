"""What a cycle's training starts from: the network of the cycle before, or nothing."""

from pathlib import Path

from lab.data.files import write_bytes


def path_of(cycle: int) -> Path:
    """The file that a cycle starts from, empty where it starts from new weights."""
    return Path(f"data/carried/{cycle}.safetensors")


def write_nothing(cycle: int) -> None:
    """The cycle starts from new weights."""
    write_bytes(path_of(cycle))
