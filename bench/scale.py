"""What grows with a study, a pool and a cache: python -m bench.scale

Measures in an empty repository of its own what a far larger study would meet first: references of Git, the
run-cache on its way to a remote, hashing.
"""

import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

from bench import machine
from lab.process import ending
from lab.study import experiments
from lab.study.arms import Arm

EXPERIMENTS, RUNS, FILES, FILE_SIZE, LARGE = 10_000, 1_000, 10_000, 3_072, 2**30


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        begin()
        rows = [*_references(), *_run_cache(), *_hashing()]
    machine.publish(
        "scale",
        "What grows with a study, a pool and a cache",
        pd.DataFrame(rows, columns=["what", "how many", "seconds"]),
        [
            f"{machine.heading(torch.device('cpu'))}; on a local disk.",
            "Once each, on an empty repository; the remote is a folder, so that no network counts.",
        ],
    )


def begin() -> None:
    """Make the empty folder a repository."""
    _call("git init --quiet . && dvc init --quiet && echo {} > params.yaml && echo 'stages: {}' > dvc.yaml")
    _call("git add --all && git -c user.name=bench -c user.email=bench@example.org commit --quiet -m start")


def _references() -> Iterator[tuple[str, str, str]]:
    commit = experiments.git("rev-parse", "HEAD")
    names = [f"arm-{number}" for number in range(EXPERIMENTS)]
    # A commit of its own for each, as a run has.
    stream = "".join(
        f"commit {experiments.reference(name, commit)}\ncommitter bench <bench@example.org> {number} +0000\ndata 0\n"
        f"from {commit}\n\n"
        for number, name in enumerate(names)
    )
    subprocess.run(["git", "fast-import", "--quiet"], input=stream, text=True, check=True)
    arms = [Arm(name, name, 0, {}, {}) for name in names]
    yield (
        "experiments found and their params compared, as by `study status`",
        *_timed(EXPERIMENTS, lambda: experiments.finished(arms, commit)),
    )
    _call("git clone --quiet . clone && git -C clone update-ref refs/exps/new HEAD")
    yield (
        "one experiment pushed to a repository of that many",
        *_timed(EXPERIMENTS, lambda: _call("git -C clone push --quiet origin refs/exps/new")),
    )


def _run_cache() -> Iterator[tuple[str, str, str]]:
    for _ in range(RUNS):
        key = secrets.token_hex(32)
        run = Path(".dvc/cache/runs") / key[:2] / key / secrets.token_hex(32)
        run.parent.mkdir(parents=True)
        run.write_text("cmd: none\n")
    _call("dvc remote add --quiet --default store store")
    yield "stages in the run-cache, pushed for the first time", *_timed(RUNS, lambda: _call("dvc push -q --run-cache"))
    yield "the same with nothing new", *_timed(RUNS, lambda: _call("dvc push -q --run-cache"))


def _hashing() -> Iterator[tuple[str, str, str]]:
    Path("small").mkdir()
    for number in range(FILES):
        (Path("small") / str(number)).write_bytes(os.urandom(FILE_SIZE))
    _call(f"head -c {LARGE} /dev/urandom > large")
    yield "files of 3 KB in a folder, hashed into the cache", *_timed(FILES, lambda: _call("dvc add --quiet small"))
    yield "bytes in one file, hashed into the cache", *_timed(LARGE, lambda: _call("dvc add --quiet large"))


def _timed(count: int, work: Callable[[], object]) -> tuple[str, str]:
    begun = perf_counter()
    work()
    return f"{count:,}", f"{perf_counter() - begun:.1f}"


def _call(command: str) -> None:
    subprocess.run(command, shell=True, check=True)


if __name__ == "__main__":
    ending.run(main)
