"""Turn raw files into uint8 arrays and channel statistics."""

from pathlib import Path

from lab import choices, params
from lab.data import prepared
from lab.host import Host

RAW = Path("data/raw")


def main(host: Host) -> None:
    settings = params.load(dataset="dataset")
    dataset = choices.load("data/sets", settings.dataset).read(RAW)
    prepared.write(dataset)
    print(f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} test images")
