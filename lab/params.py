"""Read params.yaml as DVC does. A stage names the params it needs and sees no others."""

import os
from pathlib import Path
from types import SimpleNamespace

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import DuplicateKeyError

from lab.errors import BadInput

PARAMS_FILE = Path("params.yaml")
# An environment variable of stages: params.yaml as their run began with it, whatever was done to that file since.
KEPT = "AL_LAB_KEPT_PARAMS"


def parse(text: str, source: object = PARAMS_FILE) -> dict:
    """Read a mapping from YAML 1.2, with the reader that DVC uses: both see the same values.

    Args:
        source: where the text comes from, for the message.

    Raises:
        BadInput: the text is no YAML, is no mapping, or has a key twice.
    """
    try:
        values = YAML(typ="safe").load(text)
    except DuplicateKeyError as error:
        key = error.problem.split('"')[1]
        raise BadInput(f"{source}, line {error.problem_mark.line + 1}: {key} has a value already; remove one") from None
    except (YAMLError, ValueError) as error:
        raise BadInput(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        raise BadInput(f"{source}: holds no keys")
    if not isinstance(values, dict):
        raise BadInput(f"{source} = {values!r}: must be a mapping of keys to values")
    return values


def read(path: Path, name: Path | None = None) -> dict:
    """Read a mapping from a YAML file, as ``parse`` does.

    Args:
        name: what the message calls it, where that is not its path.

    Raises:
        BadInput: the file cannot be read or is refused.
    """
    try:
        return parse(path.read_text(), name or path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{name or path}: cannot be read ({error})") from error


def current() -> dict:
    """The params of the stage at work.

    Raises:
        BadInput: as ``read`` does.
    """
    return read(Path(os.environ.get(KEPT) or PARAMS_FILE), PARAMS_FILE)


def load(**keys: str) -> SimpleNamespace:
    """The named params of params.yaml, each under a name of the stage's own.

    Args:
        keys: name=dotted key. ``{optim}`` in a key stands for the value of the top-level param
            ``optim``, as ``${optim}`` does in dvc.yaml: ``load(optimizer="optimizers.{optim}")``.

    Values are not checked here: the process that runs a stage checks all of them first.
    """
    values = current()

    def look_up(key: str):
        found = values
        for part in key.format(**values).split("."):
            found = found[part]
        return _namespace(found)

    return SimpleNamespace(**{name: look_up(key) for name, key in keys.items()})


def plain(value):
    """A block that ``load`` gave, as it stands in params.yaml."""
    return {key: plain(item) for key, item in vars(value).items()} if isinstance(value, SimpleNamespace) else value


def _namespace(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _namespace(item) for key, item in value.items()})
    return value
