"""Fetch the data set's raw files, checksums verified: python -m stages.download"""

from lab import params
from lab.data.sources import DATASETS, RAW
from lab.process import ending as entry


def main() -> None:
    settings = params.load(protocol="protocol", datasets="datasets")
    DATASETS[getattr(settings.datasets, settings.protocol)].fetch(RAW)


if __name__ == "__main__":
    entry.run_stage(main)
