"""Read params.yaml: a stage names the keys it needs and sees no others."""

import re
from pathlib import Path
from types import SimpleNamespace

import yaml

from lab.process.ending import BadInput

PARAMS_FILE = Path("params.yaml")


class Yaml12Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with the floats of YAML 1.2.

    DVC writes YAML 1.2, where ``5e-05`` is a number; YAML 1.1 asks for a dot and reads a string.
    """


Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse(text: str) -> dict:
    """The mapping that a params.yaml holds.

    Raises:
        BadInput: the text is not YAML, or not a mapping.
    """
    try:
        values = yaml.load(text, Loader=Yaml12Loader)
    except yaml.YAMLError as error:
        raise BadInput(f"{PARAMS_FILE} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{PARAMS_FILE} must be a mapping of keys to values, not {values!r}")
    return values


def load(**keys: str) -> SimpleNamespace:
    """The named params, each under a name of the stage's own.

    Args:
        keys: name=dotted key. ``{optim}`` in a key stands for the value of the top-level param
            ``optim``, as ``${optim}`` does in dvc.yaml: ``load(optimizer="optimizers.{optim}")``.

    Values are not checked here: ``lab.process.check`` runs before every stage.
    """
    values = parse(PARAMS_FILE.read_text())

    def look_up(key: str):
        found = values
        for part in key.format(**values).split("."):
            found = found[part]
        return _namespace(found)

    return SimpleNamespace(**{name: look_up(key) for name, key in keys.items()})


def _namespace(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{key: _namespace(item) for key, item in value.items()})
    return value
