"""Where the seconds of a cycle go: python -m bench.profile [--protocol cpu] [--epochs 5]

Runs the first cycle of a fresh clone, of few epochs, under PyTorch's profiler. Prints the parts of the cycle, then the
operators that take longest. Seconds of a profiled run are longer than usual; their shares tell.
"""

import os
import subprocess
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

from torch.profiler import ProfilerActivity, profile

from bench import machine
from lab.process import ending, memory, variables
from lab.process.costs import SECONDS
from lab.process.stage import StageHost
from lab.training import device as devices
from stages import cycle

OPERATORS = 15


def main() -> None:
    parser = ArgumentParser(description="Where the seconds of a cycle go.")
    parser.add_argument("--protocol", default="cpu")
    parser.add_argument("--epochs", type=int, default=5, help="of its one cycle; with demo 3 or more")
    arguments = parser.parse_args()
    settings = [f"protocol={arguments.protocol}", "cycles=[[0,1]]"]
    settings.append(f"protocols.{arguments.protocol}.training.epochs={arguments.epochs}")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        options = [word for setting in settings for word in ("-S", setting)]
        subprocess.run(["dvc", "exp", "run", "--quiet", *options, "replay"], cwd=clone, check=True)
        os.chdir(clone)
        _profile()
        os.chdir("/")


def _profile() -> None:
    memory.keep_freed()
    device, host = devices.choose(), StageHost(variables.scratch_folder())
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    begun = perf_counter()
    with profile(activities=activities) as profiler:
        cycle.main(host, "0")
        machine.synchronise(device)
    wall = perf_counter() - begun
    seconds = {name.removesuffix("_seconds"): host.costs[name] for name in SECONDS}
    print(f"\n{machine.heading(device)}; the first cycle alone, of few epochs\n")
    for name, part in {**seconds, "everything else": wall - sum(seconds.values())}.items():
        print(f"{name:16} {part:8.1f} s  {part / wall:5.1%}")
    key = f"self_{device.type if device.type == 'cuda' else 'cpu'}_time_total"
    print(profiler.key_averages().table(sort_by=key, row_limit=OPERATORS, max_name_column_width=40))


if __name__ == "__main__":
    ending.run(main)
