"""Label a first set, and begin the history of the run."""

import numpy as np

from lab import choices, params
from lab.data import carried, history, labelled, prepared, stop_set, validation
from lab.errors import BadInput
from lab.host import Host
from lab.query import hidden
from lab.query.first import First
from lab.seeds import Stream, generator_of


def main(host: Host) -> None:
    """Label the first images.

    Raises:
        BadInput: the pool has fewer.
    """
    settings = params.load(
        seed="cold_start_seed",
        strategy="cold_start_strategy",
        validation="validation",
        protocol="protocol",
        labels="protocols.{protocol}.cold_start",
    )
    train = prepared.read_split("train")
    pool = validation.pool(settings.validation, len(train.labels))
    if settings.labels > len(pool):
        key = f"protocols.{settings.protocol}.cold_start"
        raise BadInput(f"{key} = {settings.labels}: must be {len(pool)} or less, the images of the pool")
    indices = choices.load("query/cold_starts", settings.strategy).choose(
        First(
            settings.labels,
            pool,
            train.images,
            generator_of(Stream.COLD_START, settings.seed),
            hidden.labels_for(settings.strategy, train.labels),
        )
    )
    labelled.write(labelled.cold_start(indices), labelled.path_of(0))
    carried.write_nothing(0)
    stop_set.write(np.empty(0, dtype=np.int64), 0)
    history.write([], 0)
    print(f"{settings.labels:,} of {len(pool):,} images labelled first, {settings.strategy}, seed {settings.seed}")
