"""Label a random first set, and begin the history of the run."""

import numpy as np

from lab import params
from lab.data import history, labelled, prepared
from lab.host import Host
from lab.query.selection import random_subset
from lab.seeds import Stream, generator_of


def main(host: Host) -> None:
    settings = params.load(seed="cold_start_seed", protocol="protocol", labels="protocols.{protocol}.cold_start")
    pool_size = len(prepared.read_split("train").labels)
    generator = generator_of(Stream.COLD_START, settings.seed)
    indices = random_subset(np.arange(pool_size), settings.labels, generator)
    labelled.write(labelled.cold_start(indices), labelled.path_of(0))
    history.write([], 0)
    print(f"{settings.labels:,} of {pool_size:,} images labelled at random, seed {settings.seed}")
