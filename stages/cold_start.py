"""Label a random first set, and begin the history of the run."""

from lab import params
from lab.data import carried, history, labelled, prepared, validation
from lab.host import Host
from lab.query.selection import random_subset
from lab.seeds import Stream, generator_of


def main(host: Host) -> None:
    settings = params.load(
        seed="cold_start_seed",
        validation="validation",
        protocol="protocol",
        labels="protocols.{protocol}.cold_start",
    )
    pool = validation.pool(settings.validation, len(prepared.read_split("train").labels))
    indices = random_subset(pool, settings.labels, generator_of(Stream.COLD_START, settings.seed))
    labelled.write(labelled.cold_start(indices), labelled.path_of(0))
    carried.write_nothing(0)
    history.write([], 0)
    print(f"{settings.labels:,} of {len(pool):,} images labelled at random, seed {settings.seed}")
