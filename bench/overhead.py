"""What of a run is not training, evaluation or query: python -m bench.overhead

Runs `dvc repro` in a fresh clone with an empty cache, in the CPU protocol, and compares its wall-clock time
with the seconds that its cycles report.
"""

import subprocess
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

from bench import machine
from lab.process import ending

PARTS = ("training_seconds", "evaluation_seconds", "query_seconds")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", default="cpu")
    protocol = parser.parse_args().protocol
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        params = clone / "params.yaml"
        lines = params.read_text().splitlines()
        chosen = [f"protocol: {protocol}" if line.startswith("protocol:") else line for line in lines]
        params.write_text("\n".join(chosen) + "\n")
        started = perf_counter()
        subprocess.run(["dvc", "repro"], cwd=clone, check=True)
        wall = perf_counter() - started
        costs = pd.read_csv(clone / "metrics/costs.csv")[list(PARTS)].sum()
    work = sum(costs[part] for part in PARTS)
    machine.publish(
        "overhead",
        f"Where the time of a run goes, protocol {protocol}",
        pd.DataFrame(
            {
                "part": ["training", "evaluation", "query", "everything else", "dvc repro"],
                "seconds": [f"{seconds:.1f}" for seconds in (*(costs[part] for part in PARTS), wall - work, wall)],
                "share": [f"{s / wall:.1%}" for s in (*(costs[part] for part in PARTS), wall - work, wall)],
            }
        ),
        [
            f"{machine.heading(torch.device('cpu'))}; a fresh clone, an empty cache, no stage done.",
            "Everything else: DVC, process starts, imports, hashing, download and preparation of the data, figures.",
        ],
    )


if __name__ == "__main__":
    ending.run(main)
