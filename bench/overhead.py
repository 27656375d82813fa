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

PARTS = {"training_seconds": "training", "evaluation_seconds": "evaluation", "query_seconds": "query"}
STARTS = re.compile("Running stage '([a-z_]+)")
# Of stages that train nothing: what a user calls their work.
OTHERS = {
    "check": "checks of the params",
    "download": "unpacking the archive of the data",
    "prepare": "preparing the data",
    "plot": "figures",
}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", default="cpu")
    protocol = parser.parse_args().protocol
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        params = clone / "params.yaml"
        params.write_text(re.sub("^protocol:.*", f"protocol: {protocol}", params.read_text(), flags=re.MULTILINE))
        costs = clone / "metrics/costs.csv"
        # Runs that were committed have rows there.
        earlier = len(pd.read_csv(costs))
        started = perf_counter()
        stages = _run(clone)
        wall = perf_counter() - started
        seconds = pd.read_csv(costs)[list(PARTS)].iloc[earlier:].sum().set_axis(PARTS.values())
    stages["cycle"] -= seconds.sum()
    named = {"DVC before the first stage": stages.pop("")}
    cycles = stages.pop("cycle")
    named |= {what: stages.pop(stage) for stage, what in OTHERS.items()}
    named |= {"starting, hashing and saving the cycles": cycles, "other stages": sum(stages.values())}
    rows = {
        **seconds,
        "everything else": wall - seconds.sum(),
        **{f"… {n}": s for n, s in named.items()},
        "dvc repro": wall,
    }
    machine.publish(
        "overhead",
        f"Where the time of a run goes, protocol {protocol}",
        pd.DataFrame(
            {
                "part": rows.keys(),
                "seconds": [f"{part:.1f}" for part in rows.values()],
                "share": [f"{part / wall:.1%}" for part in rows.values()],
            }
        ),
        [f"{machine.heading(torch.device('cpu'))}; a fresh clone, an empty cache, no stage done."],
    )


def _run(clone: Path) -> dict[str, float]:
    """Run the chain. Returns stage to seconds, from its start to that of the next; "" for those before the first."""
    stages: dict[str, float] = defaultdict(float)
    stage, since = "", perf_counter()
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
