"""Photographs of solar cells, as people label them for money, through the same block as anybody's images."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab import params
from lab.data import prepared
from lab.host import Host
from stages import download, prepare
from tests.conftest import ROOT, write_params

PACKAGE = find_spec("elpv_dataset")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(PACKAGE is None, reason="needs elpv-dataset, of requirements-dev.txt"),
]
# Labels are probabilities of a defect; counts by Buerhop-Lutz et al. (2018).
COUNTS = {"0.0": 1508, "0.3333333333333333": 295, "0.6666666666666666": 106, "1.0": 715}


def test_they_are_read_as_the_block_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKAGE is not None and PACKAGE.origin is not None
    labels = Path(PACKAGE.origin).parent / "data/labels.csv"
    block = params.read(ROOT / "params.yaml")["datasets"]["cells"] | {"path": str(labels)}
    monkeypatch.chdir(tmp_path)
    write_params({"dataset": "cells", "datasets": {"cells": block}})
    download.main(Host())
    prepare.main(Host())
    splits = {name: prepared.read_split(name) for name in ("train", "test")}
    assert {name: split.images.shape for name, split in splits.items()} == {
        "train": (1968, 64, 64, 3),
        "test": (656, 64, 64, 3),
    }
    classes = prepared.read_statistics().classes
    counts = np.bincount(np.concatenate([split.labels for split in splits.values()]))
    assert dict(zip(classes, counts.tolist(), strict=True)) == COUNTS
    label_of = dict(line.split()[:2] for line in labels.read_text().splitlines())
    for name, split in splits.items():
        sources = prepared.read_sources(name)
        assert [classes[label] for label in split.labels] == [label_of[source.name] for source in sources]
        # Resized as a photograph, and not another one: about as bright as the file.
        for position in range(0, len(sources), 100):
            file = np.asarray(Image.open(labels.parent / sources[position].name).convert("L"), float)
            assert abs(split.images[position].mean() - file.mean()) < 2
