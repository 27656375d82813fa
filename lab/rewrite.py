"""Change values of params.yaml and leave the rest of the file as somebody wrote it: comments, quotes, nulls."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from lab.data.files import write_text
from lab.params import PARAMS_FILE


class _Writer(RoundTripRepresenter):
    """Writes null as ``null``, where the library leaves an empty place."""


_Writer.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null"))


@contextmanager
def rewritten(path: Path = PARAMS_FILE) -> Iterator[Any]:
    """The file's values, which are written when the block ends."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.Representer = _Writer
    values = yaml.load(path.read_text())
    yield values
    text = io.StringIO()
    yaml.dump(values, text)
    write_text(path, text.getvalue())


def in_a_line(values: list[int]) -> CommentedSeq:
    """A list that is written as ``[0, 1]``."""
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence
