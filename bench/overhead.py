"""What of a run is not training, evaluation or query: python -m bench.overhead

Runs `dvc repro` in a fresh clone with an empty cache, in the CPU protocol, and compares its wall-clock time
with the seconds that its cycles report.
"""

import re
import subprocess
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

from bench import machine
from lab.process import ending

PARTS = {"training_seconds": "training", "evaluation_seconds": "evaluation", "query_seconds": "query"}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", default="cpu")
    protocol = parser.parse_args().protocol
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        params = clone / "params.yaml"
        params.write_text(re.sub("^protocol:.*", f"protocol: {protocol}", params.read_text(), flags=re.MULTILINE))
        started = perf_counter()
        subprocess.run(["dvc", "repro"], cwd=clone, check=True)
        wall = perf_counter() - started
        seconds = pd.read_csv(clone / "metrics/costs.csv")[list(PARTS)].sum().set_axis(PARTS.values())
    seconds["everything else"] = wall - seconds.sum()
    seconds["dvc repro"] = wall
    machine.publish(
        "overhead",
        f"Where the time of a run goes, protocol {protocol}",
        pd.DataFrame(
            {
                "part": seconds.index,
                "seconds": [f"{part:.1f}" for part in seconds],
                "share": [f"{part / wall:.1%}" for part in seconds],
            }
        ),
        [
            f"{machine.heading(torch.device('cpu'))}; a fresh clone, an empty cache, no stage done.",
            "Everything else: DVC, process starts, imports, hashing, download and preparation of the data, figures.",
        ],
    )


if __name__ == "__main__":
    ending.run(main)
