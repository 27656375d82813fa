"""Print what replays a run: dvc exp run $(python -m lab.replay RUN)  (an experiment or a commit)"""

from argparse import ArgumentParser

from lab import choices, params
from lab.data import labelled
from lab.errors import BadInput
from lab.process import ending
from lab.study.experiments import git, reference

TRAINS_MODULE = {True: "replay", False: "replay_without_module"}


def settings_of(commit: str) -> dict[str, object]:
    """The params that make a run acquire what the run of a commit acquired, and train the module as it did.

    Raises:
        BadInput: the commit has no finished run.
    """
    values = params.parse(git("show", f"{commit}:{params.PARAMS_FILE}"))
    stages = params.parse(git("show", f"{commit}:dvc.lock") or "{}", f"dvc.lock of {commit}").get("stages", {})
    hashes = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    paths = [labelled.path_of(cycle).as_posix() for cycle in range(len(values["cycles"]) + 1)]
    if missing := [path for path in paths if path not in hashes]:
        raise BadInput(f"{commit}: its dvc.lock has no {missing[0]}; name a run that is finished")
    source = values["strategy"]
    if source in TRAINS_MODULE.values():
        source = values["replay"]["strategy"]
    strategy = TRAINS_MODULE[choices.load("query/strategies", source).TRAINS_MODULE]
    sets = [hashes[path] for path in paths]
    return {"strategy": strategy, "replay": {"dataset": values["dataset"], "strategy": source, "sets": sets}}


def commit_of(name: str) -> str:
    """The commit of an experiment, one that began from HEAD before any other; or of anything else that Git knows.

    Raises:
        BadInput: there is no such name, or several experiments have it.
    """
    here = git("rev-parse", "HEAD")
    for refs in (reference(name, here), f"refs/exps/*/*/{name}"):
        if found := git("for-each-ref", refs, "--format=%(objectname)").split():
            break
    if len(found) > 1:
        raise BadInput(
            f"{name}: {len(found)} experiments have this name; name a commit, as `git for-each-ref` lists them"
        )
    if found:
        return found[0]
    try:
        return git("rev-parse", "--verify", f"{name}^{{commit}}")
    except BadInput:
        raise BadInput(f"{name}: no experiment or commit has this name; `dvc exp list` shows the experiments") from None


def main() -> None:
    parser = ArgumentParser(description="Print the settings of `dvc exp run` that replay a run.")
    parser.add_argument("run", help="an experiment, or a commit")
    run = parser.parse_args().run
    try:
        found = settings_of(commit_of(run))
    except BadInput:
        print("--nothing-to-replay")  # which `dvc exp run` refuses, instead of running without
        raise
    block = found["replay"]
    assert isinstance(block, dict)
    sets = ",".join(f"'{name}'" for name in block["sets"])
    print(f"-S strategy={found['strategy']}")
    print(f"-S replay={{dataset:{block['dataset']},strategy:{block['strategy']},sets:[{sets}]}}")


if __name__ == "__main__":
    ending.run(main)
