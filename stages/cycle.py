"""One cycle of active learning: python -m stages.cycle NUMBER

Train a fresh network on the labelled pool, test it once, score the unlabelled pool, query the best.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch

from lab import params
from lab.data import labelled, prepared
from lab.data.dataset import Split
from lab.data.files import write_json
from lab.measures.ranking import RankQuality, cross_entropy, rank_quality
from lab.model import loss_prediction, resnet
from lab.process import ending as entry
from lab.process.interruption import Interruption
from lab.process.progress import Progress
from lab.query.selection import random_subset, top_k, unlabelled
from lab.query.strategies import STRATEGIES, Candidates
from lab.seeds import Stream, generator_of, seed_of
from lab.training import device as devices
from lab.training import optimizers
from lab.training.batches import Normaliser, TrainingBatches
from lab.training.checkpoint import Checkpoint, key_of, scratch_folder
from lab.training.prediction import BATCH_SIZE, Predictions, predict
from lab.training.train import Diverged, Spent, train

RESULTS = Path("metrics/cycles")
COSTS = Path("metrics/costs")


def main() -> Callable[[], None]:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("cycle", type=int, help="number of the cycle, from 0")
    return run(parser.parse_args().cycle, Interruption().listen())


def run(cycle: int, interruption: Interruption) -> Callable[[], None]:
    """Run one cycle, from its labelled-index file to the next one.

    Returns:
        What is to be done once the outputs are safe: the checkpoint is removed.

    Raises:
        BadInput: the labelled-index file or the device is refused, training diverged, or memory ran out.
        Interrupted: a signal asked to stop; training is kept in its checkpoint.
    """
    settings = params.load(
        protocol="protocol",
        optim="optim",
        optimizer="optimizers.{optim}",
        arch="arch",
        strategy="strategy",
        seed="seed",
        width="protocols.{protocol}.width",
        cold_start="protocols.{protocol}.cold_start",
        training="protocols.{protocol}.training",
        loss_prediction="protocols.{protocol}.loss_prediction",
        query="protocols.{protocol}.query",
        numerics="protocols.{protocol}.numerics",
    )
    device = devices.choose()
    devices.make_deterministic()
    train_split, test_split = prepared.read_split("train"), prepared.read_split("test")
    path = labelled.path_of(cycle)
    pool = labelled.read(path)
    labelled.check(pool, path, len(train_split.labels), cycle, settings.cold_start, settings.query.labels)

    precision = devices.precision_of(settings.numerics.precision, device)
    is_compiled = settings.numerics.compile and devices.can_compile(device)

    environment = {
        **devices.describe(device),
        "precision": devices.name_of(precision, device),
        "compiled": is_compiled,
    }
    indices = pool["index"].to_numpy()
    labelled_split = Split(train_split.images[indices], train_split.labels[indices])

    statistics = prepared.read_statistics()
    # A machine that comes back under another name is the same.
    machine = {fact: value for fact, value in environment.items() if fact != "host"}
    key = key_of({"cycle": cycle, **vars(settings)}, machine, [*labelled_split, statistics.mean, statistics.std])
    checkpoint = Checkpoint(scratch_folder() / f"cycle-{cycle}-{key[:16]}.pt", key, interruption)

    try:
        model = _fresh_model(settings, cycle, device, precision, statistics, checkpoint)
        spent = _fit(model, settings, cycle, labelled_split, checkpoint, is_compiled)
        clock = [perf_counter()]
        accuracy, ranks = _test(model, settings, cycle, test_split)
        clock.append(perf_counter())
        scorer = model._replace(network=resnet.folded(model.network))
        acquired, scores = _query(scorer, settings, cycle, train_split.images, indices)
        clock.append(perf_counter())
    except Diverged as error:
        raise entry.BadInput(
            f"training diverged: {error} of cycle {cycle}, with optim = {settings.optim!r} and "
            f"optimizers.{settings.optim}.lr = {settings.optimizer.lr}; choose a smaller learning rate "
            "(finished cycles are kept)"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not devices.is_lack_of_memory(error):
            raise
        raise entry.BadInput(
            f"out of memory on {device} in cycle {cycle}, with protocols.{settings.protocol}.training.batch_size = "
            f"{settings.training.batch_size} (and {BATCH_SIZE} images at once in scoring): choose a smaller batch or "
            f"width, or a device with more memory; finished cycles are kept ({error})"
        ) from error

    evaluation_seconds, query_seconds = np.diff(clock)
    labelled.write(labelled.extend(pool, acquired, scores), labelled.path_of(cycle + 1))
    write_json(
        RESULTS / f"{cycle}.json",
        {
            "cycle": cycle,
            "labels": len(pool),
            "accuracy": accuracy,
            "test_images": len(test_split.labels),
            "parameters": resnet.count_parameters(model.network),
            "module_parameters": resnet.count_parameters(model.module) if model.module else 0,
            "training_images": len(pool) * settings.training.epochs,
            "flops": resnet.count_flops(model.network, train_split.images.shape[1]),
            "loss_spearman": ranks.spearman,
            "loss_pair_accuracy": ranks.pair_accuracy,
            "acquired_classes": np.bincount(train_split.labels[acquired], minlength=len(statistics.classes)).tolist(),
        },
    )
    write_json(
        COSTS / f"{cycle}.json",
        {
            "cycle": cycle,
            "labels": len(pool),
            "training_seconds": spent.training,
            "evaluation_seconds": evaluation_seconds,
            "query_seconds": query_seconds,
            "compile_seconds": spent.compiling,
            "images_per_second": len(pool) * settings.training.epochs / spent.training,
            "peak_memory_mb": devices.peak_memory_mb(device),
            **environment,
        },
    )
    print(f"cycle {cycle}: {len(pool):,} labels, test accuracy {accuracy:.2%}, {len(acquired):,} more queried")
    return checkpoint.remove


class _Model(NamedTuple):
    """A network, the loss prediction module beside it (or None), and how images reach them."""

    network: resnet.ResNet
    module: loss_prediction.LossPrediction | None
    normalise: Normaliser
    device: torch.device
    checkpoint: Checkpoint

    def predict(self, images: np.ndarray, indices: np.ndarray, title: str) -> Predictions:
        """Predict for images[indices], with a bar of progress."""
        bar = Progress(title, len(indices), "images")

        def on_batch(count: int) -> None:
            bar.update(count)
            self.checkpoint.interruption.check(self.checkpoint.kept)

        return predict(self.network, self.module, images, indices, self.normalise, self.device, on_batch)


def _fresh_model(
    settings: SimpleNamespace,
    cycle: int,
    device: torch.device,
    precision: torch.dtype,
    statistics: prepared.Statistics,
    checkpoint: Checkpoint,
) -> _Model:
    seed = seed_of(Stream.WEIGHTS, settings.seed, cycle)
    network = resnet.build(settings.arch, len(statistics.classes), settings.width, seed, precision)
    module = None
    if STRATEGIES[settings.strategy].trains_module:
        # A stream of its own: the network is the same whether or not a module is trained beside it.
        seed = seed_of(Stream.MODULE_WEIGHTS, settings.seed, cycle)
        module = loss_prediction.build(network.stage_channels, settings.loss_prediction.hidden, seed).to(device)
    # Channels last: the images lie so already, and convolutions are faster on them.
    network = network.to(device, memory_format=torch.channels_last)
    return _Model(network, module, Normaliser(statistics, device), device, checkpoint)


def _fit(
    model: _Model, settings: SimpleNamespace, cycle: int, split: Split, checkpoint: Checkpoint, is_compiled: bool
) -> Spent:
    """Train the model in place on the labelled images."""
    training = settings.training
    batches = TrainingBatches(
        torch.from_numpy(split.images).to(model.device),
        torch.from_numpy(split.labels).to(model.device),
        training.batch_size,
        training.crop_padding,
        training.flip,
    )
    parameters = [*model.network.parameters(), *(model.module.parameters() if model.module else ())]
    bar = Progress(f"cycle {cycle}, {len(split.labels):,} labels, training", training.epochs, "epochs")
    return train(
        model.network,
        model.module,
        optimizers.build(settings.optim, settings.optimizer, parameters),
        batches,
        model.normalise,
        training,
        settings.loss_prediction,
        lambda epoch: seed_of(Stream.BATCHES, settings.seed, cycle, epoch),
        # after a checkpoint it begins in the middle
        lambda epoch: bar.update(epoch.number - bar.done, loss=f"{epoch.loss:.3f}", accuracy=f"{epoch.accuracy:.1%}"),
        checkpoint,
        is_compiled=is_compiled,
    )


def _test(model: _Model, settings: SimpleNamespace, cycle: int, split: Split) -> tuple[float, RankQuality]:
    """The share of test images that are classified correctly (the paper, section 5, item 1).

    And how well the module ranks their losses, where there is one.
    """
    test = model.predict(split.images, np.arange(len(split.labels)), f"cycle {cycle}, testing")
    # The loss of an epoch is that of the weights before each step: the very last step shows here alone.
    if not all(np.isfinite(output).all() for output in test if output is not None):
        raise Diverged(f"outputs are no finite numbers after epoch {settings.training.epochs}")
    accuracy = float((test.logits.argmax(axis=1) == split.labels).mean())
    if test.predicted_loss is None:
        return accuracy, RankQuality(None, None)
    return accuracy, rank_quality(test.predicted_loss, cross_entropy(test.logits, split.labels))


def _query(
    model: _Model, settings: SimpleNamespace, cycle: int, images: np.ndarray, labelled_indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The images to label next: int64 (k,), absolute indices, best first; and their scores, (k,)."""
    candidates = unlabelled(len(images), labelled_indices)
    if settings.query.pool_subset is not None:
        draw = generator_of(Stream.POOL_SUBSET, settings.seed, cycle)
        candidates = random_subset(candidates, settings.query.pool_subset, draw)
    if not len(candidates):
        return candidates, np.empty(0)
    scores = STRATEGIES[settings.strategy].score(
        Candidates(
            candidates,
            lambda: model.predict(images, candidates, f"cycle {cycle}, scoring the pool"),
            generator_of(Stream.RANDOM_SCORES, settings.seed, cycle),
        )
    )
    best = top_k(scores, settings.query.labels)
    return candidates[best], scores[best]


if __name__ == "__main__":
    entry.run_stage(main)
