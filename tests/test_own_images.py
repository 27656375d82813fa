"""Images of the user's own: a folder or a table becomes a data set, or is refused with file, line and cure."""

import hashlib
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from lab import params
from lab.data import pixels, prepared
from lab.data.images import decode, table
from lab.data.sets import csv, folder
from lab.errors import BadInput, Interrupted
from lab.host import Host
from lab.process import check, extent
from stages import download, prepare
from tests.conftest import ROOT, RecordingHost, write_params

SIZE = 16
AUGMENTATION = {"flip": True, "smallest_crop": None}
FOLDER = {
    "source": "folder",
    "path": "leaves",
    "test": {"share": 0.25, "seed": 0},
    "image_size": SIZE,
    "faults": "refuse",
    "augmentation": AUGMENTATION,
}
TABLE = FOLDER | {
    "source": "csv",
    "path": "leaves/labels.csv",
    "separator": ",",
    "image": "image",
    "label": "label",
    "classes": ["oak", "ash"],
}


def draw(path: Path, level: int, size: tuple[int, int] = (SIZE, SIZE)) -> Path:
    """An image of one grey level, which survives a resize."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


@pytest.fixture
def leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight images of two classes in folders: levels 0 to 3 are ash, 100 to 103 oak; and a table of them."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "leaves"
    lines = ["image,label"]
    for label, first in (("ash", 0), ("oak", 100)):
        for number in range(4):
            name = f"{label}/{number}.png"
            draw(root / name, first + number, (SIZE + number, SIZE))
            lines.append(f"{name},{label}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def read(block: dict, host: Host | None = None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Fetch and prepare as the two stages do: images and labels of each split, the darkest first, and the classes."""
    params_of = {"dataset": "mine", "datasets": {"mine": block}}
    write_params(params_of)
    host = host or Host()
    download.main(host)
    prepare.main(host)
    splits = {name: prepared.read_split(name) for name in ("train", "test")}
    orders = {name: np.argsort(split.images[:, 0, 0, 0], kind="stable") for name, split in splits.items()}
    return (
        {name: split.images[orders[name]] for name, split in splits.items()},
        {name: split.labels[orders[name]] for name, split in splits.items()},
        prepared.read_statistics().classes,
    )


def refusal(block: dict) -> str:
    with pytest.raises(BadInput) as refused:
        read(block)
    assert not Path("data/prepared").exists(), "no output is touched"
    return str(refused.value)


def checked(block: dict) -> None:
    values = params.read(ROOT / "params.yaml")
    check.check({**values, "datasets": {**values["datasets"], "mine": block}}, optimizers=False)


@pytest.mark.parametrize("block", [FOLDER, TABLE], ids=["folder", "csv"])
def test_a_folder_and_a_table_become_arrays(leaves: Path, block: dict) -> None:
    checked(block)
    Path("scratch").mkdir()
    Path("scratch/unusable_images.txt").write_text("of an earlier run")
    images, labels, classes = read(block)
    assert classes == (["ash", "oak"] if block is FOLDER else ["oak", "ash"])
    assert [images[name].shape for name in images] == [(6, SIZE, SIZE, 3), (2, SIZE, SIZE, 3)]
    for name in images:
        assert images[name].dtype == np.uint8
        of_oak = images[name][:, 0, 0, 0] >= 100
        np.testing.assert_array_equal(of_oak, labels[name] == classes.index("oak"))
    levels = [level for split in images.values() for level in split[:, 0, 0, 0].tolist()]
    assert sorted(levels) == [0, 1, 2, 3, 100, 101, 102, 103], "each image once"
    assert extent.of(block) == extent.Extent(6, 2, SIZE)
    assert not Path("scratch/unusable_images.txt").exists()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.6])
def test_the_extent_is_what_is_prepared(leaves: Path, share: float) -> None:
    (leaves / "oak/0.png").unlink()
    block = FOLDER | {"test": {"share": share, "seed": 0}}
    images = read(block)[0]
    assert extent.of(block)[:2] == (len(images["train"]), len(images["test"]))


def test_images_lie_in_the_order_of_their_content_and_not_class_after_class(leaves: Path) -> None:
    read(FOLDER)
    train = prepared.read_split("train")
    names = {
        number: leaves / f"{'oak' if number >= 100 else 'ash'}/{number % 100}.png"
        for number in (*range(4), *range(100, 104))
    }
    hashes = [hashlib.md5(names[level].read_bytes()).hexdigest() for level in train.images[:, 0, 0, 0].tolist()]
    assert hashes == sorted(hashes)


