"""What of a run is not training, evaluation or query: python -m bench.overhead

Runs `dvc repro` in a fresh clone with an empty cache, in the CPU protocol, and compares its wall-clock time
with the seconds that its cycles report.
"""

import os
import re
import subprocess
import tempfile
from argparse import ArgumentParser
from collections import defaultdict
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

from bench import machine
from lab.process import ending
from lab.process.costs import SECONDS

PROTOCOL = "cpu"
STARTS = re.compile("Running stage '([a-z_]+)")


def main() -> None:
    ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        params = clone / "params.yaml"
        params.write_text(re.sub("^protocol:.*", f"protocol: {PROTOCOL}", params.read_text(), flags=re.MULTILINE))
        stages, seconds = measure(clone)
    wall = sum(stages.values())
    stages["cycle"] -= sum(seconds.values())
    rows = {
        **seconds,
        "everything else": wall - sum(seconds.values()),
        **{f"… {stage}": took for stage, took in stages.items()},
        "dvc repro": wall,
    }
    machine.publish(
        "overhead",
        f"Where the time of a run goes, protocol {PROTOCOL}",
        pd.DataFrame(
            {
                "part": rows.keys(),
                "seconds": [f"{part:.1f}" for part in rows.values()],
                "share": [f"{part / wall:.1%}" for part in rows.values()],
            }
        ),
        [
            f"{machine.heading(torch.device('cpu'))}; a fresh clone, an empty cache, no stage done.",
            "A stage's seconds run from its start to that of the next; of cycle those above are taken off.",
        ],
    )


def measure(clone: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Run the chain of a clone. Returns the seconds of each stage, and those of the cycles' parts."""
    costs = clone / "metrics/costs.csv"
    # Runs that were committed have rows there.
    earlier = len(pd.read_csv(costs))
    stages = _run(clone)
    return stages, pd.read_csv(costs)[SECONDS].iloc[earlier:].sum().rename(
        lambda name: name.removesuffix("_seconds")
    ).to_dict()


def _run(clone: Path) -> dict[str, float]:
    """Run the chain. Returns stage to seconds, from its start to that of the next."""
    stages: dict[str, float] = defaultdict(float)
    stage, since = "before the first stage", perf_counter()
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(["dvc", "repro"], cwd=clone, env=unbuffered, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            print(line, end="", flush=True)
            if start := STARTS.match(line):
                now = perf_counter()
                stages[stage] += now - since
                stage, since = start[1], now
    stages[stage] += perf_counter() - since
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return stages


if __name__ == "__main__":
    ending.run(main)
