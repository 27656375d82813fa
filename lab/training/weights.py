"""Trained networks as safetensors files, which hold numbers and text and run nothing when they are loaded."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from lab.data.files import write_bytes
from lab.data.prepared import Statistics
from lab.training import learner
from lab.training.learner import Learner


def write(path: Path, model: Learner, **about: object) -> None:
    """Write the weights of network and module, and what ``read`` builds them from.

    Args:
        about: what else is to be known of them, as JSON can hold it.
    """
    statistics = model.normalise.statistics
    shape = model.shape._asdict() | {"precision": str(model.shape.precision).removeprefix("torch.")}
    shape |= {"mean": statistics.mean.tolist(), "std": statistics.std.tolist(), "classes": statistics.classes}
    shape["pixels"] = statistics.pixels
    # In one entry: safetensors writes several in an order of chance, and the same weights are to be the same bytes.
    write_bytes(path, save(model.state(), {"learner": json.dumps({"shape": shape, "about": about})}))


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, as ``Learner.load`` takes them; none where it has none."""
    return load_file(path)


def read(path: Path, device: str = "cpu") -> Learner:
    """The trained network of a file that ``write`` wrote, on a device, to ``predict`` with."""
    with safe_open(path, framework="pt") as file:
        shape = json.loads(file.metadata()["learner"])["shape"]
    mean, std = (np.asarray(shape.pop(name), dtype=np.float32) for name in ("mean", "std"))
    statistics = Statistics(mean, std, shape.pop("classes"), shape.pop("pixels"))
    shape["precision"] = getattr(torch, shape["precision"])
    model = learner.build(learner.Shape(**shape), statistics, torch.device(device))
    model.load(read_state(path))
    return model
