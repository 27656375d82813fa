"""Fetch the data set's raw files, checksums verified."""

from pathlib import Path

from lab import choices, params
from lab.host import Host

RAW = Path("data/raw")


def main(host: Host) -> None:
    settings = params.load(dataset="dataset")
    choices.load("data/sets", settings.dataset).fetch(RAW, host)
