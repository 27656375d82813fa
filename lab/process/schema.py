"""Check what a YAML file holds, and refuse it in one line a fault: the key, its value, what it may be."""

from collections.abc import Iterable, Mapping
from datetime import date
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Count = Annotated[int, Field(ge=1)]
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
    """The refusal of a value that is not among the choices. said: what they are like, where it is not the value."""
    choices = list(choices)
    close = get_close_matches(str(value if said is None else said), choices, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"{key} = {value!r}: choose from {', '.join(choices)}{guess}"


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
        return f"{key} = {value!r}: must be a number, and a quoted one is a string: remove the quotes"
    if isinstance(value, int | float | date) and kind == "string_type":
        return f"{key} = {value!r}: must be a string: quote it, '{value}'"
    if kind == "list_type":
        return f"{key} = {value!r}: must be a list, [{value}]"
    return f"{key} = {value!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _on_one_line(key: object) -> str:
    """A key as a message shows it, whatever characters it has."""
    return repr(str(key))[1:-1]
