"""The labelled pools of another run, in data/replayed: what the strategy ``replay`` acquires once more."""

from pathlib import Path

from lab.errors import BadInput


def is_asked_by(strategy: str) -> bool:
    """Whether a strategy acquires what another run acquired."""
    return strategy.startswith("replay")


def path_of(cycle: int) -> Path:
    """The pool that a cycle of the other run trained on; without images where nothing is replayed."""
    return Path(f"data/replayed/{cycle}.csv")


def fetch(hashes: list[str]) -> list[bytes]:
    """Files of DVC's cache, or else of its remote. hashes: MD5, as in dvc.lock.

    Raises:
        BadInput: one is in neither.
    """
    # Imported here: it takes a second, and most runs replay nothing.
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo

    repo = Repo()
    cache = repo.cache.local
    try:
        if missing := [HashInfo("md5", name) for name in hashes if not cache.exists(name)]:
            repo.cloud.pull(missing)
    except DvcException as error:
        print(f"warning: {error}")
    for number, name in enumerate(hashes, start=1):
        if not cache.exists(name):
            raise BadInput(
                f"replay.sets[{number}] = {name}: in no cache and no remote; bring the run that is replayed here, "
                "with `dvc exp pull`, or `dvc push` it where it lies"
            )
    return [Path(cache.oid_to_path(name)).read_bytes() for name in hashes]
