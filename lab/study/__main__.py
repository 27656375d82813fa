"""Studies: many arms, several seeds.

python -m lab.study run | tune | status | cancel | pack | unpack | report | anchor STUDY

Reports and estimates import their libraries when they are called: PyTorch takes long on a cluster's login node.
"""

import shlex
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from lab import params
from lab.errors import BadInput
from lab.params import PARAMS_FILE
from lab.process import ending
from lab.study import experiments, plan
from lab.study.run import cluster, folders, local, processes, slurm
from lab.study.run.display import Display
from lab.study.run.states import ArmState, Status, survey

if TYPE_CHECKING:
    import pandas as pd

    from lab.study import choice

DIVERGED = "training diverged"
TIME_OVER = 124  # as `timeout` exits
# The share of the time that is kept for stopping, which takes SECONDS_TO_STOP at most.
TO_STOP = 0.1


def main() -> None:
    parser = ArgumentParser(prog="python -m lab.study", description="Run studies.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Namespace], None], does: str) -> ArgumentParser:
        command = commands.add_parser(name, help=does)
        command.add_argument("study", type=_study, help="a study file, as studies/digits/study.yaml, or a search's")
        command.set_defaults(run=run)
        return command

    _add_launchers(add("run", _run, "run those arms of a study that are not finished"))
    _add_launchers(add("tune", _tune, "search settings of optimizers: run trials, and write what they chose"))
    add("status", _status, "show the status of each arm")
    add("cancel", _cancel, "cancel all jobs of a study on SLURM; checkpoints are kept")
    pack = add("pack", _pack, "write what is finished as one file, to go on in a clone elsewhere")
    pack.add_argument("--out", type=Path, required=True, help="the file to write (.tar.xz)")
    unpack = add("unpack", _unpack, "take over what was finished elsewhere; then run the study")
    unpack.add_argument("file", type=Path, help="what `pack` wrote")
    report = add("report", _report, "collect the experiments of a study into tables, figures and a page")
    anchor = add("anchor", _anchor, "compare a study with a public curve, and fail beyond a tolerance")
    anchor.add_argument("group", help="an arm's name without its seed, as in resnet18-sgd")
    anchor.add_argument("source", help="as in studies/anchors.csv")
    anchor.add_argument("method", help="as in studies/anchors.csv")
    anchor.add_argument("--tolerance", type=_points, required=True, help="in points of accuracy")
    for command in (report, anchor):
        command.add_argument("--tidy", type=Path, help="a table to use instead of the experiments")
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except local.TimeOver:
        print(f"{arguments.minutes:g} minutes are over; finished cycles and checkpoints are kept:", flush=True)
        _status(arguments)
        sys.exit(TIME_OVER)


def _add_launchers(command: ArgumentParser) -> None:
    launcher = command.add_mutually_exclusive_group()
    launcher.add_argument("--jobs", type=_count, help="arms at once (default: one for each GPU, or core)")
    launcher.add_argument("--slurm", type=Path, help="run on a cluster, as in studies/clusters/generic.yaml")
    command.add_argument("--minutes", type=_minutes, default=inf, help="stop within this time, with status 124")
    command.add_argument("--dry-run", action="store_true", help="list the arms and what they will cost")


def _run(arguments: Namespace) -> None:
    """Run the arms of a study.

    Raises:
        BadInput: arms failed; the message lists them.
    """
    failed = _run_arms(arguments)
    if failed is None:
        return
    count = len(_arms(arguments.study))
    if failed:
        reasons = [f"  {name}: {reason}" for name, reason in failed.items()]
        raise BadInput("\n".join([f"{len(failed)} of {count} arms failed:", *reasons]))
    study = arguments.study
    print(f"{count} of {count} arms are finished: see `dvc exp show`, or `python -m lab.study report {study}`")


def _tune(arguments: Namespace) -> None:
    """Run the trials of a search, report them, and write the chosen settings into params.yaml.

    Raises:
        BadInput: it is no search, a trial failed other than by divergence, or a best setting lies at an edge.
    """
    from lab.study import choice, search

    search.read(arguments.study)
    failed = _run_arms(arguments)
    if failed is None:
        return
    if others := {name: reason for name, reason in failed.items() if DIVERGED not in reason}:
        reasons = [f"  {name}: {reason}" for name, reason in others.items()]
        raise BadInput("\n".join([f"{len(others)} trials failed:", *reasons]))
    table = _report_search(arguments, _arms(arguments.study))
    choice.check_edges(table)
    names = choice.write_blocks(choice.best_of(table))
    print(f"{PARAMS_FILE}: has {', '.join(names)} now; commit it, and compare them by optim: [{', '.join(names)}]")


def _run_arms(arguments: Namespace) -> dict[str, str] | None:
    """Run those arms that are not finished. Returns the failed ones, name to reason; None after a dry run.

    Raises:
        TimeOver: not all of them are finished in the time that is given.
    """
    begun, study = time.monotonic(), arguments.study
    if arguments.slurm and arguments.minutes < inf:
        raise BadInput(f"--minutes: SLURM stops arms in time by itself, by time_limit in {arguments.slurm}")
    arms = _arms(study)
    settings = cluster.read(arguments.slurm) if arguments.slurm else None
    if arguments.dry_run:
        _warn_of_changes(arms)
        if settings:
            _print_job(study, arms, settings)
        else:
            from lab.study import forecast

            forecast.show(arms, arguments.jobs or local.default_jobs())
        return None
    experiments.identity()
    if settings and settings.scratch:
        folders.link_to_disk(study, Path(settings.scratch))
    revision = experiments.revision_to_run(arms, folders.revision_of(folders.of(study)))
    computed = experiments.finished(arms, revision)
    kept = _kept_names(study, arms, revision, computed)
    finished = {*computed, *kept}
    print(f"{len(arms)} arms at {revision[:9]}, {len(finished)} of them finished", end="; ")
    arms = [arm for arm in arms if arm.name not in kept]
    if settings:
        print(f"{settings.arms_at_once} at once on SLURM", flush=True)
        with folders.in_use(study):
            return slurm.run(study, arms, revision, settings, Display(study, arms).show)
    else:
        from lab.study import estimate

        jobs = arguments.jobs or local.default_jobs()
        print(f"{jobs} at once", flush=True)
        waiting = [arm for arm in arms if arm.name not in finished]
        operations = {arm.name: estimate.operations_of(arm) for arm in waiting}
        seconds = 60 * arguments.minutes
        ends = begun + seconds - min(TO_STOP * seconds, processes.SECONDS_TO_STOP)
        with folders.in_use(study):
            return local.run(study, waiting, revision, jobs, Display(study, waiting, operations).show, ends)


def _warn_of_changes(arms: list[plan.Arm]) -> None:
    """Warn of what is not committed, which the estimate counts and a run refuses."""
    if files := experiments.uncommitted(arms):
        print(
            f"warning: the estimate counts what is not committed, and a run would refuse: {files}",
            file=sys.stderr,
            flush=True,
        )


def _arms(study: Path) -> list[plan.Arm]:
    try:
        text = PARAMS_FILE.read_text()
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}; run studies in the repository's folder") from error
    return plan.read(study, text)