def test_a_folder_and_its_table_have_the_same_test_set(leaves: Path) -> None:
    tests = [read(block)[0]["test"][:, 0, 0, 0].tolist() for block in (FOLDER, TABLE)]
    assert sorted(tests[0]) == sorted(tests[1])
    others = [read(FOLDER | {"test": {"share": 0.25, "seed": seed}})[0]["test"][:, 0, 0, 0].tolist() for seed in (1, 2)]
    assert len({tuple(levels) for levels in [tests[0], *others]}) > 1, "the seed draws it"


def test_a_new_image_of_a_class_leaves_the_test_images_of_the_others(leaves: Path) -> None:
    before = read(FOLDER)
    draw(leaves / "oak/4.png", 104)
    after = read(FOLDER)
    for images, labels, _ in (before, after):
        np.testing.assert_array_equal(images["test"][labels["test"] == 0], before[0]["test"][before[1]["test"] == 0])


def test_the_test_set_can_be_listed(leaves: Path) -> None:
    (leaves / "test.txt").write_bytes(b"\xef\xbb\xbfoak/2.png\r\nash/0.png\r\n\r\n")
    block = FOLDER | {"test": {"file": "test.txt"}}
    checked(block)
    assert read(block)[0]["test"][:, 0, 0, 0].tolist() == [0, 102]
    assert extent.of(block)[:2] == (6, 2)
    (leaves / "test.txt").write_text("oak/2.png\nash/9.png\n")
    said = refusal_after(block)
    assert said == f"{leaves}/test.txt, line 2: 'ash/9.png' is no image of the data set (did you mean ash/3.png?)"


def refusal_after(block: dict) -> str:
    """The refusal of a block after another was read: outputs of that one stay as they are."""
    before = {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as refused:
        read(block)
    assert {path: path.read_bytes() for path in Path("data").rglob("*") if path.is_file()} == before
    return str(refused.value)


def test_the_shorter_side_is_resized_and_the_centre_cropped(leaves: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((80, 40))
    picture.save(leaves / "oak/0.png")
    found = decode.load(leaves, table.File("oak/0.png", "oak", "train", table.md5_of(leaves / "oak/0.png")), 20)
    usual = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(20)])
    assert np.abs(found.astype(int) - np.asarray(usual(picture)).astype(int)).mean() < 3


