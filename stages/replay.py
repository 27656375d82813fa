"""Bring the labelled pools of the run that is replayed; files without images where none is."""

from hashlib import md5

import numpy as np

from lab import params
from lab.data import labelled, sizes
from lab.data.files import write_bytes
from lab.errors import BadInput
from lab.host import Host
from lab.query import replayed


def main(host: Host) -> None:
    """Write data/replayed/<n>.csv for each cycle.

    Raises:
        BadInput: a pool is in no cache, or does not go with this run's cold start and queries.
    """
    settings = params.load(
        strategy="strategy",
        replay="replay",
        cycles="cycles",
        protocol="protocol",
        cold_start="protocols.{protocol}.cold_start",
        query="protocols.{protocol}.query.labels",
    )
    count = len(settings.cycles)
    if not replayed.is_asked_by(settings.strategy):
        for cycle in range(1, count + 1):
            labelled.write(labelled.cold_start(np.empty(0, dtype=np.int64)), replayed.path_of(cycle))
        return
    first = labelled.path_of(0)
    if md5(first.read_bytes(), usedforsecurity=False).hexdigest() != settings.replay.sets[0]:
        raise BadInput(
            "replay.sets[0]: the run that is replayed began with another labelled set; choose its dataset, "
            "cold_start_seed, validation and protocols.<protocol>.cold_start"
        )
    for cycle, content in enumerate(replayed.fetch(settings.replay.sets[1 : count + 1]), start=1):
        path = replayed.path_of(cycle)
        write_bytes(path, content)
        acquired = sizes.acquired(settings.cold_start, settings.query, cycle + 1)
        found = labelled.read(path)["cycle"].value_counts(sort=False).tolist()
        if found != acquired:
            raise BadInput(
                f"replay.sets[{cycle}]: the run that is replayed acquired {found} images, cycle by cycle, and this "
                f"one would acquire {acquired}; choose the cold_start and query.labels of its protocol"
            )
    print(f"{count} labelled pools of the run that is replayed")
