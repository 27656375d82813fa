"""Run a trained network over images, in batches that stream from disk."""

import mmap
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BATCH_SIZE = 250


class Predictions(NamedTuple):
    """logits: float32 (n, classes). predicted_loss: float32 (n,), or None without a module."""

    logits: NDArray[np.float32]
    predicted_loss: NDArray[np.float32] | None


@torch.inference_mode()
def predict(
    network: nn.Module,
    module: nn.Module | None,
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
    on_batch: Callable[[int], None],
) -> Predictions:
    """Predict for images[indices], with the network in evaluation mode.

    Args:
        images: uint8 (pool, size, size, 3), may be memory-mapped: one batch is held at a time.
        on_batch: called with the number of images of each batch that is done.
    """
    # The batch norm's running statistics: an image's score must not depend on its neighbours.
    network.eval()
    logits, losses = [], []
    for batch in np.array_split(indices, range(BATCH_SIZE, len(indices), BATCH_SIZE)):
        output, features = network(normalise(torch.from_numpy(images[batch]).to(device)))
        logits.append(output)
        if module is not None:
            losses.append(module(features))
        if isinstance(images, np.memmap):
            # Pages that were read would stay with this process: the whole pool in the end.
            images.base.madvise(mmap.MADV_DONTNEED)
        on_batch(len(batch))
    return Predictions(
        torch.cat(logits).cpu().numpy(),
        torch.cat(losses).cpu().numpy() if module is not None else None,
    )
