"""Check what a YAML file holds, and refuse it in one line a fault: the key, its value, what it may be."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lab.errors import nearest

Count = Annotated[int, Field(ge=1)]
# What pydantic's kinds of fault ask for, in words.
MUST = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be {le} or less",
    "too_short": "must be a list of {min_length} or more",
    "too_long": "must be a list of {max_length}",
    "model_type": "must be a block of keys and values",
    "dict_type": "must be a block of keys and values",
    "model_attributes_type": "must be a block of keys and values",
    "string_pattern_mismatch": "must match {pattern}",
    "string_type": "must be a string",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have {max_length} characters at most",
}
Model = TypeVar("Model", bound="Block")


class Block(BaseModel):
    """A mapping with known keys, whose values are taken as they are: "5" is no number."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _names_its_keys(cls, values):
        """Refuse an unknown key with the choices, which pydantic's own refusal leaves out."""
        unknown = [key for key in values if key not in cls.model_fields] if isinstance(values, dict) else []
        if unknown:
            raise ValueError(
                "; ".join(not_a_choice(_on_one_line(key), values[key], cls.model_fields, key) for key in unknown)
            )
        return values


def validate(model: type[Model], values: dict) -> Model:
    """Check a mapping against a model.

    Raises:
        ValueError: one line a fault.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError("\n".join(_explain(fault, values) for fault in error.errors())) from None


def told_apart_by(name: str) -> BeforeValidator:
    """Of a union of blocks with ``discriminator=name``: a block without that key is refused with the choices too."""
    return BeforeValidator(lambda block: {name: None, **block} if isinstance(block, dict) else block)


def not_a_choice(key: str, value: object, choices: Iterable[str], said: object = None) -> str:
    """The refusal of a value that is not among the choices. said: the name of an unknown key, where that is meant."""
    choices = list(choices)
    why = "" if said is None else "no such key; "
    return (
        f"{key} = {value!r}: {why}choose from {', '.join(choices)}{nearest(value if said is None else said, choices)}"
    )


def not_a_number(key: str, value: object) -> str:
    """The refusal of a value that is no number, with the cure where it is a quoted one."""
    try:
        float(str(value))
        cure = ": remove the quotes" if isinstance(value, str) else ""
    except ValueError:
        cure = ""
    return f"{key} = {value!r}: must be a number{cure}"


def _explain(fault: Mapping[str, Any], values: dict) -> str:
    value, kind, details = fault["input"], fault["type"], fault.get("ctx", {})
    key = ".".join(map(_on_one_line, _path(fault["loc"], values, kind == "missing")))
    if kind == "union_tag_invalid":
        name, choices = details["discriminator"].strip("'"), details["expected_tags"].replace("'", "")
        if value[name] is None:
            return f"{key}.{name}: missing; choose from {choices}"
        return not_a_choice(f"{key}.{name}", value[name], choices.split(", "))
    if kind == "missing":
        return f"{key}: missing"
    if kind == "value_error":
        return f"{key}.{details['error']}".lstrip(".")
    if kind == "literal_error":
        return not_a_choice(key, value, re.findall("'([^']*)'", details["expected"]))
    if isinstance(value, str) and kind in ("float_type", "int_type"):
        return not_a_number(key, value)
    if isinstance(value, int | float | date) and kind == "string_type":
        return f"{key} = {value!r}: must be a string: quote it, as in '{value}'"
    if kind == "too_short" and isinstance(value, dict):
        return f"{key} = {value!r}: must be a block of {details['min_length']} or more keys"
    if kind == "list_type":
        return f"{key} = {value!r}: must be a list, as in [{value}]"
    return f"{key} = {value!r}: {MUST[kind].format(**details) if kind in MUST else fault['msg']}"


def _path(loc: tuple[str | int, ...], values: Any, is_missing: bool) -> Iterator[str | int]:
    """The keys of a fault that the file has; pydantic puts the choices it made in unions between them."""
    for part in loc[:-1] if is_missing else loc:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        yield part
    if is_missing:
        yield loc[-1]


def _on_one_line(key: object) -> str:
    """A key as a message shows it, whatever characters it has."""
    return repr(str(key))[1:-1]
