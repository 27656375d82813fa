"""metrics/costs.csv: what each computed cycle cost, in seconds and memory.

Costs differ from run to run. So they are no output of a stage but a log, kept in Git: a row each time that a cycle is
computed, found by the hash of the history that the cycle wrote.
"""

import csv
import errno
import fcntl
import io
import json
from hashlib import md5
from pathlib import Path

LOG = Path("metrics/costs.csv")
# What a cycle takes, in three parts; compile_seconds are among those of training.
SECONDS = ["training_seconds", "evaluation_seconds", "query_seconds"]
COLUMNS = (
    "history",  # MD5 of metrics/history/<cycle + 1>.json, as in dvc.lock
    "cycle",
    "labels",
    *SECONDS,
    "compile_seconds",
    "images_per_second",
    "peak_memory_mb",
)


def append(cycle: int, costs: dict[str, float]) -> None:
    """Log the costs of a cycle that has written its history. costs: column to value."""
    history = Path(f"metrics/history/{cycle + 1}.json").read_bytes()
    row = {
        "history": md5(history, usedforsecurity=False).hexdigest(),
        "cycle": cycle,
        "labels": json.loads(history)[-1]["labels"],
        **costs,
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    with open(LOG, "a+b", buffering=0) as file:
        # Nobody else's row is written in the meantime.
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        before = file.read()
        if not before:
            writer.writeheader()
        elif not before.endswith(b"\n"):
            text.write("\n")
        writer.writerow(row)
        content = text.getvalue().encode()
        if file.write(content) < len(content):
            file.truncate(len(before))  # half a row would spoil the next one
            raise OSError(errno.ENOSPC, "no space left for the costs of this cycle", str(LOG))
