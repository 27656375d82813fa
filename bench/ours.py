"""Our side of the benchmarks: the learner of a cycle, called as ``bench.baseline`` is."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench import baseline
from lab.data.dataset import Split
from lab.training.batches import TrainingBatches
from lab.training.learner import Learner
from lab.training.train import Recipe

SGD = {"class": "SGD", "lr": baseline.LR, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


def train(
    model: Learner,
    split: Split,
    recipe: Recipe,
    batch_size: int,
    on_batch: Callable[[int], None],
    seed: int = 0,
    is_compiled: bool = False,
) -> None:
    """As ``baseline.train``, by our loop. seed: of the batches."""
    images, labels = (torch.from_numpy(array).to(model.device) for array in split)
    batches = _Batches(images, labels, batch_size, padding=4, flip=True)
    batches.on_batch = on_batch
    model.fit(
        batches,
        SGD,
        recipe,
        lambda epoch: seed * recipe.epochs + epoch,
        on_epoch=lambda epoch: None,
        is_compiled=is_compiled,
    )


class _Batches(TrainingBatches):
    """Reports each batch once it is trained on."""

    on_batch: Callable[[int], None]

    def epoch(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in super().epoch(seed):
            yield images, labels
            self.on_batch(len(labels))
