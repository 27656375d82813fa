"""Studies: many arms, some seeds. python -m lab.study run | status | cancel | report | anchor STUDY

What only reports and estimates need is imported there: on a cluster's login node PyTorch takes long.
"""

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import timedelta
from math import nan
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tqdm import tqdm

from lab.process import ending as entry
from lab.study import experiments, plan
from lab.study.run import folders, local, slurm
from lab.study.run.states import ArmState, Progress, Stand, survey

if TYPE_CHECKING:
    import pandas as pd


def main() -> None:
    parser = ArgumentParser(prog="python -m lab.study", description="Run studies.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("run", help="run the arms of a study that are not finished")
    command.add_argument("study", type=Path, help="a study file, as studies/cpu/study.yaml")
    launcher = command.add_mutually_exclusive_group()
    launcher.add_argument("--jobs", type=_count, help="arms at once; a GPU each, else a core each, where left out")
    launcher.add_argument("--slurm", type=Path, help="run on a cluster, as studies/clusters/generic.yaml")
    command.add_argument("--dry-run", action="store_true", help="list the arms and what they will cost")
    command.set_defaults(run=_run)
    command = commands.add_parser("status", help="where each arm of a study stands")
    command.add_argument("study", type=Path)
    command.set_defaults(run=_status)
    command = commands.add_parser("cancel", help="cancel all jobs of a study on SLURM; what was trained is kept")
    command.add_argument("study", type=Path)
    command.set_defaults(run=_cancel)
    command = commands.add_parser("report", help="collect the experiments of a study into tables, figures and a page")
    command.add_argument("study", type=Path)
    command.add_argument("--tidy", type=Path, help="draw this table again instead of collecting experiments")
    command.set_defaults(run=_report)
    command = commands.add_parser("anchor", help="compare a study with a public curve; fails beyond a tolerance")
    command.add_argument("study", type=Path)
    command.add_argument("group", help="arms without their seed, as resnet18-sgd")
    command.add_argument("source", help="as in studies/anchors.csv")
    command.add_argument("method", help="as in studies/anchors.csv")
    command.add_argument("--tolerance", type=_points, required=True, help="in points of accuracy")
    command.add_argument("--tidy", type=Path, help="compare this table instead of collecting experiments")
    command.set_defaults(run=_anchor)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _run(arguments: Namespace) -> None:
    study = arguments.study
    arms = plan.read(study, Path("params.yaml").read_text())
    cluster = slurm.read(arguments.slurm) if arguments.slurm else None
    if arguments.dry_run:
        if cluster:
            _print_job(study, arms, cluster)
        else:
            _print_estimate(arms, arguments.jobs or local.default_jobs())
        return
    experiments.identity()
    if cluster and cluster.scratch:
        folders.put_on(study, Path(cluster.scratch))
    revision = experiments.revision_to_run(arms, folders.revision_of(folders.of(study)))
    finished = experiments.finished(arms).get(revision, {})
    print(f"{len(arms)} arms at {revision[:9]}, {len(finished)} of them finished", end="; ")
    if cluster:
        print(f"{cluster.arms_at_once} at once on SLURM", flush=True)
        with folders.in_use(study):
            failed = slurm.run(study, arms, revision, cluster, _Live(study, arms).show)
    else:
        jobs = arguments.jobs or local.default_jobs()
        print(f"{jobs} at once", flush=True)
        waiting = [arm for arm in arms if arm.name not in finished]
        with folders.in_use(study):
            failed = local.run(study, waiting, revision, jobs, _Live(study, waiting, _work_of(waiting)).show)
    if failed:
        reasons = [f"  {name}: {reason}" for name, reason in failed.items()]
        raise entry.BadInput("\n".join([f"{len(failed)} of {len(arms)} arms failed:", *reasons]))
    print(f"{len(arms)} arms are finished: dvc exp show; python -m lab.study report {study}")


def _status(arguments: Namespace) -> None:
    arms = plan.read(arguments.study, Path("params.yaml").read_text())
    work = folders.of(arguments.study)
    found = experiments.finished(arms)
    revision = folders.revision_of(work) or experiments.newest(found or ["HEAD"])
    states = survey(arms, found.get(revision, {}), work, slurm.jobs_of(work, revision))
    width = max(len(arm.name) for arm in arms)
    for arm in arms:
        state = states[arm.name]
        print(f"{arm.name:{width}}  {state.stand:7}  {_cycles(work, arm, state):>8}  {state.detail}".rstrip())
    stands = [state.stand for state in states.values()]
    print(f"at {revision[:9]}: " + ", ".join(f"{stands.count(stand)} {stand}" for stand in Stand))


def _cancel(arguments: Namespace) -> None:
    count = slurm.cancel(folders.of(arguments.study))
    print(f"{count} jobs of {arguments.study} cancelled; `python -m lab.study run` goes on where they were")


def _cycles(work: Path, arm: plan.Arm, state: ArmState) -> str:
    total = len(arm.params["cycles"])
    return f"{total if state.stand == Stand.DONE else folders.cycles_done(work, arm.name)} of {total}"


def _report(arguments: Namespace) -> None:
    from lab.report import study as report

    folder = arguments.study.parent / "results"
    arms = plan.read(arguments.study, Path("params.yaml").read_text())
    report.write(_tidy(arguments, arms), len(arms), folder)
    print(f"{folder / 'report.html'}: opens without internet; tables and figures beside it")


def _anchor(arguments: Namespace) -> None:
    from lab.report import anchors

    table = _tidy(arguments, plan.read(arguments.study, Path("params.yaml").read_text()))
    found = anchors.compare(table, arguments.group, anchors.read(), arguments.source, arguments.method)
    shares = ["measured", "deviation", "anchor", "difference"]
    print(found.assign(**(found[shares] * 100).round(1)).to_string(index=False, na_rep="–"))
    worst = found["difference"].abs().max() * 100
    if worst > arguments.tolerance:
        raise entry.BadInput(f"{worst:.1f} points apart, more than the tolerance of {arguments.tolerance:g}")
    print(f"at most {worst:.1f} points apart, within the tolerance of {arguments.tolerance:g}")


def _tidy(arguments: Namespace, arms: list[plan.Arm]) -> "pd.DataFrame":
    from lab.study import table as tidy

    if arguments.tidy:
        return tidy.read(arguments.tidy)
    found = experiments.finished(arms)
    if not found:
        raise entry.BadInput(f"no arm of {arguments.study} is finished: run it first, python -m lab.study run STUDY")
    revision = experiments.newest(found)
    return tidy.collect(arms, found[revision], revision)


def _work_of(arms: list[plan.Arm]) -> dict[str, list[int]]:
    """Floating-point operations of each cycle of each arm."""
    from lab.study import estimate

    return {arm.name: estimate.operations_of(arm) for arm in arms}


class _Live:
    """A live line on a terminal, else a line whenever an arm starts or ends.

    Args:
        work: operations of each cycle of each arm; without them no time is estimated.
    """

    def __init__(self, study: Path, arms: list[plan.Arm], work: dict[str, list[int]] | None = None) -> None:
        self.folder = folders.of(study)
        self.work = work or {arm.name: [0] * len(arm.params["cycles"]) for arm in arms}
        self.total = sum(map(sum, self.work.values()))
        self.begun = monotonic()
        self.before = None
        self.last = None
        self.line = tqdm(bar_format="{desc}", leave=False) if sys.stderr.isatty() else None

    def show(self, state: Progress) -> None:
        counts = (len(state.done), len(state.running), len(state.failed))
        waiting = len(self.work) - sum(counts)
        cycles = {arm.name: folders.cycles_done(self.folder, arm.name) for arm in state.running}
        text = "{} done, {} running, {} failed, {} waiting".format(*counts, waiting)
        done = sum(sum(self.work[arm.name]) for arm in state.done)
        done += sum(sum(self.work[name][:count]) for name, count in cycles.items())
        given_up = sum(sum(self.work[name]) for name in state.failed)
        elapsed = monotonic() - self.begun
        # What was there at the start took no time of this run.
        self.before = done if self.before is None else self.before
        if done > self.before:
            left = elapsed * (self.total - given_up - done) / (done - self.before)
            text += f"; {_time(elapsed)} gone, about {_time(left)} left"
        if state.running:
            text += "; cycles done: " + ", ".join(f"{name} {count}" for name, count in cycles.items())
        if self.line is not None:
            self.line.set_description_str(text)
            if not state.running and not waiting:
                self.line.close()
        elif counts != self.last:
            print(text, flush=True)
        self.last = counts


def _print_job(study: Path, arms: list[plan.Arm], cluster: slurm.Settings) -> None:
    print("\n".join([f"{len(arms)} arms:", *(f"  {arm.name}" for arm in arms)]))
    print("behind a job like theirs for what the arms of a seed share, which computes no cycle:")
    work, name = folders.of(study), f"{folders.of(study).name}-arms"
    print(shlex.join(slurm.command(cluster, name, work, len(arms), "THAT_JOB")))
    print(slurm.script(cluster, work / "submissions" / f"{name}.json"), end="")


def _print_estimate(arms: list[plan.Arm], jobs: int) -> None:
    import pandas as pd
    import torch

    from lab.study import estimate

    torch.set_num_threads(int(local.environment_of(0, jobs)["OMP_NUM_THREADS"].split(",")[0]))
    rows = [("arm", "labels", "images trained on", "images scored", "hours")]
    hours = []
    for arm in arms:
        passes = estimate.passes_of(arm)
        hours.append(sum(estimate.seconds_of(arm)) / 3600)
        trained, forward = (f"{sum(counts):,}" for counts in zip(*passes, strict=True))
        rows.append((arm.name, f"{estimate.labels_of(arm)[-1]:,}", trained, forward, f"{hours[-1]:.2f}"))
    rows.append(("all", "", "", "", f"{sum(hours):.2f}"))
    print(pd.DataFrame(rows[1:], columns=rows[0]).to_string(index=False))
    print(f"{jobs} at once: about {max(sum(hours) / jobs, max(hours)):.1f} hours, beside DVC's own work")


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _points(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 <= number <= 100:
        raise ArgumentTypeError(f"{text}: must be a number of points, 0 to 100")
    return number


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text}: must be a whole number from 1")
    return number


if __name__ == "__main__":
    entry.run(main)
