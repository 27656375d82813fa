"""Label a random first set: python -m stages.cold_start"""

import numpy as np

from lab import params
from lab.data import labelled, prepared
from lab.process import ending as entry
from lab.query.selection import random_subset
from lab.seeds import Stream, generator_of


def main() -> None:
    settings = params.load(seed="cold_start_seed", labels="protocols.{protocol}.cold_start")
    pool_size = len(prepared.read_split("train").labels)
    generator = generator_of(Stream.COLD_START, settings.seed)
    indices = random_subset(np.arange(pool_size), settings.labels, generator)
    labelled.write(labelled.cold_start(indices), labelled.path_of(0))
    print(f"{settings.labels:,} of {pool_size:,} images labelled at random, seed {settings.seed}")


if __name__ == "__main__":
    entry.run_stage(main)