def _pack(arguments: Namespace) -> None:
    from lab.study import pack

    study, arms = arguments.study, _arms(arguments.study)
    with folders.in_use(study):
        print(pack.write(study, arms, _revision_of(study, arms), arguments.out))


def _unpack(arguments: Namespace) -> None:
    from lab.study import unpack

    study, arms = arguments.study, _arms(arguments.study)
    pack = unpack.read(arguments.file, study, arms)
    with folders.in_use(study):
        print(unpack.take_over(pack, study, arms))


def _revision_of(study: Path, arms: list[plan.Arm]) -> str:
    """The revision that a study ran at."""
    return folders.revision_of(folders.of(study)) or experiments.newest(_revisions(arms) or ["HEAD"])


def _status(arguments: Namespace) -> None:
    arms = _arms(arguments.study)
    folder = folders.of(arguments.study)
    revision = _revision_of(arguments.study, arms)
    computed = experiments.finished(arms, revision)
    finished = {*computed, *_kept_names(arguments.study, arms, revision, computed)}
    states = survey(arms, finished, folder, slurm.jobs_of(folder, revision))
    width = max(len(arm.name) for arm in arms)
    for arm in arms:
        state = states[arm.name]
        print(f"{arm.name:{width}}  {state.status:7}  {_cycles(folder, arm, state):>8}  {state.detail}".rstrip())
    statuses = [state.status for state in states.values()]
    print(f"at {revision[:9]}: " + ", ".join(f"{statuses.count(status)} {status}" for status in Status))


def _cancel(arguments: Namespace) -> None:
    count = slurm.cancel(folders.of(arguments.study))
    print(f"{count} jobs of {arguments.study} cancelled; run the study again to resume them")


def _cycles(folder: Path, arm: plan.Arm, state: ArmState) -> str:
    total = len(arm.params["cycles"])
    done = total if state.status == Status.DONE else len(folders.cycles_of(folder, arm.name))
    return f"{done} of {total}"


def _report(arguments: Namespace) -> None:
    from lab.study import search

    arms = _arms(arguments.study)
    if search.is_one(arguments.study):
        _report_search(arguments, arms)
        return
    from lab.report import page as report
    from lab.study import analysis as study_analysis
    from lab.study import choice, overlap
    from lab.study.stated import when

    folder = folders.results_of(arguments.study)
    tidy = _tidy(arguments, arms)
    analysis, stated = study_analysis.read(arguments.study), None
    if analysis:
        revisions = {*tidy["revision"], *([] if arguments.tidy else _revisions(arms))}
        stated = report.Stated(analysis, when(arguments.study, revisions))
    if arguments.tidy:
        overlaps = overlap.read(arguments.tidy.parent)
    else:
        finished = experiments.finished(arms, experiments.newest(_revisions(arms) or ["HEAD"]))
        overlaps = overlap.collect(arms, finished, tidy, folder)
    account = choice.account(arms, _searched(arguments.study))
    measure = params.read(arguments.study).get("measure", study_analysis.ACCURACY)
    report.write(tidy, len(arms), folder, stated, overlaps, account, measure)
    print(f"{folder / 'report.html'}: opens without internet; tables and figures are in the same folder")


