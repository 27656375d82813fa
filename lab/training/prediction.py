"""Run a trained network over images, in batches that stream from disk."""

import mmap
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from lab.model.resnet import ResNet

BATCH_SIZE = 250
Output = Literal["logits", "probabilities", "predicted_loss", "embeddings"]


class Predictions(NamedTuple):
    """What the network says of images, in their order.

    logits: float32 (n, classes). predicted_loss: float32 (n,); None without a module, or where nobody asked.
    embeddings: float32 (n, features), what the last linear layer is given; None where nobody asked.
    """

    logits: NDArray[np.float32]
    predicted_loss: NDArray[np.float32] | None
    embeddings: NDArray[np.float32] | None = None

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Of each class, (n, classes); float64, in which fewer confident images are equal."""
        return softmax(self.logits.astype(np.float64), axis=1)


@torch.inference_mode()
def predict(
    network: ResNet,
    module: nn.Module | None,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    on_batch: Callable[[int], None],
    outputs: Collection[Output] = ("logits", "predicted_loss"),
) -> Predictions:
    """Predict for images[indices] in one pass, with the network in evaluation mode.

    Args:
        images: uint8 (pool, size, size, 3), may be memory-mapped: one batch is held at a time.
        indices: int64 (n,), at least one.
        on_batch: called with the number of images of each batch that is done.
        outputs: which to compute; the logits come with any.
    """
    # The batch norm's running statistics: an image's score must not depend on its neighbours.
    network.eval()
    # All outputs in one piece from the start: kept one by one between the temporaries of each batch, they
    # would keep the memory of those from being used again.
    whole: dict[str, Tensor] = {}
    watched: AbstractContextManager[list[Tensor]] = (
        _inputs_of(network.fc) if "embeddings" in outputs else nullcontext([])
    )
    with watched as embeddings:
        for start in range(0, len(indices), BATCH_SIZE):
            batch = indices[start : start + BATCH_SIZE]
            logits, features = network(normalise(torch.from_numpy(images[batch]).to(device)))
            parts = {"logits": logits}
            if module is not None and "predicted_loss" in outputs:
                parts["predicted_loss"] = module(features)
            if embeddings:
                parts["embeddings"] = embeddings.pop()
            for name, part in parts.items():
                if start == 0:
                    whole[name] = torch.empty(len(indices), *part.shape[1:], device=device)
                whole[name][start : start + len(batch)] = part
            if isinstance(images, np.memmap):
                # Pages that were read would stay with this process: the whole pool in the end.
                images._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]  # it is private
            on_batch(len(batch))
    found = {name: output.cpu().numpy() for name, output in whole.items()}
    return Predictions(found["logits"], found.get("predicted_loss"), found.get("embeddings"))


@contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which each call of a layer adds what it is given."""
    given: list[Tensor] = []
    with layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0])):
        yield given
