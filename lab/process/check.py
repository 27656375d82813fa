"""Refuse a bad params.yaml before any work: python -m lab.process.check

``lab.process.launch`` runs it ahead of every stage: it can stop a run but never alter one, so it is no
dependency of any stage, and a new rule here retrains nothing.
"""

import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lab.params import PARAMS_FILE, parse

# Training images of each data set: the largest budget that a run can have.
POOL_SIZES = {"cifar10": 50_000, "digits": 1_297}

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Block(BaseModel):
    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _names_its_keys(cls, values):
        """Refuse an unknown key with the choices, which pydantic's own refusal leaves out."""
        unknown = [key for key in values if key not in cls.model_fields] if isinstance(values, dict) else []
        if unknown:
            raise ValueError("; ".join(_not_a_choice(str(key), values[key], cls.model_fields) for key in unknown))
        return values


class Sgd(Block):
    lr: Positive
    momentum: Decay
    nesterov: bool
    weight_decay: NotNegative

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self):
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov = True: needs a momentum above 0")
        return self


class Adam(Block):
    lr: Positive
    betas: Annotated[list[Decay], Field(min_length=2, max_length=2)]
    weight_decay: NotNegative


class RmsProp(Block):
    lr: Positive
    alpha: Decay
    momentum: Decay
    weight_decay: NotNegative


class Optimizers(Block):
    sgd: Sgd
    adam: Adam
    adamw: Adam
    rmsprop: RmsProp


class Training(Block):
    epochs: Count
    batch_size: Count
    lr_drop_epoch: Count
    lr_drop_factor: Annotated[float, Field(gt=0, le=1)]
    crop_padding: Annotated[int, Field(ge=0, le=32)]
    flip: bool


class LossPrediction(Block):
    hidden: Count
    margin: NotNegative
    weight: NotNegative
    detach_epoch: Annotated[int, Field(ge=0)]


class Query(Block):
    labels: Count
    pool_subset: Count | None

    @model_validator(mode="after")
    def _subset_holds_the_query(self):
        if self.pool_subset is not None and self.pool_subset < self.labels:
            raise ValueError(
                f"pool_subset = {self.pool_subset}: that many images cannot yield {self.labels} labels; "
                f"choose {self.labels} or more, or null for the whole pool"
            )
        return self


class Numerics(Block):
    precision: Literal["float32", "bfloat16"]
    compile: bool


class Protocol(Block):
    cold_start: Count
    width: Count
    numerics: Numerics
    training: Training
    loss_prediction: LossPrediction
    query: Query
    target_accuracy: Annotated[float, Field(gt=0, le=1)]


class Cycle(Block):
    this: Annotated[int, Field(ge=0)]
    next: Count


class Params(Block):
    optim: str
    arch: Literal["resnet18", "resnet34", "resnet50"]
    strategy: Literal["loss_prediction", "random", "random_without_module"]
    protocol: str
    seed: Seed
    cold_start_seed: Seed
    cycles: Annotated[list[Cycle], Field(min_length=1)]
    optimizers: Optimizers
    datasets: dict[str, Literal[*POOL_SIZES]]
    protocols: dict[str, Protocol]


def check(text: str) -> Params:
    """Check the whole of a params.yaml.

    Raises:
        ValueError: one line a fault; each names the key, its value and what it may be.
    """
    try:
        params = Params.model_validate(parse(text))
    except ValidationError as error:
        raise ValueError("\n".join(_explain(fault) for fault in error.errors())) from None
    faults = list(_cross_checks(params))
    if faults:
        raise ValueError("\n".join(faults))
    return params


def _cross_checks(params: Params):
    """Faults that lie between keys."""
    if params.optim not in Optimizers.model_fields:
        yield _not_a_choice("optim", params.optim, Optimizers.model_fields)
    for name in sorted(params.protocols.keys() ^ params.datasets.keys()):
        have, lack = ("datasets", "protocols") if name in params.datasets else ("protocols", "datasets")
        yield f"{have}.{name}: no entry of that name in {lack}, which has {', '.join(getattr(params, lack))}"
    if params.protocol not in params.protocols:
        yield _not_a_choice("protocol", params.protocol, params.protocols)
        return
    for number, cycle in enumerate(params.cycles):
        if (cycle.this, cycle.next) != (number, number + 1):
            yield (
                f"cycles[{number}] = {{this: {cycle.this}, next: {cycle.next}}}: "
                f"must be {{this: {number}, next: {number + 1}}}, since cycles follow each other from 0"
            )
    protocol = params.protocols[params.protocol]
    dataset = params.datasets.get(params.protocol)
    if dataset:
        budget = protocol.cold_start + (len(params.cycles) - 1) * protocol.query.labels
        if budget > POOL_SIZES[dataset]:
            yield (
                f"protocols.{params.protocol}: a budget of {budget:,} labels (cold_start {protocol.cold_start:,} + "
                f"{len(params.cycles) - 1} × query.labels {protocol.query.labels:,}) is larger than the pool of "
                f"{dataset}, {POOL_SIZES[dataset]:,} images"
            )


def _explain(fault: dict) -> str:
    """One line: the key, its value, what it may be."""
    key = ".".join(str(part) for part in fault["loc"])
    value, kind, details = fault["input"], fault["type"], fault.get("ctx", {})
    if kind == "missing":
        return f"{key}: missing"
    if kind == "value_error":
        return f"{key}.{details['error']}".lstrip(".")
    if kind == "literal_error":
        return f"{key} = {value!r}: choose from {details['expected']}"
    if isinstance(value, str) and kind in ("float_type", "int_type"):
        return f"{key} = {value!r}: must be a number, and a quoted one is a string: remove the quotes"
    return f"{key} = {value!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _not_a_choice(key: str, value: object, choices: Iterable[str]) -> str:
    close = get_close_matches(str(value), choices, n=1)
    guess = f" (did you mean {close[0]}?)" if close else ""
    return f"{key} = {value!r}: choose from {', '.join(choices)}{guess}"


def main() -> None:
    try:
        check(PARAMS_FILE.read_text())
    except ValueError as error:
        faults = str(error).splitlines()
        print(f"{PARAMS_FILE} is refused, nothing was run:", *faults, sep="\n  ", file=sys.stderr)
        print(
            f"A value set with -S stays in {PARAMS_FILE}: set it anew, or `git checkout {PARAMS_FILE}`", file=sys.stderr
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
