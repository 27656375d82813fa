"""Images above 64 pixels: stem, crops and test transform of ImageNet; and labelled images that stay on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models, transforms

from lab.data import history, labelled, prepared
from lab.data.dataset import Augmentation, Dataset, Split
from lab.data.prepared import Rows, Statistics
from lab.model.architectures import resnet18
from lab.training import batches, learner, of_cycle
from lab.training.batches import Normaliser, TrainingBatches
from stages import cycle
from tests.conftest import RecordingHost

HALF = np.full(3, 0.5, np.float32)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_network_of_large_images_is_torchvision_s() -> None:
    ours = resnet18.build(10, 64, torch.float32, is_large=True).eval()
    theirs = models.resnet18(num_classes=10).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 96, 96)
    logits, features = ours(images)
    torch.testing.assert_close(logits, theirs(images))
    assert [feature.shape[-1] for feature in features] == [24, 12, 6, 3]


@pytest.mark.parametrize(("pixels", "stage"), [(None, 96), (64, 64), (96, 24)])
def test_the_stem_follows_the_size_of_the_images(pixels: int | None, stage: int) -> None:
    shape = learner.Shape("resnet18", 4, 8)
    model = learner.build(shape, Statistics(HALF, HALF, ["a", "b"], pixels), torch.device("cpu"))
    size = pixels or 96
    assert model.network(torch.zeros(1, 3, size, size))[1][0].shape[-1] == stage
    images, everything = noise(5, size, size, 3), np.arange(5)
    plain, folded = (one.predict(images, everything, lambda count: None) for one in (model, model.for_scoring()))
    np.testing.assert_allclose(plain.logits, folded.logits, atol=1e-4)


def test_the_centre_is_tested() -> None:
    images = noise(2, 256, 256, 3)
    found = Normaliser(Statistics(HALF, HALF, [], 224), torch.device("cpu"))(torch.from_numpy(images))
    crop = transforms.CenterCrop(224)(torch.from_numpy(images).permute(0, 3, 1, 2))
    torch.testing.assert_close(found, (crop / 255 - 0.5) / 0.5)


def test_a_part_of_an_image_is_resized() -> None:
    images = torch.from_numpy(noise(3, 8, 8, 3))
    whole = torch.tensor([[0.0], [0.0], [1.0], [1.0]]).expand(4, 3)
    mirrored = torch.tensor([[False], [True], [False]])
    found = batches._resized(images, 8, whole, mirrored)
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[1], images[1].flip(1))
    corner = torch.tensor([[0.5], [0.25], [0.5], [0.25]]).expand(4, 3)  # left, top, width, height
    found = batches._resized(images, 8, corner, mirrored)
    part = images[:, 2:4, 4:8].permute(0, 3, 1, 2).float()
    resized = torch.nn.functional.interpolate(part, (8, 8), mode="bilinear").round()[..., 2:6, 2:6]
    torch.testing.assert_close(found[0, 2:6, 2:6].permute(2, 0, 1).float(), resized[0], atol=1, rtol=0)
    torch.testing.assert_close(found[1].flip(1)[2:6, 2:6].permute(2, 0, 1).float(), resized[1], atol=1, rtol=0)


def test_parts_are_drawn_as_for_imagenet() -> None:
    left, top, width, height = batches._parts(100_000, 0.25, torch.Generator().manual_seed(0))
    for start, size in ((left, width), (top, height)):
        assert start.min() >= 0
        assert (start + size).max() <= 1 + 1e-6
    assert (width / height).min() >= 0.75 - 1e-4 and (width / height).max() <= 4 / 3 + 1e-4
    area = (width * height)[torch.maximum(width, height) < 1]  # none of these was cut off
    assert area.min() >= 0.25 - 1e-4
    small = area[area < 0.7]
    assert small.mean().item() == pytest.approx((0.25 + 0.7) / 2, abs=0.005), "uniform"
    assert ((left / (1 - width))[width < 0.9]).mean().item() == pytest.approx(0.5, abs=0.01)


def test_batches_of_large_images_are_crops_of_their_size() -> None:
    images, labels = torch.from_numpy(noise(10, 40, 40, 3)), torch.arange(10)
    made = TrainingBatches(images, labels, 4, padding=4, flip=True, smallest_crop=0.5, pixels=35)
    first, again, other = (list(made.epoch(seed)) for seed in (0, 0, 1))
    assert [crops.shape for crops, _ in first] == [(4, 35, 35, 3), (4, 35, 35, 3), (2, 35, 35, 3)]
    assert torch.equal(first[0][0], again[0][0])
    assert not torch.equal(first[0][0], other[0][0])
    assert sorted(torch.cat([targets for _, targets in first]).tolist()) == list(range(10))


@pytest.mark.parametrize("smallest", [None, 0.3])
def test_batches_from_disk_are_those_from_memory(tmp_path: Path, smallest: float | None) -> None:
    np.save(tmp_path / "images.npy", noise(30, 12, 12, 3))
    mapped, indices = np.load(tmp_path / "images.npy", mmap_mode="r"), np.array([7, 3, 29, 0, 11])
    held = torch.from_numpy(mapped[indices])
    made = [
        TrainingBatches(images, torch.arange(5), 2, 2, True, smallest, None) for images in (held, Rows(mapped, indices))
    ]
    for one, other in zip(made[0].epoch(5), made[1].epoch(5), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_cycle_whose_labelled_images_stay_on_disk_is_the_same(
    laboratory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle.main(RecordingHost(), "0")
    held = history.read(1), labelled.read(labelled.path_of(1))
    monkeypatch.setattr(of_cycle, "HELD", 0)
    taken, take = [], Rows.__getitem__
    monkeypatch.setattr(Rows, "__getitem__", lambda rows, chosen: taken.append(chosen) or take(rows, chosen))
    cycle.main(RecordingHost(), "0")
    assert taken
    assert history.read(1) == held[0]
    assert labelled.read(labelled.path_of(1)).equals(held[1])


def test_a_cycle_of_large_images(laboratory: Path) -> None:
    def split(count: int) -> Split:
        return Split(noise(count, 82, 82, 3), np.arange(count) % 10)

    flat = Dataset(split(40), split(12), list("0123456789"), 72)
    prepared.write(flat, augmentation=Augmentation(flip=False, smallest_crop=0.3))
    cycle.main(RecordingHost(), "0")
    (result,) = history.read(1)
    shape = learner.Shape("resnet18", 4, None)
    model = learner.build(shape, prepared.read_statistics(), torch.device("cpu"))
    assert result["flops"] == cycle.count_flops(model.network, 72), "of the images as the network sees them"


def test_a_data_set_can_forbid_mirror_images() -> None:
    def batch(may: bool) -> list[torch.Tensor]:
        statistics = Statistics(HALF, HALF, ["a"], None, Augmentation(may, None))
        model = learner.build(learner.Shape("resnet18", 4, None), statistics, torch.device("cpu"))
        made = model.batches(Split(noise(8, 8, 8, 3), np.arange(8)), 8, padding=0, flip=True)
        ((crops, targets),) = made.epoch(1)
        return [crops[targets.argsort()]]

    (as_they_are,) = batch(False)
    assert torch.equal(as_they_are, torch.from_numpy(noise(8, 8, 8, 3)))
    assert not torch.equal(batch(True)[0], as_they_are)
