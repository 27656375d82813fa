"""Fetch the data set's raw files, checksums verified: python -m stages.download"""

from stages import entry, params
from stages.data.sources import DATASETS, RAW


def main() -> None:
    settings = params.load(protocol="protocol", datasets="datasets")
    DATASETS[getattr(settings.datasets, settings.protocol)].fetch(RAW)


if __name__ == "__main__":
    entry.run_stage(main)
