"""What a cycle's training starts from: the trained network of the cycle before, or nothing."""

from pathlib import Path

from safetensors import serialize

from lab.data.files import write_bytes


def path_of(cycle: int) -> Path:
    """The safetensors file that a cycle starts from; without tensors where it starts from new weights."""
    return Path(f"data/carried/{cycle}.safetensors")


def write_nothing(cycle: int) -> None:
    """The cycle starts from new weights."""
    write_bytes(path_of(cycle), serialize({}))
