"""Start from weights that others trained: files of torchvision or timm, or networks that this laboratory kept."""

import hashlib
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lab.data.location import located
from lab.errors import BadInput, reason
from lab.training.learner import Learner

OURS = "network."  # begins the names in files of ``lab.training.weights``
HEAD, STEM = "fc.", "conv1."
# Counts batches, changes nothing that is computed here, and is missing in older files.
COUNTER = "num_batches_tracked"


def load(model: Learner, path: str, sha256: str) -> str:
    """Take over all layers but the head, which has classes of its own; and the stem where its kernel has their size.

    Args:
        path: a .safetensors file, or one of torch.save that holds tensors alone. No code of it is run.
        sha256: the first digits of its hash, 8 or more.

    Returns:
        Which layers were loaded, and which begin anew.

    Raises:
        BadInput: the file cannot be read, is another one, is broken, would run code, or fits another network.
    """
    file = located(path)
    given = {name.removeprefix(OURS): value for name, value in _read(file, sha256).items()}
    needed = model.network.state_dict()
    fresh = {name for name in needed if name.startswith(HEAD)}
    if STEM + "weight" in given and given[STEM + "weight"].shape[2:] != needed[STEM + "weight"].shape[2:]:
        fresh.add(STEM + "weight")
    taken = {name: value for name, value in given.items() if name in needed and name not in fresh}
    for name, value in needed.items():
        if name in fresh or name.endswith(COUNTER):
            continue
        if name not in taken or taken[name].shape != value.shape:
            has = f"has {tuple(taken[name].shape)}" if name in taken else "is not in it"
            raise BadInput(
                f"{file}: fits another network than arch = {model.shape.arch!r} of width {model.shape.width}: "
                f"{name} {has}, and {tuple(value.shape)} is needed; choose another arch or width"
            )
    if more := [name for name in given if name.startswith("layer") and name not in needed]:
        raise BadInput(f"{file}: fits another network than arch = {model.shape.arch!r}, which has no {more[0]}")
    model.network.load_state_dict(taken, strict=False)
    layers = [sorted({name.partition(".")[0] for name in names}) for names in (taken, fresh)]
    return f"weights of {file}: {', '.join(layers[0])} are loaded, {', '.join(layers[1])} begin anew"


def _read(file: Path, sha256: str) -> dict[str, Tensor]:
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if not found.startswith(sha256):
            raise BadInput(
                f"{file}: its SHA-256 begins with {found[:8]}, and {sha256} is named: it is truncated or another file; "
                "fetch it again, or name its own"
            )
        values: dict = load_file(file) if file.suffix == ".safetensors" else _unpickled(file)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read, {reason(error)}") from error
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{file}: loading it would run code, for it holds more than tensors; convert it to safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError) as error:
        raise BadInput(f"{file}: no weights, or truncated ({' '.join(str(error).split())[:100]})") from error
    # Checkpoints of a training have the weights beside other things.
    values = next((values[key] for key in ("state_dict", "model") if isinstance(values.get(key), dict)), values)
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _unpickled(file: Path) -> dict:
    values = torch.load(file, map_location="cpu", weights_only=True)
    return values if isinstance(values, dict) else {}
