"""The training of one cycle: from its labelled-index file to the trained network."""

from types import SimpleNamespace
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lab import choices, params
from lab.data import carried, labelled, prepared, sizes
from lab.data.dataset import Split
from lab.data.prepared import Rows
from lab.host import Host
from lab.query import oracle
from lab.seeds import Stream, seed_of
from lab.training import device as devices
from lab.training import learner, published, weights
from lab.training.checkpoint import Checkpoint, key_of
from lab.training.learner import Learner
from lab.training.schedule import epochs_of
from lab.training.train import Recipe, Trained

# Bytes of labelled images that are held on the device; more are read from disk batch by batch.
HELD = 2**30


class Fitted(NamedTuple):
    """What a cycle's training leaves.

    pool: the labelled pool. indices: of those that it trained on, all but images that no class fits. images: of the
    whole training set, with their labels. epochs: that were run. machine: what it was computed on.
    """

    model: Learner
    pool: pd.DataFrame
    indices: NDArray[np.int64]
    images: Split
    epochs: int
    trained: Trained
    machine: dict
    checkpoint: Checkpoint


def load_settings() -> SimpleNamespace:
    """The params that a cycle's training, evaluation and query depend on."""
    return params.load(
        protocol="protocol",
        optim="optim",
        optimizer="optimizers.{optim}",
        arch="arch",
        strategy="strategy",
        oracle="oracle",
        schedule="schedules.{schedule}",
        initialisation="initialisations.{initialisation}",
        validation="validation",
        seed="seed",
        width="protocols.{protocol}.width",
        cold_start="protocols.{protocol}.cold_start",
        training="protocols.{protocol}.training",
        loss_prediction="protocols.{protocol}.loss_prediction",
        query="protocols.{protocol}.query",
        numerics="protocols.{protocol}.numerics",
    )


def fit(host: Host, settings: SimpleNamespace, cycle: int) -> Fitted:
    """Train the network of a cycle, or go on where a checkpoint left it.

    Args:
        settings: of ``load_settings``.

    Raises:
        BadInput: the labelled-index file, the device or the file of weights is refused.
        Diverged: training no longer computes finite numbers.
        Interrupted: a signal asked to stop; training is kept in its checkpoint.
    """
    device = devices.choose()
    devices.make_deterministic()
    precision = devices.precision_of(settings.numerics.precision, device)
    is_compiled = settings.numerics.compile and devices.can_compile(device)
    machine = {
        **devices.describe(device),
        "precision": devices.name_of(precision, device),
        "compiled": is_compiled,
    }
    images, statistics = prepared.read_split("train"), prepared.read_statistics()
    path = labelled.path_of(cycle)
    pool = labelled.read(path)
    acquired = sizes.acquired(settings.cold_start, settings.query.labels, cycle + 1)
    labelled.check(pool, path, len(images.labels), acquired)
    labels = oracle.labels_of(images, settings.oracle, str(cycle), pool["index"].to_numpy())
    images = images._replace(labels=labels)
    indices = pool["index"].to_numpy()[images.labels[pool["index"]] >= 0]
    split = Split(_taken(images.images, indices), images.labels[indices])
    start = weights.read_state(carried.path_of(cycle))

    arrays: list[np.ndarray] = [split.images, split.labels, statistics.mean, statistics.std]
    arrays += [tensor.numpy() for tensor in start.values()]
    seen = {"pixels": statistics.pixels, "augmentation": statistics.augmentation}
    key = key_of({"cycle": cycle, **vars(settings), **seen}, machine, arrays)
    checkpoint = Checkpoint(host.scratch / f"cycle-{cycle}-{key[:16]}.pt", key, host)
    host.when_safe(checkpoint.remove)

    training, initialisation = settings.training, settings.initialisation
    drawn = 0 if initialisation.start == "same" else cycle
    hidden = (
        settings.loss_prediction.hidden if choices.load("query/strategies", settings.strategy).TRAINS_MODULE else None
    )
    model = learner.build(
        learner.Shape(settings.arch, settings.width, hidden, precision),
        statistics,
        device,
        seed=seed_of(Stream.WEIGHTS, settings.seed, drawn),
        module_seed=seed_of(Stream.MODULE_WEIGHTS, settings.seed, drawn),
    )
    epochs = epochs_of(training.epochs, training.min_updates, len(indices), training.batch_size)
    if initialisation.start == "file":
        print(published.load(model, initialisation.path, initialisation.sha256))
    if start:
        model.load(
            start, initialisation.shrink, initialisation.noise, seed_of(Stream.PERTURBATION, settings.seed, cycle)
        )
        epochs = initialisation.epochs
    bar = host.progress(f"cycle {cycle}, {len(pool):,} labels, training", epochs, "epochs")
    trained = model.fit(
        model.batches(split, training.batch_size, training.crop_padding, training.flip),
        params.plain(settings.optimizer),
        Recipe(
            epochs,
            params.plain(settings.schedule),
            settings.loss_prediction.margin,
            settings.loss_prediction.weight,
            settings.loss_prediction.detach_at,
        ),
        lambda epoch: seed_of(Stream.BATCHES, settings.seed, cycle, epoch),
        # After a checkpoint it begins in the middle.
        lambda epoch: bar.update(epoch.number - bar.done, loss=f"{epoch.loss:.3f}", accuracy=f"{epoch.accuracy:.1%}"),
        checkpoint,
        is_compiled=is_compiled,
    )
    return Fitted(model, pool, indices, images, epochs, trained, machine, checkpoint)


def _taken(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    if isinstance(images, np.memmap) and len(indices) * images[0].nbytes > HELD:
        return cast(NDArray[np.uint8], Rows(images, indices))  # gives rows as an array does
    return images[indices]