def test_a_photograph_is_turned_as_its_camera_was(leaves: Path) -> None:
    picture = Image.fromarray(np.vstack([np.zeros((8, 16, 3), np.uint8), np.full((8, 16, 3), 250, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.save(leaves / "oak/0.png", exif=exif)
    found = decode.load(leaves, table.File("oak/0.png", "oak", "train", table.md5_of(leaves / "oak/0.png")), 16)
    assert (found[0, 0, 0], found[-1, 0, 0]) == (250, 0)


def test_images_above_64_pixels_keep_a_margin_for_crops(leaves: Path) -> None:
    block = FOLDER | {"image_size": 224, "faults": "refuse", "augmentation": {"flip": True, "smallest_crop": 0.08}}
    checked(block)
    for level, path in enumerate(leaves.rglob("*.png")):
        draw(path, level, (300, 280))
    images, *_ = read(block)
    assert images["train"].shape == (6, 256, 256, 3)
    assert prepared.read_statistics().pixels == 224
    assert prepared.read_statistics().augmentation == (True, 0.08)
    assert pixels.stored(64) == 64


def png_of_16_bits(side: int) -> bytes:
    """A square in one colour of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 16, 2, 0, 0, 0)
    rows = (b"\0" + b"\x9c\x40" * 3 * side) * side
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Each fault: what is done to the images, and what is said of it.
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda root: (root / "oak/0.png").write_bytes(b""), "oak/0.png: empty"),
    "no image": (lambda root: (root / "oak/0.png").write_text("hello"), "oak/0.png: no image that Pillow can read"),
    "truncated": (
        lambda root: (root / "oak/0.png").write_bytes((root / "oak/0.png").read_bytes()[:60]),
        "oak/0.png: broken, ",
    ),
    "tiny": (
        lambda root: draw(root / "oak/0.png", 9, (40, 3)),
        "oak/0.png: 40 × 3 pixels, and each side needs 4",
    ),
    "a bomb": (
        lambda root: Image.new("1", (20_000, 20_000)).save(root / "oak/0.png"),
        "oak/0.png: more pixels than can be decoded safely; make it smaller",
    ),
    "a smaller bomb": (
        lambda root: Image.new("1", (10_000, 10_000)).save(root / "oak/0.png"),
        "oak/0.png: 10,000 × 10,000 pixels, more than can be decoded safely; make it smaller",
    ),
    "16 bits": (
        lambda root: Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(root / "oak/0.png"),
        "oak/0.png: pixels of mode I;16; save it with 8 bits a channel",
    ),
    "16 bits of colour": (
        lambda root: (root / "oak/0.png").write_bytes(png_of_16_bits(16)),
        "oak/0.png: 16 bits a channel; save it with 8",
    ),
    "a dead link": (
        lambda root: ((root / "oak/0.png").unlink(), (root / "oak/0.png").symlink_to("gone.png")),
        "oak/0.png: cannot be read, no such file or directory",
    ),
    "in both splits": (
        lambda root: (root / "oak/0.png").write_bytes((root / "oak/3.png").read_bytes()),
        "oak/0.png: has the content of the test image oak/3.png",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_used_is_listed_and_refused_or_skipped(
    leaves: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    spoil, said = FAULTS[name]
    (leaves / "test.txt").write_text("oak/3.png\nash/3.png\n")
    block = FOLDER | {"test": {"file": "test.txt"}}
    spoil(leaves)
    message = refusal(block)
    assert message.startswith("1 images or classes cannot be used; mend or remove them, then list them again with ")
    assert f"{leaves}/{said}" in message
    assert f"{leaves}/{said}" in Path("scratch/unusable_images.txt").read_text()
    images, labels, _ = read(block | {"faults": "skip"})
    assert f"{leaves}/{said}" in capsys.readouterr().out
    assert Path("scratch/unusable_images.txt").exists()
    assert images["train"][:, 0, 0, 0].tolist() == [0, 1, 2, 101, 102]
    assert labels["train"].tolist() == [0, 0, 0, 1, 1]


def test_a_test_split_that_leaves_a_class_empty(leaves: Path) -> None:
    draw(leaves / "elm/0.png", 50)
    draw(leaves / "elm/1.png", 51)
    (leaves / "test.txt").write_text("oak/3.png\nash/3.png\n")
    block = FOLDER | {"test": {"file": "test.txt"}}
    assert "class 'elm': 2 training and 0 test images are left, and it needs one of each; add " in refusal(block)
    images, labels, classes = read(block | {"faults": "skip"})
    assert classes == ["ash", "oak"]
    assert images["train"][:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert labels["train"].tolist() == [0, 0, 0, 1, 1, 1]


def test_one_class_that_is_left_is_none(leaves: Path) -> None:
    for path in (leaves / "oak").iterdir():
        path.write_bytes(b"")
    assert refusal(FOLDER | {"faults": "skip"}) == f"{leaves}: 1 classes are left, and a classifier needs two"


def test_long_lists_are_shown_in_part(leaves: Path) -> None:
    for number in range(40):
        (leaves / f"oak/empty_{number:02}.png").write_bytes(b"")
    said = refusal(FOLDER).splitlines()
    assert said[0].startswith("40 images")
    assert len(said) == 1 + 20 + 2
    assert said[-2] == "  … and 20 more"
    assert len(Path("scratch/unusable_images.txt").read_text().splitlines()) == 40


def test_classes_that_differ_in_case(leaves: Path) -> None:
    draw(leaves / "Oak/1.png", 60)
    assert refusal(FOLDER) == f"{leaves}: the classes 'Oak' and 'oak' differ in case alone; rename or merge them"
    with pytest.raises(ValueError, match=re.escape("datasets.mine.classes = ['oak', 'Oak']: 'oak' and 'Oak' ")):
        checked(TABLE | {"classes": ["oak", "Oak"]})


def test_links_that_lead_back(leaves: Path) -> None:
    (leaves / "oak/all").symlink_to(leaves)
    assert refusal(FOLDER) == f"{leaves}/oak/all: a link that leads back to {leaves}, which it lies in; remove it"
    (leaves / "oak/all").unlink()
    (leaves / "oak/itself.png").symlink_to("itself.png")
    assert refusal(FOLDER).startswith(f"{leaves}/oak/itself.png: cannot be followed, too many levels of symbolic links")


def test_folders_below_and_links_elsewhere_are_read(leaves: Path, tmp_path: Path) -> None:
    draw(tmp_path / "elsewhere/x.png", 30)
    (leaves / "ash/below").symlink_to(tmp_path / "elsewhere")
    (leaves / "ash/notes.txt").write_text("no image")
    (leaves / ".cache").mkdir()
    images, *_ = read(FOLDER)
    assert 30 in np.concatenate(list(images.values()))[:, 0, 0, 0]


@pytest.mark.parametrize(
    ("path", "why"), [("nowhere", "cannot be read, no such file or directory"), ("leaves/oak", "0 folders in it")]
)
def test_a_folder_that_is_none(leaves: Path, path: str, why: str) -> None:
    assert refusal(FOLDER | {"path": path}).startswith(f"{leaves.parent / path}: {why}")
    assert extent.of(FOLDER | {"path": path}).training is None, "the stage says it"


LINES: dict[str, tuple[bytes, str]] = {
    "outside": (b"../x.png,oak", "line 3: '../x.png' lies outside {root}; paths begin in the table's folder, {root}"),
    "absolute": (b"/etc/x.png,oak", "line 3: '/etc/x.png' is absolute; paths begin in the table's folder, {root}"),
    "no class": (b"ash/1.png,aash", "line 3: the label 'aash' is no class; choose from oak, ash (did you mean ash?)"),
    "no label": (b"ash/1.png,", "line 3: no label; remove the line, since every image needs one"),
    "twice": (b"./ash/0.png,ash", "line 3: ./ash/0.png stands in line 2 too; remove one"),
    "encoding": (b"\xe9rable.png,ash", "line 3: byte 0xe9 is not UTF-8; save the file as UTF-8, as with iconv"),
    "columns": (b"ash/1.png;ash", "line 3: 1 columns, and column 2 is asked for; separator is wrong?"),
    "quotes": (b'"ash/1.png,ash', "line 3: no row of a table ("),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_a_table_that_is_refused(leaves: Path, name: str) -> None:
    line, said = LINES[name]
    (leaves / "labels.csv").write_bytes(b"image,label\nash/0.png,ash\n" + line + b"\n")
    assert refusal(TABLE).startswith(f"{leaves}/labels.csv, {said}".replace("{root}", str(leaves)))


def test_a_table_without_the_column(leaves: Path) -> None:
    said = refusal(TABLE | {"label": "labels"})
    assert said == f"{leaves}/labels.csv, line 1: no column 'labels'; it has image, label (did you mean label?)"
    said = refusal(TABLE | {"separator": ";"})
    assert said.endswith("no column 'image'; it has image,label, and nothing else: is the separator right?")
    (leaves / "labels.csv").write_bytes((leaves / "labels.csv").read_text().encode("utf-16"))
    assert refusal(TABLE).endswith(
        "line 1: byte 0xff is not UTF-8; save the file as UTF-8, as with iconv -f utf-16 -t utf-8"
    )
    (leaves / "labels.csv").write_text("")
    assert refusal(TABLE) == f"{leaves}/labels.csv: empty; it must have a line for each image"


def test_tables_as_programs_write_them(leaves: Path) -> None:
    expected = read(TABLE)
    text = (leaves / "labels.csv").read_text()
    (leaves / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = [read(TABLE)]
    rows = [line.split(",") for line in text.splitlines()[1:]]
    (leaves / "labels.csv").write_text("".join(f"{image}   {label}  x\n" for image, label in rows))
    block = TABLE | {"separator": " ", "image": 1, "label": 2}
    checked(block)
    found.append(read(block))
    for images, labels, _ in found:
        for name in images:
            np.testing.assert_array_equal(images[name], expected[0][name])
            np.testing.assert_array_equal(labels[name], expected[1][name])


def test_an_image_that_changed_since_it_was_listed(leaves: Path) -> None:
    write_params({"dataset": "mine", "datasets": {"mine": FOLDER}})
    download.main(Host())
    draw(leaves / "oak/1.png", 7)
    with pytest.raises(BadInput, match=r"oak/1\.png: changed since the files were listed; list them again with `dvc"):
        prepare.main(Host())
    assert not Path("data/prepared").exists()


def test_decoding_that_was_stopped_goes_on(leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MARKED", 1)
    write_params({"dataset": "mine", "datasets": {"mine": FOLDER}})
    download.main(Host())
    with pytest.raises(Interrupted, match="decoded images are kept in scratch/images-"):
        prepare.main(RecordingHost(stop_after=5))
    read_again, load = [], decode.load
    monkeypatch.setattr(decode, "load", lambda root, file, side: read_again.append(file) or load(root, file, side))
    host = RecordingHost()
    prepare.main(host)
    assert len(read_again) == 8 - 5
    assert host.bars[-1].done == 8
    stopped = prepared.read_split("train").images
    stopped = stopped[np.argsort(stopped[:, 0, 0, 0], kind="stable")]
    np.testing.assert_array_equal(stopped, read(FOLDER)[0]["train"])
    for do in host.when_outputs_are_safe:
        do()
    assert list(Path("scratch").iterdir()) == []


PREPARE = """
import resource, sys
from lab.host import Host
from stages import download, prepare
host = Host()
download.main(host)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare.main(host)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.soak
def test_memory_does_not_grow_with_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the images, 157 MB more of them, within 30 MB."""
    monkeypatch.chdir(tmp_path)
    grown = []
    for count in (200, 1000):
        for number in range(count):
            draw(tmp_path / f"leaves/{number % 2}/{number}.png", number % 251, (240, 230))
        block = FOLDER | {"image_size": 224, "augmentation": {"flip": True, "smallest_crop": 0.08}, "faults": "skip"}
        write_params({"dataset": "mine", "datasets": {"mine": block}})
        done = subprocess.run(
            [sys.executable, "-c", PREPARE], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True
        )
        grown.append(int(done.stdout.split()[-1]) / 1024)
    assert grown[1] - grown[0] < 30, f"{grown} MB"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_size": 224}, "augmentation.smallest_crop = None: with image_size = 224, choose the least share"),
        ({"augmentation": {"flip": True, "smallest_crop": 0.5}}, "smallest_crop = 0.5: with image_size = 16, up to 64"),
        ({"faults": "ignore"}, "datasets.mine.faults = 'ignore': choose from refuse, skip"),
        ({"test": {"share": 0}}, "datasets.mine.test.share = 0: must be greater than 0"),
        ({"test": {"share": 0.1}}, "datasets.mine.test.seed: missing"),
        ({"path": 5}, "datasets.mine.path = 5: must be a string"),
        ({"size": 5}, "datasets.mine.size = 5: no such key; choose from path, test, image_size, faults"),
        ({"source": "folders"}, "datasets.mine.source = 'folders': choose from cifar10, csv, digits, folder, unlab"),
    ],
)
def test_a_block_that_is_refused(change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        checked(FOLDER | change)


def test_columns_are_named_or_numbered() -> None:
    with pytest.raises(ValueError, match=re.escape("datasets.mine.label = 'label': image is 1; name both ")):
        checked(TABLE | {"image": 1})


def test_a_budget_above_the_images_is_refused(leaves: Path) -> None:
    values = params.read(ROOT / "params.yaml")
    values = {**values, "dataset": "mine", "datasets": {**values["datasets"], "mine": FOLDER}}
    is_small = (
        "budget of 10,000 labels .* is larger than the pool of mine, 6 images; take fewer cycles, or fewer labels"
    )
    with pytest.raises(ValueError, match=is_small + ", as with -S protocols.paper.cold_start=20"):
        check.check(values, optimizers=False)


def test_a_named_test_set_is_checked_without_a_warning(leaves: Path) -> None:
    (leaves / "test.txt").write_text("oak/3.png\nash/3.png\n")
    values = params.read(ROOT / "params.yaml")
    block = FOLDER | {"test": {"file": "test.txt"}}
    values = {**values, "dataset": "mine", "datasets": {**values["datasets"], "mine": block}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="is larger than the pool of mine, 6 images"):
            check.check(values, optimizers=False)


def test_paths_begin_in_the_project_also_in_a_folder_of_a_run(leaves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (leaves.parent / ".dvc/tmp/exps/x").mkdir(parents=True)
    monkeypatch.chdir(leaves.parent / ".dvc/tmp/exps/x")
    assert folder.count(**{key: value for key, value in FOLDER.items() if key != "source"}) == (6, 2)
    assert csv.count(**{key: value for key, value in TABLE.items() if key != "source"}) == (6, 2)
