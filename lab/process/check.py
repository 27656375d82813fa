"""Refuse bad params before any work.

``lab.process.launch`` checks the whole of params.yaml ahead of every stage. The rules can stop a run but never alter
one, so they are no dependency of any stage, and a new rule retrains nothing.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lab import choices, params
from lab.cycles import pairs
from lab.process.schema import Block, Count, not_a_choice, not_a_number, validate
from lab.training.schedule import epoch_of

Seed = Annotated[int, Field(ge=0, lt=2**32)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

# What a top-level param chooses from: the files of a folder, or the blocks of another param.
FILES = {"arch": "model/architectures", "strategy": "query/strategies", "dataset": "data/sets"}
BLOCKS = {"optim": "optimizers", "protocol": "protocols"}


class Training(Block):
    epochs: Count
    # A ranking loss needs pairs of images.
    batch_size: Annotated[int, Field(ge=2)]
    lr_drop_at: Annotated[float, Field(gt=0, le=1)]
    lr_drop_factor: Annotated[float, Field(gt=0, le=1)]
    crop_padding: Annotated[int, Field(ge=0, le=32)]
    flip: bool


class LossPrediction(Block):
    hidden: Count
    margin: NotNegative
    weight: NotNegative
    detach_at: Share


class Query(Block):
    labels: Count
    pool_subset: Count | None

    @model_validator(mode="after")
    def _subset_holds_the_query(self):
        if self.pool_subset is not None and self.pool_subset < self.labels:
            raise ValueError(
                f"pool_subset = {self.pool_subset}: smaller than query.labels = {self.labels}; "
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


class Params(Block):
    optim: str
    arch: str
    strategy: str
    protocol: str
    dataset: str
    seed: Seed
    cold_start_seed: Seed
    cycles: Annotated[list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    optimizers: dict[str, dict[str, object]]
    protocols: dict[str, Protocol]


def check(values: dict, *, optimizers: bool = True) -> None:
    """Check the whole of params.yaml.

    Args:
        optimizers: check the blocks of ``optimizers`` against their classes too, which imports PyTorch.

    Raises:
        ValueError: one line a fault; each names the key, its value and what it may be.
    """
    found = validate(Params, values)
    faults = [*_choices(found), *_names(found), *_cycles(found.cycles)]
    for name, protocol in found.protocols.items():
        faults += _shares(f"protocols.{name}", protocol)
    if not faults:
        faults += _budget(found)
    if optimizers:
        for name, block in found.optimizers.items():
            faults += _optimizer(f"optimizers.{name}", block)
    if faults:
        raise ValueError("\n".join(faults))


def check_files(*, optimizers: bool = True) -> None:
    """Check params.yaml of the current folder, as ``check`` does.

    Raises:
        ValueError: the message holds a heading, one line a fault, and how to go back.
    """
    try:
        check(params.current(), optimizers=optimizers)
    except ValueError as error:
        faults = [f"  {line}" for line in str(error).splitlines()]
        # Under --temp DVC runs in a folder of its own, and leaves this file as it is.
        is_temporary = ".dvc/tmp/exps" in Path.cwd().as_posix()
        file = params.PARAMS_FILE
        stays = f"A value set with -S stays in {file}: set it again, or go back with `git checkout {file}`"
        advice = [] if is_temporary else [stays]
        lines = [f"{file} is refused, nothing was run:", *faults, *advice]
        raise ValueError("\n".join(lines)) from None


def _choices(found: Params) -> Iterator[str]:
    for key, folder in FILES.items():
        if getattr(found, key) not in choices.names(folder):
            yield not_a_choice(key, getattr(found, key), choices.names(folder))
    for key, block in BLOCKS.items():
        if getattr(found, key) not in getattr(found, block):
            yield not_a_choice(key, getattr(found, key), getattr(found, block))


def _names(found: Params) -> Iterator[str]:
    """Names that DVC cannot look up: in ``optimizers.${optim}`` a dot separates two keys."""
    for block in BLOCKS.values():
        for name in getattr(found, block):
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                yield f"{block}.{name}: a name may have only letters, digits, _ and -; rename it"


def _cycles(cycles: list[list[int]]) -> Iterator[str]:
    count = len(cycles)
    for number, (cycle, expected) in enumerate(zip(cycles, pairs(count), strict=True)):
        if cycle != expected:
            yield f"cycles[{number}] = {cycle}: must be {expected}; `python -m lab.cycles {count}` prints the list"


def _shares(key: str, protocol: Protocol) -> Iterator[str]:
    """Shares of training that a short training rounds away."""
    epochs = protocol.training.epochs
    for name, share, at_once, never, cure in (
        (
            "training.lr_drop_at",
            protocol.training.lr_drop_at,
            "the learning rate would drop before the first epoch",
            "the learning rate would never drop",
            "1 means never",
        ),
        (
            "loss_prediction.detach_at",
            protocol.loss_prediction.detach_at,
            "the module would be detached from the start",
            "the module would never be detached",
            "0 means from the start, 1 means never",
        ),
    ):
        happens = {0: at_once, epochs: never}.get(epoch_of(share, epochs))
        if 0 < share < 1 and happens:
            yield (
                f"{key}.{name} = {share}: with {key}.training.epochs = {epochs} {happens}; "
                f"choose more epochs or another share ({cure})"
            )


def _budget(found: Params) -> Iterator[str]:
    protocol = found.protocols[found.protocol]
    pool = choices.load(FILES["dataset"], found.dataset).TRAINING_IMAGES
    queries = len(found.cycles) - 1
    budget = protocol.cold_start + queries * protocol.query.labels
    if budget > pool:
        yield (
            f"protocols.{found.protocol}: a budget of {budget:,} labels (cold_start {protocol.cold_start:,} + "
            f"{queries} × query.labels {protocol.query.labels:,}) is larger than the pool of "
            f"{found.dataset}, {pool:,} images"
        )


def _optimizer(key: str, block: dict) -> Iterator[str]:
    """Faults of a block, held against the class that it names."""
    # Imported here: PyTorch takes seconds, and stages that compute nothing with it do without.
    from lab.training import optimizers

    name = block.get("class")
    if not isinstance(name, str) or name not in optimizers.classes():
        yield (
            not_a_choice(f"{key}.class", name, optimizers.classes())
            if "class" in block
            else (f"{key}.class: missing; choose from {', '.join(optimizers.classes())}")
        )
        return
    arguments = optimizers.arguments(name)
    settings = {argument: value for argument, value in block.items() if argument != "class"}
    faults = [
        not_a_choice(f"{key}.{argument}", value, ["class", *arguments], argument)
        if argument not in arguments
        else _setting(f"{key}.{argument}", value, arguments[argument])
        for argument, value in settings.items()
    ]
    if "lr" not in settings:
        faults.append(f"{key}.lr: missing")
    if not any(faults):
        faults += _refused_by_the_class(key, name, settings)
    yield from filter(None, faults)


def _refused_by_the_class(key: str, name: str, settings: dict) -> list[str]:
    """What the class itself refuses of its settings, under the key that it refuses also alone."""
    import torch

    from lab.training import optimizers

    def refusal(chosen: dict) -> str | None:
        try:
            optimizers.build({"class": name, **chosen}, [torch.zeros(1, requires_grad=True)])
        except (ValueError, TypeError, RuntimeError) as error:
            return f"{name} refuses it: {error}"
        return None

    if (why := refusal(settings)) is None:
        return []
    alone = [argument for argument, value in settings.items() if refusal({argument: value}) == why]
    return [f"{key}.{argument} = {settings[argument]!r}: {why}" for argument in alone] or [f"{key} = {settings}: {why}"]


def _setting(key: str, value: Any, default: object) -> str | None:
    """The fault of an optimizer's setting, whose default tells its type; None where it is right."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else f"{key} = {value!r}: must be true or false"
    if isinstance(default, tuple):
        is_list = isinstance(value, list) and len(value) == len(default)
        if is_list and all(_is_number(one) or one is two for one, two in zip(value, default, strict=True)):
            return None
        return f"{key} = {value!r}: must be a list of {len(default)} numbers, as in {list(default)}"
    if not _is_number(value):
        return not_a_number(key, value)
    if key.endswith(".lr") and value <= 0:
        return f"{key} = {value!r}: must be greater than 0"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
