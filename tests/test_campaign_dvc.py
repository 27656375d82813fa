"""A campaign on a folder of images, through DVC: two batches, nothing run twice, each label in Git."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import Clone

CAMPAIGN = [sys.executable, "-m", "lab.campaign"]
NEW = "data/batches/{}/labels.csv"


@pytest.fixture(scope="module")
def campaign(clone: Clone) -> Clone:
    """A laboratory whose people are asked about forty images, in two classes: reddish and bluish."""
    photos = clone.folder.parent / "photos"
    (photos / "july").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(40):
        pixels = draw.integers(0, 100, (20, 20, 3), dtype=np.uint8)
        pixels[..., 2 * (number % 2)] += 150
        Image.fromarray(pixels).save(photos / f"july/{number:02}.png")
    params = yaml.safe_load(clone.read("params.yaml"))
    params |= {"protocol": "demo", "dataset": "photos", "oracle": "people", "cycles": [[0, 1]]}
    params["datasets"]["photos"] = {
        "source": "unlabelled",
        "path": str(photos),
        "classes": ["red", "blue"],
        "test": {"share": 0.25, "seed": 0},
        "image_size": 16,
        "faults": "refuse",
        "augmentation": {"flip": True, "smallest_crop": None},
    }
    demo = params["protocols"]["demo"]
    demo |= {"cold_start": 8, "width": 4}
    demo["training"] |= {"epochs": 5}
    demo["query"] |= {"labels": 4}
    (clone.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    clone("dvc", "repro", "cold_start")
    return clone


def label(clone: Clone, batch: str) -> str:
    """Label a batch as it should be, and take it in."""
    path = clone.folder / NEW.format(batch)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            assert Image.open(path.parent / row["picture"]).size == (20, 20), "the file itself"
            writer.writerow(row | {"label": ["red", "blue"][int(Path(row["image"]).stem) % 2]})
    return clone(*CAMPAIGN, "take", NEW.format(batch))


@pytest.mark.pipeline
def test_two_batches(campaign: Clone) -> None:
    waits = campaign("dvc", "repro", fails=True)
    assert "error: the audit set waits for 10 of 10 labels; `python -m lab.campaign` says what comes next" in waits
    campaign(*CAMPAIGN, "ask")
    label(campaign, "audit")
    assert "0 of 1 cycles are done with these labels and params\nnext: dvc repro" in label(campaign, "0")
    first = campaign("dvc", "repro")
    assert "batch 1 waits for 4 labels: `python -m lab.campaign` says what comes next" in first
    campaign("git", "add", "--all")
    campaign("git", "commit", "--quiet", "-m", "batch 0")
    campaign(*CAMPAIGN, "ask")
    assert "cycle 1 is listed in params.yaml" in label(campaign, "1")
    before = campaign.read("metrics/history/1.json")
    second = campaign("dvc", "repro")
    assert "Stage 'cycle@0' didn't change, skipping" in second
    assert "Running stage 'cycle@1'" in second
    assert campaign.read("metrics/history/1.json") == before
    assert "Running stage" not in campaign("dvc", "repro")


@pytest.mark.pipeline
def test_labels_that_git_does_not_hold_are_found(campaign: Clone) -> None:
    campaign("git", "add", "--all", ":!data/answers")
    campaign("git", "commit", "--quiet", "-m", "batch 1, without its labels")
    printed = campaign("python", "-m", "lab.verify", "HEAD", fails=True)
    assert "HEAD: cycle 1 used other labels than those in data/answers; commit data/answers, or " in printed
    assert "cycle 0 used" not in printed
    campaign("git", "add", "--all")
    campaign("git", "commit", "--quiet", "-m", "batch 1")
    campaign(*CAMPAIGN, "ask")
    path = campaign.folder / NEW.format("2")
    header, first, *_ = path.read_text().splitlines()
    path.write_text(f"{header}\n{first}red\n")
    campaign(*CAMPAIGN, "take", NEW.format("2"))
    assert "all are intact" in campaign("python", "-m", "lab.verify", "HEAD"), "half of a batch changes no result"


@pytest.mark.pipeline
def test_another_label_runs_its_cycle_again_and_no_earlier_one(campaign: Clone) -> None:
    image, *_ = campaign.read("data/answers/photos/1.csv").splitlines()[1].split(",")
    other = "red" if int(Path(image).stem) % 2 else "blue"
    (campaign.folder / "second.csv").write_text(f"image,label\n{image},{other}\n")
    printed = campaign(*CAMPAIGN, "take", "second.csv")
    assert f"batch 1, {image}: was {'blue' if other == 'red' else 'red'}, is {other} now" in printed
    assert "cycle 1 used other labels: the next dvc repro runs it again" in printed
    again = campaign("dvc", "repro")
    assert "Stage 'cycle@0' didn't change, skipping" in again
    assert "Running stage 'cycle@1'" in again
