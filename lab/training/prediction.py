"""Run a trained network over images, in batches that stream from disk."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab.data.prepared import forget

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
        indices: int64 (n,), at least one.
        on_batch: called with the number of images of each batch that is done.
    """
    # The batch norm's running statistics: an image's score must not depend on its neighbours.
    network.eval()
    # All outputs in one piece from the start: kept one by one between the temporaries of each batch, they
    # would keep the memory of those from being used again.
    outputs: list[Tensor] = []
    for start in range(0, len(indices), BATCH_SIZE):
        batch = indices[start : start + BATCH_SIZE]
        logits, features = network(normalise(torch.from_numpy(images[batch]).to(device)))
        parts = [logits] if module is None else [logits, module(features)]
        outputs = outputs or [torch.empty(len(indices), *part.shape[1:], device=device) for part in parts]
        for output, part in zip(outputs, parts, strict=True):
            output[start : start + len(batch)] = part
        forget(images)
        on_batch(len(batch))
    logits, *losses = (output.cpu().numpy() for output in outputs)
    return Predictions(logits, losses[0] if losses else None)
