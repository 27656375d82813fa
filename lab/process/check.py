"""Refuse bad params before any work.

``lab.process.launch`` checks the whole of params.yaml ahead of every stage. The rules can stop a run but never alter
one, so they are no dependency of any stage, and a new rule retrains nothing.
"""

import re
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from lab import choices, params
from lab.cycles import pairs
from lab.data import sizes
from lab.data.answers import NO_CLASS, SKIP
from lab.data.pixels import SMALL
from lab.process import extent
from lab.process.schema import Block, Count, not_a_choice, not_a_number, told_apart_by, validate
from lab.query import hidden, oracle, replayed
from lab.training.schedule import epochs_of

Seed = Annotated[int, Field(ge=0, lt=2**32)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

# What a top-level param chooses from: the files of a folder, or the blocks of another param.
FILES = {
    "arch": "model/architectures",
    "strategy": "query/strategies",
    "cold_start_strategy": "query/cold_starts",
}
BLOCKS = {
    "optim": "optimizers",
    "protocol": "protocols",
    "dataset": "datasets",
    "schedule": "schedules",
    "initialisation": "initialisations",
}
# What a name is, which DVC and `-S` find at the end of a dotted key.
NAME, NAMED = r"[A-Za-z0-9_-]+", "a name may have only letters, digits, _ and -; rename it"
# What ends a phase of an optimizer.
UNTIL = ("until_labels", "until_share")


class Training(Block):
    epochs: Count
    # A ranking loss needs pairs of images.
    batch_size: Annotated[int, Field(ge=2)]
    min_updates: Annotated[int, Field(ge=0)]
    crop_padding: Annotated[int, Field(ge=0, le=32)]
    flip: bool


class LossPrediction(Block):
    hidden: Count
    margin: NotNegative
    weight: NotNegative
    detach_at: Share


class Query(Block):
    labels: Annotated[
        Annotated[Count, Tag("one")] | Annotated[list[Count], Field(min_length=1), Tag("each")],
        Discriminator(lambda labels: "each" if isinstance(labels, list) else "one"),
    ]
    pool_subset: Count | None

    @model_validator(mode="after")
    def _subset_holds_the_query(self):
        most = self.labels if isinstance(self.labels, int) else max(self.labels)
        if self.pool_subset is not None and self.pool_subset < most:
            raise ValueError(
                f"pool_subset = {self.pool_subset}: smaller than query.labels = {self.labels}; "
                f"choose {most} or more, or null for the whole pool"
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


class Steps(Block):
    shape: Literal["steps"]
    drop_at: Annotated[float, Field(gt=0, lt=1)]
    factor: Annotated[float, Field(ge=0, le=1)]


class Cosine(Block):
    shape: Literal["cosine"]
    warm_up: Annotated[float, Field(ge=0, lt=1)]


class Constant(Block):
    shape: Literal["constant"]


class NewWeights(Block):
    start: Literal["fresh", "same"]


class FileWeights(Block):
    start: Literal["file"]
    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]


class PreviousWeights(Block):
    start: Literal["previous"]
    epochs: Count
    shrink: Share
    noise: NotNegative


class Augmentation(Block):
    flip: bool
    smallest_crop: Annotated[float, Field(gt=0, le=1)] | None


class Shipped(Block):
    """A data set whose source needs no settings."""

    source: str
    augmentation: Augmentation


class DrawnTest(Block):
    share: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class NamedTest(Block):
    file: str


def _kind_of_test(test: object) -> str:
    return "named" if isinstance(test, NamedTest) or (isinstance(test, dict) and "file" in test) else "drawn"


class Images(Block):
    path: str
    test: Annotated[
        Annotated[DrawnTest, Tag("drawn")] | Annotated[NamedTest, Tag("named")],
        Discriminator(_kind_of_test),
    ]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    faults: Literal["refuse", "skip"]
    augmentation: Augmentation

    @model_validator(mode="after")
    def _crops_as_large_images_are(self):
        if (self.image_size > SMALL) == (self.augmentation.smallest_crop is None):
            raise ValueError(
                f"augmentation.smallest_crop = {self.augmentation.smallest_crop}: with image_size = {self.image_size}, "
                + (
                    "choose the least share of its area that a random crop keeps, as 0.08"
                    if self.image_size > SMALL
                    else f"up to {SMALL} pixels, crops are the protocol's (crop_padding): set null"
                )
            )
        return self


class OfNamedClasses(Images):
    classes: Annotated[list[str], Field(min_length=2)]

    @model_validator(mode="after")
    def _tells_its_classes_apart(self):
        seen: dict[str, str] = {}
        for name in self.classes:
            if name in (SKIP, NO_CLASS):
                raise ValueError(f"classes = {self.classes}: {name!r} is what people say who give no class; rename it")
            if (other := seen.get(name.casefold())) is not None:
                raise ValueError(f"classes = {self.classes}: {other!r} and {name!r} differ in case at most")
            seen[name.casefold()] = name
        return self


class Folder(Images):
    source: Literal["folder"]


class Table(OfNamedClasses):
    source: Literal["csv"]
    separator: Annotated[str, Field(min_length=1, max_length=1)]
    image: str | Count
    label: str | Count

    @model_validator(mode="after")
    def _names_its_columns(self):
        if isinstance(self.image, int) != isinstance(self.label, int):
            raise ValueError(
                f"label = {self.label!r}: image is {self.image!r}; name both columns, or give the numbers of both"
            )
        return self


class Unlabelled(OfNamedClasses):
    source: Literal["unlabelled"]


class Replay(Block):
    dataset: str | None
    strategy: str | None
    # The first labelled set, then that after each cycle; MD5 as in dvc.lock.
    sets: list[Annotated[str, Field(pattern="^[0-9a-f]{32}$")]]


def _has_a_source(block: object) -> object:
    """Refuse an unknown source before the keys that another one would have."""
    if isinstance(block, dict) and block.get("source") not in (names := choices.names(extent.SOURCES)):
        raise ValueError(not_a_choice("source", block.get("source"), names))
    return block


def _is_no_number(cycles: object) -> object:
    if isinstance(cycles, int):
        raise ValueError(f"cycles = {cycles}: must be a list; `python -m lab.cycles {max(cycles, 1)}` prints it")
    return cycles


def _kind_of(block: object) -> str:
    source = block.get("source") if isinstance(block, dict) else None
    return source if source in ("folder", "csv", "unlabelled") else "shipped"


class Params(Block):
    optim: str
    arch: str
    strategy: str
    protocol: str
    dataset: str
    schedule: str
    initialisation: str
    seed: Seed
    cold_start_seed: Seed
    cold_start_strategy: str
    oracle: Literal["hidden", "people"]
    allow_oracle: bool
    validation: Annotated[int, Field(ge=0)]
    cycles: Annotated[
        list[Annotated[list[int], Field(min_length=2, max_length=2)]],
        Field(min_length=1),
        BeforeValidator(_is_no_number),
    ]
    networks: list[Annotated[int, Field(ge=0)]]
    replay: Replay
    optimizers: dict[str, dict[str, Any]]
    schedules: dict[str, Annotated[Steps | Cosine | Constant, Field(discriminator="shape"), told_apart_by("shape")]]
    initialisations: dict[
        str, Annotated[NewWeights | FileWeights | PreviousWeights, Field(discriminator="start"), told_apart_by("start")]
    ]
    protocols: dict[str, Protocol]
    datasets: dict[
        str,
        Annotated[
            Annotated[Folder, Tag("folder")]
            | Annotated[Table, Tag("csv")]
            | Annotated[Unlabelled, Tag("unlabelled")]
            | Annotated[Shipped, Tag("shipped")],
            Discriminator(_kind_of),
            BeforeValidator(_has_a_source),
        ],
    ]


def check(values: dict, *, optimizers: bool = True) -> None:
    """Check the whole of params.yaml.

    Args:
        optimizers: check the blocks of ``optimizers`` against their classes too, which imports PyTorch.

    Raises:
        ValueError: one line a fault; each names the key, its value and what it may be.
    """
    found = validate(Params, values)
    faults = [*_choices(found), *_names(found), *_cycles(found.cycles)]
    for name, block in found.optimizers.items():
        faults += _phases(f"optimizers.{name}", block)
    if not faults:
        faults += [*_oracle(found), *_shares(found), *_budget(found), *_cycles_named(found), *_replay(found)]
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
        stays = (
            f"A value set with -S stays in {file}: set it again, or go back with `git checkout {file}`, "
            "which also drops edits of yours that are not committed"
        )
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
    looking = {"strategy": found.strategy, "cold_start_strategy": found.cold_start_strategy}
    if replayed.is_asked_by(found.strategy):
        looking["replay.strategy"] = found.replay.strategy or ""
    for key, name in looking.items():
        if hidden.are_seen_by(name) and found.oracle == oracle.PEOPLE:
            yield f"{key} = {name!r}: looks at hidden labels, and with oracle = 'people' there are none; choose another"
        elif hidden.are_seen_by(name) and not found.allow_oracle:
            yield f"{key} = {name!r}: looks at hidden labels, as nobody can; it needs allow_oracle: true"


def _oracle(found: Params) -> Iterator[str]:
    """Labels that nobody has."""
    if found.oracle == oracle.HIDDEN and isinstance(found.datasets[found.dataset], Unlabelled):
        yield f"oracle = 'hidden': the data set {found.dataset} has no labels; set oracle: people"
    if found.oracle == oracle.PEOPLE and found.validation:
        yield f"validation = {found.validation}: with oracle = 'people' nobody labels held-out images; set 0"


def _names(found: Params) -> Iterator[str]:
    """Names that DVC cannot look up: in ``optimizers.${optim}`` a dot separates two keys."""
    for block in BLOCKS.values():
        for name in getattr(found, block):
            if not re.fullmatch(NAME, name):
                yield f"{block}.{name}: {NAMED}"


def _cycles(cycles: list[list[int]]) -> Iterator[str]:
    count = len(cycles)
    for number, (cycle, expected) in enumerate(zip(cycles, pairs(count), strict=True)):
        if cycle != expected:
            yield f"cycles[{number}] = {cycle}: must be {expected}; `python -m lab.cycles {count}` prints the list"


def _shares(found: Params) -> Iterator[str]:
    """Shares of training that a short training rounds away."""
    key, protocol = f"protocols.{found.protocol}", found.protocols[found.protocol]
    training, schedule = protocol.training, found.schedules[found.schedule]
    start = found.initialisations[found.initialisation]
    labels = sizes.acquired(protocol.cold_start, protocol.query.labels, len(found.cycles))
    epochs = epochs_of(training.epochs, training.min_updates, labels[0], training.batch_size)
    trainings = {f"{key}.training.epochs = {training.epochs}": epochs * ceil(labels[0] / training.batch_size)}
    if isinstance(start, PreviousWeights) and len(labels) > 1:
        name = f"initialisations.{found.initialisation}.epochs = {start.epochs}"
        trainings[name] = start.epochs * ceil(sum(labels[:2]) / training.batch_size)
    shares = [
        (
            f"{key}.loss_prediction.detach_at",
            protocol.loss_prediction.detach_at,
            "the module would be detached from the start",
            "the module would never be detached",
        )
    ]
    name, rate = f"schedules.{found.schedule}", "the learning rate would"
    if isinstance(schedule, Steps):
        shares.append((f"{name}.drop_at", schedule.drop_at, f"{rate} drop before the first", f"{rate} never drop"))
    if isinstance(schedule, Cosine):
        shares.append((f"{name}.warm_up", schedule.warm_up, f"{rate} not warm up", f"{rate} never fall"))
    for phase_name, phase in found.optimizers[found.optim].get("phases", {}).items():
        if "until_share" in phase:
            name = f"optimizers.{found.optim}.phases.{phase_name}.until_share"
            shares.append((name, phase["until_share"], "this phase would have none", "the next would have none"))

    for during, updates in trainings.items():
        for name, share, at_once, never in shares:
            # An update counts by its middle, as in training.
            happens = {0: at_once, updates: never}.get(ceil(share * updates - 0.5))
            if 0 < share < 1 and happens:
                yield (
                    f"{name} = {share}: of the {updates} updates of a cycle with {during}, {happens}; "
                    "choose more epochs or another share"
                )


def _budget(found: Params) -> Iterator[str]:
    protocol = found.protocols[found.protocol]
    images = extent.of(found.datasets[found.dataset].model_dump()).training
    acquired = sizes.acquired(protocol.cold_start, protocol.query.labels, len(found.cycles))
    if images is not None and sum(acquired) > images - found.validation:
        held_out = f", of which validation holds out {found.validation:,}" if found.validation else ""
        yield (
            f"protocols.{found.protocol}: a budget of {sum(acquired):,} labels (cold_start and query.labels: "
            f"{' + '.join(f'{count:,}' for count in acquired)}) is larger than the pool of {found.dataset}, "
            f"{images:,} images{held_out}; take fewer cycles, or fewer labels, as with "
            f"-S protocols.{found.protocol}.cold_start=20 -S protocols.{found.protocol}.query.labels=20"
        )


def _cycles_named(found: Params) -> Iterator[str]:
    for number, cycle in enumerate(found.networks):
        if cycle >= len(found.cycles):
            yield f"networks[{number}] = {cycle}: choose from the cycles, 0 to {len(found.cycles) - 1}"


def _replay(found: Params) -> Iterator[str]:
    replay, count = found.replay, len(found.cycles)
    for key in ("dataset", "strategy"):
        value = getattr(replay, key)
        names = list(found.datasets) if key == "dataset" else choices.names(FILES[key])
        if value not in (None, *names):
            yield not_a_choice(f"replay.{key}", value, names)
            return
    if not replayed.is_asked_by(found.strategy):
        return
    if not replay.sets:
        yield (
            f"replay.sets = []: strategy = {found.strategy!r} needs a run to replay; "
            "start it with `dvc exp run $(python -m lab.replay RUN)`, where RUN is an experiment or a commit"
        )
        return
    if replay.dataset != found.dataset:
        yield f"replay.dataset = {replay.dataset!r}: the run that is replayed chose from it; set dataset to it"
    if len(replay.sets) <= count:
        yield (
            f"replay.sets: the run that is replayed has {len(replay.sets) - 1} cycles, fewer than these {count}; "
            f"`python -m lab.cycles {len(replay.sets) - 1}` prints the setting for as many"
        )
    if replay.strategy is None:
        yield not_a_choice("replay.strategy", None, choices.names(FILES["strategy"]))
    elif (trains := choices.load(FILES["strategy"], replay.strategy).TRAINS_MODULE) != (found.strategy == "replay"):
        yield (
            f"strategy = {found.strategy!r}: the run that is replayed trained {'the' if trains else 'no'} module; "
            f"choose {'replay' if trains else 'replay_without_module'}"
        )


def _phases(key: str, block: dict) -> Iterator[str]:
    """Faults of how an optimizer's phases follow each other."""
    if "phases" not in block:
        return
    phases, beside = block["phases"], [name for name in block if name != "phases"]
    if beside:
        yield f"{key}.{beside[0]} = {block[beside[0]]!r}: with phases, it belongs in each of them"
        return
    if not isinstance(phases, dict) or len(phases) < 2:
        yield f"{key}.phases = {phases!r}: must be a block of two phases or more, each a block with a name"
        return
    for name, phase in phases.items():
        if not re.fullmatch(NAME, str(name)) or not isinstance(name, str):
            yield f"{key}.phases.{name}: {NAMED}"
            return
        if not isinstance(phase, dict):
            yield f"{key}.phases.{name} = {phase!r}: must be a block of keys and values"
            return
    ends = {name: [until for until in UNTIL if until in phase] for name, phase in phases.items()}
    if sorted(ends.values()) not in [[[], *[[until]] * (len(phases) - 1)] for until in UNTIL]:
        found = ", ".join(f"{name} has {' and '.join(untils) or 'neither'}" for name, untils in ends.items())
        yield f"{key}.phases: all but one must have {UNTIL[0]}, or all but one {UNTIL[1]}; {found}"
        return
    (until,) = max(ends.values())
    before: list = []
    for name, phase in phases.items():
        if until not in phase:
            continue
        end, what = phase[until], f"{key}.phases.{name}.{until} = {phase[until]!r}"
        if until == "until_labels" and not (isinstance(end, int) and not isinstance(end, bool) and end >= 1):
            yield f"{what}: must be a whole number of labels, 1 or more"
        elif until == "until_share" and not (_is_number(end) and 0 < end < 1):
            yield f"{what}: must be a share between 0 and 1"
        elif end in before:
            yield f"{what}: another phase ends there too, and one of them would have nothing to do"
        before.append(end)


def _optimizer(key: str, block: dict) -> Iterator[str]:
    """Faults of an optimizer's arguments, in its phases or without."""
    if "phases" not in block:
        yield from _settings(key, block, ())
        return
    for name, phase in block["phases"].items() if isinstance(block["phases"], dict) else ():
        if isinstance(phase, dict):
            yield from _settings(f"{key}.phases.{name}", phase, UNTIL)


def _settings(key: str, block: dict, also: tuple[str, ...]) -> Iterator[str]:
    """Faults of a block, held against the class that it names. also: keys that are no arguments."""
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
    settings = {argument: value for argument, value in block.items() if argument not in ("class", *also)}
    faults = [
        not_a_choice(f"{key}.{argument}", value, ["class", *also, *arguments], argument)
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
