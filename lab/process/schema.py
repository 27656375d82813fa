"""Check what a YAML file holds, and refuse it in one line a fault: the key, its value, what it may be."""

from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
        raise ValueError("\n".join(_explain(fault) for fault in error.errors())) from None


def not_a_choice(key: str, value: object, choices: Iterable[str], said: object = None) -> str:
    """The refusal of a value that is not among the choices. said: the name of an unknown key, where that is meant."""
    choices = list(choices)
    close = get_close_matches(str(value if said is None else said), choices, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    why = "" if said is None else "no such key; "
    return f"{key} = {value!r}: {why}choose from {', '.join(choices)}{guess}"


def not_a_number(key: str, value: object) -> str:
    """The refusal of a value that is no number, with the cure where it is a quoted one."""
    try:
        float(str(value))
        cure = ": remove the quotes" if isinstance(value, str) else ""
    except ValueError:
        cure = ""
    return f"{key} = {value!r}: must be a number{cure}"


def _explain(fault: Mapping[str, Any]) -> str:
    key = ".".join(map(_on_one_line, fault["loc"]))
    value, kind, details = fault["input"], fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return f"{key}: missing"
    if kind == "value_error":
        return f"{key}.{details['error']}".lstrip(".")
    if kind == "literal_error":
        return f"{key} = {value!r}: choose from {details['expected']}"
    if isinstance(value, str) and kind in ("float_type", "int_type"):
        return not_a_number(key, value)
    if isinstance(value, int | float | date) and kind == "string_type":
        return f"{key} = {value!r}: must be a string: quote it, as in '{value}'"
    if kind == "list_type":
        return f"{key} = {value!r}: must be a list, as in [{value}]"
    return f"{key} = {value!r}: {MUST[kind].format(**details) if kind in MUST else fault['msg']}"


def _on_one_line(key: object) -> str:
    """A key as a message shows it, whatever characters it has."""
    return repr(str(key))[1:-1]
