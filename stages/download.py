"""Fetch the data set's raw files, checksums verified; or list images of the user's own by their hashes."""

from pathlib import Path

from lab import choices, params
from lab.host import Host

RAW = Path("data/raw")


def main(host: Host) -> None:
    block = params.plain(params.load(block="datasets.{dataset}").block)
    source = choices.load("data/sets", block.pop("source"))
    block.pop("augmentation")
    source.fetch(RAW, host, **block)
