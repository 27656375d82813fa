"""Checkpoints of training: a cycle that was killed or stopped goes on where it was.

One belongs to everything that determines the training: another code, param, image or machine has another name.
"""

import hashlib
import io
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import numpy as np
import torch

from lab.data.files import parts_of, write_bytes
from lab.host import Host

# Due after an epoch, and within one after so many seconds; but never before the time since the last one is so many
# times what saving that took: checkpoints cost 2 % at most.
SECONDS = 30
PATIENCE = 50

# How a process runs changes nothing that it computes, and data are told apart by their bytes.
NOT_CODE = ("lab.process.", "lab.data.sets.", "lab.cycles")


def key_of(params: dict, machine: dict, arrays: list[np.ndarray]) -> str:
    """A name of everything that determines training: the stages' code as loaded, and what is given.

    Args:
        params: plain values, as JSON can hold them.
        machine: the same, of the device and its software.
        arrays: images and labels trained on, statistics.
    """
    digest = hashlib.sha256(json.dumps([params, machine], sort_keys=True, default=vars).encode())
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.startswith(("lab.", "stages.")) and not name.startswith(NOT_CODE):
            digest.update(name.encode() + Path(file).read_bytes())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        for part in parts_of(array):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


class Checkpoint:
    """The checkpoint of one training, saved when it is due or a signal asks for it.

    Args:
        path: the file; its folder is made.
        key: of ``key_of``; a file with another key is not this training's.
        host: knows when a signal asks this process to stop.
    """

    def __init__(self, path: Path, key: str, host: Host) -> None:
        self.path, self.key, self.host = path, key, host
        self.saved = monotonic()
        self.cost = 0.0
        self.kept = "this cycle starts over"

    def load(self) -> dict | None:
        """The state last saved, its tensors on the CPU; None where there is none that can be trusted."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            print(f"warning: {self.path} cannot be read ({error.strerror}); the cycle starts over", file=sys.stderr)
            return None
        digest, payload = content[:32], content[32:]
        state = {}
        # No object is unpickled but tensors and plain values, and none of those unless the digest is right.
        if hashlib.sha256(payload).digest() == digest:
            try:
                state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            except (RuntimeError, pickle.UnpicklingError, EOFError):
                state = {}
        if not isinstance(state, dict) or state.get("key") != self.key:
            reason = "it belongs to another training" if state else "it is truncated or damaged"
            print(f"warning: {self.path} is ignored, {reason}; the cycle starts over", file=sys.stderr)
            return None
        return state

    def offer(self, state: Callable[[], dict], is_epoch_done: bool) -> None:
        """Save the state where that is due. Called after each batch.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
        """
        elapsed = monotonic() - self.saved
        if self.host.is_stopping or elapsed > max(PATIENCE * self.cost, 0 if is_epoch_done else SECONDS):
            self.save(state())
        self.host.check(self.kept)

    def save(self, state: dict) -> None:
        """Write the state to a temporary name and move it into place; a full disk costs the checkpoint alone."""
        started = monotonic()
        buffer = io.BytesIO()
        torch.save({"key": self.key, **state}, buffer)
        payload = buffer.getbuffer()
        try:
            write_bytes(self.path, hashlib.sha256(payload).digest(), payload)
            self.kept = f"training is kept in {self.path}, the next run goes on from there"
        except OSError as error:
            self.kept = f"training up to now is lost, {self.path} could not be written"
            print(f"warning: no checkpoint, {self.path} cannot be written ({error.strerror})", file=sys.stderr)
        self.saved = monotonic()
        self.cost = self.saved - started

    def remove(self) -> None:
        """The cycle is done: nothing will go on from here."""
        self.path.unlink(missing_ok=True)
