"""The settings of a cluster, read from a file such as studies/clusters/generic.yaml."""

import getpass
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from lab import params
from lab.errors import BadInput
from lab.process.schema import Block, Count, validate

# Options of sbatch that are set by keys of the file, and those that are set here.
KEYS = {
    "partition": "partition",
    "account": "account",
    "gpus": "gpus",
    "gres": "gres",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "time": "time_limit",
    "signal": "warning_seconds",
}
RESERVED = [
    *("array", "chdir", "dependency", "job-name", "nodes", "no-requeue", "ntasks", "open-mode", "output", "parsable"),
    *("requeue", "test-only", "wait", "wrap"),
]


def _form(pattern: str, words: str) -> AfterValidator:
    """Refuses a text of another form. words: the form it must have."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("form", words)
        return value

    return AfterValidator(check)


def _has_no_key(option: str) -> str:
    # sbatch understands the beginning of an option too.
    name = option[2:].partition("=")[0]
    for other in [*KEYS, *RESERVED]:
        if other.startswith(name):
            instead = f"set {KEYS[other]} instead" if other in KEYS else "leave it out, the launcher needs it"
            raise PydanticCustomError("option", f"stands for --{other}: {instead}")
    return option


def _expand(path: str) -> str:
    # Not every shell exports USER.
    named = re.sub(r"\$USER\b|\$\{USER\}", getpass.getuser(), path)
    expanded = os.path.expandvars(os.path.expanduser(named))
    if not os.path.isabs(expanded) or "$" in expanded:
        raise PydanticCustomError("path", "must be an absolute path, in which all variables are set")
    return expanded


Name = Annotated[str, _form(r"[^\x00-\x20\x7f]+", "must be one word")]
Line = _form(r"[^\x00-\x1f\x7f]*[^\x00-\x20\x7f]", "must be one line of text")
Size = Annotated[str, _form("[0-9]{1,9}[KMGT]?", "must be a number of megabytes, or a number with K, M, G or T: 16G")]
Time = Annotated[
    str,
    _form(
        "([0-9]{1,6}-)?[0-9]{1,6}(:[0-9]{1,6}){0,2}",
        "must be minutes, hours:minutes:seconds or days-hours:minutes:seconds",
    ),
]
Shell = Annotated[str, Line, _form("/.+", "must be the path of a shell, as /bin/bash")]
# A comment or a backslash would swallow the `&&` that follows in the script.
Command = Annotated[
    str, Line, _form(r"(?!.*(^|\s)#).*[^\\]", "must be a command without a comment or a last backslash")
]
Option = Annotated[str, Line, _form("--[a-z][a-z-]+(=.*)?", "must be as --qos=long"), AfterValidator(_has_no_key)]


class Settings(Block):
    """A cluster. studies/clusters/generic.yaml explains each setting."""

    partition: Name | None = None
    account: Name | None = None
    gpus: Count | None = None
    gres: Name | None = None
    cpus: Count
    memory: Size
    time_limit: Time
    warning_seconds: Annotated[int, Field(ge=1, le=65_535)] = 300
    arms_at_once: Count
    shell: Shell = "/bin/bash"
    setup: list[Command] = Field(default_factory=list)
    options: list[Option] = Field(default_factory=list)
    scratch: Annotated[str, Line, AfterValidator(_expand)] | None = None

    @model_validator(mode="after")
    def _asks_once(self) -> "Settings":
        if self.gpus and self.gres:
            raise ValueError(f"gres = {self.gres!r}: gpus = {self.gpus} asks for GPUs too: remove one of them")
        return self

    @model_validator(mode="after")
    def _warns_within_the_limit(self) -> "Settings":
        limit = _seconds(self.time_limit)
        # SLURM takes 0 for no limit.
        if 0 < limit <= self.warning_seconds:
            raise ValueError(
                f"warning_seconds = {self.warning_seconds}: must be less than time_limit, which is {limit} seconds"
            )
        return self


def _seconds(time_limit: str) -> int:
    days, _, rest = time_limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not days and len(parts) < 3:
        parts.insert(0, 0)
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def read(path: Path) -> Settings:
    """Read the settings of a cluster.

    Raises:
        BadInput: the file is refused: one line a fault.
    """
    try:
        values = params.read(path)
    except BadInput as error:
        # The key that is there twice may be one that breaks the line.
        raise BadInput(" ".join(str(error).splitlines())) from None
    try:
        return validate(Settings, values)
    except ValueError as error:
        raise BadInput("\n".join(f"{path}: {fault}" for fault in str(error).splitlines())) from None
