"""The loop that people use today, written as the measure of ours.

torchvision's CIFAR10 with PIL transforms, a DataLoader, float32, contiguous tensors, an optimizer with
PyTorch's defaults, one ``backward`` a batch. Network, loss prediction module and batch size are ours.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10

from lab.data.prepared import Statistics
from lab.model.loss_prediction import LossPrediction, ranking_loss
from lab.model.resnet import ResNet
from lab.training.learner import Learner
from lab.training.train import Recipe

LR = 0.1


def images(
    raw: Path, indices: Sequence[int], statistics: Statistics, *, is_training: bool, is_test: bool = False
) -> Dataset:
    """Images to score, or to train on: cropped and mirrored at random each time they are read."""
    augmentation = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if is_training else []
    plain = [transforms.ToTensor(), transforms.Normalize(statistics.mean, statistics.std)]
    return Subset(CIFAR10(raw, train=not is_test, transform=transforms.Compose([*augmentation, *plain])), indices)


def train(
    model: Learner,
    images: Dataset,
    recipe: Recipe,
    batch_size: int,
    on_batch: Callable[[int], None],
    after_epoch: Callable[[], object] = lambda: None,
) -> None:
    """SGD with the ranking loss of loss prediction, in place. on_batch: called with a batch's images."""
    network, module, device = _contiguous(model)
    loader = DataLoader(images, batch_size, shuffle=True, **_loading(device))
    optimizer = torch.optim.SGD(
        [*network.parameters(), *module.parameters()], lr=LR, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    drop = round(recipe.schedule.get("drop_at", 1) * recipe.epochs)
    rate = torch.optim.lr_scheduler.MultiStepLR(optimizer, [drop])
    network.train()
    for epoch in range(recipe.epochs):
        for batch, labels in loader:
            batch, labels = batch.to(device), labels.to(device)
            logits, features = network(batch)
            losses = F.cross_entropy(logits, labels, reduction="none")
            if epoch >= recipe.detach_at * recipe.epochs:
                features = [feature.detach() for feature in features]
            loss = losses.mean() + ranking_loss(module(features), losses, margin=1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            on_batch(len(labels))
        rate.step()
        after_epoch()
        network.train()


@torch.no_grad()
def accuracy(model: Learner, images: Dataset, batch_size: int) -> float:
    """The share of images that are classified correctly."""
    network, _, device = _contiguous(model)
    network.eval()
    right = 0
    for batch, labels in DataLoader(images, batch_size, **_loading(device)):
        logits, _ = network(batch.to(device))
        right += int((logits.argmax(1).cpu() == labels).sum())
    return right / len(images)  # type: ignore[arg-type]  # it has a length


@torch.no_grad()
def score(model: Learner, images: Dataset, batch_size: int, on_batch: Callable[[int], None]) -> torch.Tensor:
    """Predicted losses, (n,)."""
    network, module, device = _contiguous(model)
    network.eval()
    losses = []
    for batch, _ in DataLoader(images, batch_size, **_loading(device)):
        _, features = network(batch.to(device))
        losses.append(module(features).cpu())
        on_batch(len(batch))
    return torch.cat(losses)


def _contiguous(model: Learner) -> tuple[ResNet, LossPrediction, torch.device]:
    """A learner's network, module and device; its weights, channels-last before, would make its activations so too."""
    assert model.module is not None, "it has hidden units"
    return model.network.to(memory_format=torch.contiguous_format), model.module, model.device


def _loading(device: torch.device) -> dict:
    # Beside a GPU workers prepare the next batch; on the CPU they would take the cores that compute.
    is_cuda = device.type == "cuda"
    return {"num_workers": 4 if is_cuda else 0, "pin_memory": is_cuda, "persistent_workers": is_cuda}
