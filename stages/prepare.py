"""Turn raw files into uint8 arrays and channel statistics: python -m stages.prepare"""

from lab import params
from lab.data import prepared
from lab.data.sources import DATASETS, RAW
from lab.process import ending as entry


def main() -> None:
    settings = params.load(protocol="protocol", datasets="datasets")
    dataset = DATASETS[getattr(settings.datasets, settings.protocol)].read(RAW)
    prepared.write(dataset)
    print(f"{len(dataset.train.labels):,} training and {len(dataset.test.labels):,} test images")


if __name__ == "__main__":
    entry.run_stage(main)