def _searched(study: Path) -> "choice.Searched | None":
    """What the search chose that a study names; None where it names none.

    Raises:
        BadInput: the search has no results.
    """
    from lab.study import choice, search
    from lab.study import table as tidy

    path = plan.search_of(study)
    if path is None:
        return None
    results = folders.results_of(path) / "tidy.csv"
    if not results.exists():
        raise BadInput(f"{study}: search = {path}: it has no {results}; run it first: python -m lab.study tune {path}")
    return choice.Searched(search.read(path), choice.best_of(choice.trials(_arms(path), tidy.read(results))))


def _report_search(arguments: Namespace, arms: list[plan.Arm]) -> "pd.DataFrame":
    """Write what the trials of a search reached so far. Returns a row a trial."""
    from lab.report import search as report
    from lab.study import choice, search

    tidy, folder = _tidy(arguments, arms), folders.results_of(arguments.study)
    table = choice.trials(arms, tidy)
    report.write(tidy, table, choice.best_of(table), search.read(arguments.study).cost, folder)
    print(f"{folder / 'search.md'}: every setting; a picture is beside it")
    return table


def _anchor(arguments: Namespace) -> None:
    from lab.report import anchors

    table = _tidy(arguments, _arms(arguments.study))
    found = anchors.compare(table, arguments.group, anchors.read(), arguments.source, arguments.method)
    shares = ["measured", "deviation", "anchor", "difference"]
    print(found.assign(**(found[shares] * 100).round(1)).to_string(index=False, na_rep="–"))
    worst = found["difference"].abs().max() * 100
    if worst > arguments.tolerance:
        raise BadInput(f"{worst:.1f} points apart, more than the tolerance of {arguments.tolerance:g}")
    print(f"at most {worst:.1f} points apart, within the tolerance of {arguments.tolerance:g}")


def _tidy(arguments: Namespace, arms: list[plan.Arm]) -> "pd.DataFrame":
    from lab.study import table as tidy

    if getattr(arguments, "tidy", None):
        return tidy.read(arguments.tidy)
    revisions = _revisions(arms)
    revision = experiments.newest(revisions or ["HEAD"])
    found = experiments.finished(arms, revision)
    kept = tidy.kept(folders.results_of(arguments.study), arms, revision, found)
    if not found and kept.empty:
        raise BadInput(
            f"no arm of {arguments.study} is finished; run it first: python -m lab.study run {arguments.study}"
        )
    return tidy.collect(arms, found, kept)


def _kept_names(study: Path, arms: list[plan.Arm], revision: str, computed: dict[str, str]) -> set[str]:
    """Arms whose rows stand in the study's own table: they need no experiment, whose machine may be gone.

    Args:
        computed: arms that have one, name → commit.
    """
    if not (folders.results_of(study) / "tidy.csv").exists():
        return set()
    from lab.study import table as tidy

    kept = set(tidy.kept(folders.results_of(study), arms, revision, computed)["arm"])
    # A row has no labelled sets: an arm that another is still to replay is needed as an experiment.
    return kept - {arm.chosen_by for arm in arms if arm.name not in {*kept, *computed}}


def _revisions(arms: list[plan.Arm]) -> list[str]:
    """The revisions that finished arms ran at."""
    return [experiment.revision for experiment in experiments.experiments_of(arms)]


def _print_job(study: Path, arms: list[plan.Arm], settings: cluster.Settings) -> None:
    print("\n".join([f"{len(arms)} arms:", *(f"  {arm.name}" for arm in arms)]))
    print("after a job that prepares their data and first labelled sets (PREPARING), they are submitted by:")
    folder, name = folders.of(study), f"{folders.of(study).name}-arms"
    print(shlex.join(slurm.command(settings, name, folder, len(arms), "PREPARING")))
    print("with this script:")
    print(slurm.script(settings, folder / "submissions" / f"{name}.json"), end="")


def _study(text: str) -> Path:
    return folders.in_repository(Path(text)) or Path(text)


def _points(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (number := float(text)) <= 100:
            return number
    raise ArgumentTypeError(f"{text}: must be a number of points, 0 to 100")


def _minutes(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < inf:
            return number
    raise ArgumentTypeError(f"{text}: must be a number of minutes, more than 0")


def _count(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise ArgumentTypeError(f"{text}: must be a whole number from 1")


if __name__ == "__main__":
    ending.run(main)
