"""Data sets: verified sources, fixed splits, statistics by another way."""

import io
import lzma
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from lab.data import files, prepared
from lab.data.dataset import Dataset, Split
from lab.data.sets import cifar10, digits
from lab.errors import BadInput
from lab.host import Host


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Name a path in the environment variable and fetch from it."""

    def fetch(path: object) -> None:
        monkeypatch.setenv(cifar10.VARIABLE, str(path))
        cifar10.fetch(tmp_path / "raw", Host())

    return fetch


def archive(path: Path, mode: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_source_that_is_not_there(source, tmp_path: Path) -> None:
    for path in ("relative/path", tmp_path / "nothing"):
        with pytest.raises(BadInput, match=r"AL_LAB_CIFAR10 = .*name an archive .* by its absolute path"):
            source(path)
    assert not (tmp_path / "raw").exists()


def test_no_internet_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*args: object) -> None:
        raise URLError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cifar10.VARIABLE, raising=False)
    monkeypatch.setattr("torchvision.datasets.utils.download_url", unreachable)
    with pytest.raises(BadInput, match=r"cannot be reached .* in the environment variable AL_LAB_CIFAR10"):
        cifar10.fetch(tmp_path / "raw", Host())


def test_a_truncated_archive(source, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(200_000)
    for mode, name in (("w:gz", "a.tar.gz"), ("w:xz", "a.tar.xz")):
        path = archive(tmp_path / name, mode, {"cifar-10-batches-py/data_batch_1": noise})
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(BadInput, match=f"{name}: broken or truncated"):
            source(path)


def test_an_archive_that_is_none(source, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"not an archive" * 100)
    with pytest.raises(BadInput, match=r"a\.tar\.gz: broken or truncated"):
        source(tmp_path / "a.tar.gz")
    (tmp_path / "b.tar.xz").write_bytes(lzma.compress(b"no tar inside" * 100))
    with pytest.raises(BadInput, match=r"b\.tar\.xz: broken or truncated"):
        source(tmp_path / "b.tar.xz")


def test_a_file_with_other_bytes(source, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", "w:gz", {"cifar-10-batches-py/test_batch": b"other bytes"})
    with pytest.raises(BadInput, match="test_batch is not the official file, its MD5 differs"):
        source(path)
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"other bytes")
    with pytest.raises(BadInput, match="data_batch_1 is not the official file"):
        source(tmp_path)


def test_files_that_lack(source, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"has no batches\.meta, data_batch_1, data_batch_2"):
        source(tmp_path / "empty")


def test_an_archive_cannot_write_outside(source, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", "w:gz", {"../../data_batch_1": b"x", f"{tmp_path}/test_batch": b"x"})
    with pytest.raises(BadInput, match="data_batch_1 is not the official file"):
        source(path)
    assert [file.parent.name for file in tmp_path.rglob("data_batch_1")] == ["cifar-10-batches-py"]
    assert not (tmp_path / "test_batch").exists()


@pytest.fixture(scope="module")
def digit_images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = tmp_path_factory.mktemp("digits")
    digits.fetch(raw, Host())
    return digits.read(raw, Host())


def test_digits_split(digit_images: Dataset) -> None:
    train, test = digit_images.train, digit_images.test
    assert train.images.shape == (digits.TRAINING_IMAGES, 16, 16, 3)
    assert test.images.shape == (digits.TEST_IMAGES, 16, 16, 3)
    assert train.images.dtype == np.uint8
    assert train.labels.dtype == np.int64
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert np.bincount(test.labels).tolist() == pytest.approx([50] * 10, abs=2)
    both = np.concatenate([train.images, test.images]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797, "no image is in both, or twice in one"


def test_digits_are_enlarged_pixel_by_pixel(digit_images: Dataset) -> None:
    image = digit_images.train.images[0]
    for row in range(0, 16, 2):
        for column in range(0, 16, 2):
            assert len(np.unique(image[row : row + 2, column : column + 2])) == 1


def test_channel_statistics_against_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    images[..., 2] = 10
    mean, std = prepared.channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), atol=1e-12)


def test_prepared_arrays_are_memory_mapped(tmp_path: Path, digit_images: Dataset) -> None:
    prepared.write(digit_images, tmp_path)
    split = prepared.read_split("train", tmp_path)
    assert isinstance(split.images, np.memmap)
    np.testing.assert_array_equal(split.images, digit_images.train.images)
    np.testing.assert_array_equal(split.labels, digit_images.train.labels)
    assert prepared.read_statistics(tmp_path).classes == list("0123456789")


def test_the_statistics_on_disk_are_those_of_the_training_images(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    bright, dark = (draw.integers(low, low + 100, (9, 4, 4, 3), dtype=np.uint8) for low in (150, 0))
    bright[..., 0] //= 2
    labels = np.zeros(9, dtype=np.int64)
    prepared.write(Dataset(Split(bright, labels), Split(dark, labels), ["a", "b"]), tmp_path)
    mean, std, classes, *_ = prepared.read_statistics(tmp_path)
    np.testing.assert_allclose(mean, (bright / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (bright / 255).std(axis=(0, 1, 2)), rtol=1e-6)
    assert (mean.dtype, std.dtype, classes) == (np.float32, np.float32, ["a", "b"])


def test_images_without_labels_are_refused(tmp_path: Path, digit_images: Dataset) -> None:
    short = Split(digit_images.train.images, digit_images.train.labels[:-1])
    with pytest.raises(ValueError, match="train: 1297 images but 1296 labels"):
        prepared.write(digit_images._replace(train=short), tmp_path)


def test_a_file_is_absent_or_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*paths: object) -> None:
        raise OSError("power cut")

    files.write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(files.os, "replace", dies)
    for name in ("a.txt", "b.txt"):
        with pytest.raises(OSError, match="power cut"):
            files.write_text(tmp_path / name, "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert not (tmp_path / "b.txt").exists()


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"accuracy": float("nan")})
