"""Turn raw files into uint8 arrays and channel statistics."""

from pathlib import Path

from lab import choices, params
from lab.data import prepared
from lab.data.dataset import Augmentation
from lab.host import Host

RAW = Path("data/raw")


def main(host: Host) -> None:
    block = params.plain(params.load(block="datasets.{dataset}").block)
    source = choices.load("data/sets", block.pop("source"))
    augmentation = Augmentation(**block.pop("augmentation"))
    dataset = source.read(RAW, host, **block)
    prepared.write(dataset, augmentation=augmentation)
    print(f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} test images")
