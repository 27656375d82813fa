"""Print what replays a run: dvc exp run $(python -m lab.replay RUN)  (an experiment or a commit)"""

from argparse import ArgumentParser
from typing import Any

from lab import choices
from lab.errors import BadInput
from lab.process import ending
from lab.process.check import FILES
from lab.study.experiments import git, reference, replay_of


def settings_of(commit: str) -> dict[str, Any]:
    """The params that make a run acquire what the run of a commit acquired, and train the module as it did.

    Raises:
        BadInput: the commit has no finished run.
    """
    replay = replay_of(commit)
    trains_module = choices.load(FILES["strategy"], replay["strategy"]).TRAINS_MODULE
    return {"strategy": "replay" if trains_module else "replay_without_module", "replay": replay}


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
        settings = settings_of(commit_of(run))
    except BadInput:
        print("--nothing-to-replay")  # which `dvc exp run` refuses, instead of running without
        raise
    replay = settings["replay"]
    sets = ",".join(f"'{name}'" for name in replay["sets"])
    print(f"-S strategy={settings['strategy']}")
    print(f"-S replay={{dataset:{replay['dataset']},strategy:{replay['strategy']},sets:[{sets}]}}")


if __name__ == "__main__":
    ending.run(main)
