"""One cycle of active learning: python -m stages.cycle NUMBER

Train a fresh network on the labelled pool, test it once, score the unlabelled pool, query the best.
"""

from argparse import ArgumentParser
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from stages import errors, params
from stages.data import labelled, prepared
from stages.data.files import write_json
from stages.model import loss_prediction, resnet
from stages.query.selection import random_subset, top_k, unlabelled
from stages.query.strategies import STRATEGIES, Candidates
from stages.seeds import Stream, generator_of, seed_of
from stages.training import device as devices
from stages.training import optimizers
from stages.training.batches import Normaliser, TrainingBatches
from stages.training.prediction import predict
from stages.training.progress import Progress
from stages.training.train import Diverged, Epoch, train

RESULTS = Path("metrics/cycles")
COSTS = Path("metrics/costs")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("cycle", type=int, help="number of the cycle, from 0")
    run(parser.parse_args().cycle)


def run(cycle: int) -> None:
    """Run one cycle, from its labelled-index file to the next one.

    Raises:
        BadInput: the labelled-index file or the device is refused, or training diverged.
    """
    settings = params.load(
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
    )
    device = devices.choose()
    devices.make_deterministic()
    train_split, test_split = prepared.read_split("train"), prepared.read_split("test")
    statistics = prepared.read_statistics()
    pool_size = len(train_split.labels)
    pool = labelled.read(labelled.path_of(cycle), pool_size, cycle, settings.cold_start, settings.query.labels)
    indices = pool["index"].to_numpy()
    strategy = STRATEGIES[settings.strategy]
    normalise = Normaliser(statistics, device)

    # One seed for both: the same network whether or not a module is trained beside it.
    weights_seed = seed_of(Stream.WEIGHTS, settings.seed, cycle)
    network = resnet.build(settings.arch, len(statistics.classes), settings.width, weights_seed)
    network = network.to(device, memory_format=torch.channels_last)
    module = None
    if strategy.trains_module:
        module = loss_prediction.build(network.stage_channels, settings.loss_prediction.hidden, weights_seed).to(device)
    parameters = [*network.parameters(), *(module.parameters() if module else ())]

    started = perf_counter()
    batches = TrainingBatches(
        torch.from_numpy(train_split.images[indices]).to(device),
        torch.from_numpy(train_split.labels[indices]).to(device),
        settings.training.batch_size,
        settings.training.crop_padding,
        settings.training.flip,
    )
    bar = Progress(f"cycle {cycle}, {len(pool):,} labels, training", settings.training.epochs, "epochs")

    def show(epoch: Epoch) -> None:
        bar.update(loss=f"{epoch.loss:.3f}", accuracy=f"{epoch.accuracy:.1%}")

    try:
        train(
            network,
            module,
            optimizers.build(settings.optim, settings.optimizer, parameters),
            batches,
            normalise,
            settings.training,
            settings.loss_prediction,
            lambda epoch: seed_of(Stream.BATCHES, settings.seed, cycle, epoch),
            show,
        )
    except Diverged as error:
        raise errors.BadInput(
            f"training diverged: {error} of cycle {cycle}, with optim = {settings.optim!r} and "
            f"optimizers.{settings.optim}.lr = {settings.optimizer.lr}; choose a smaller learning rate. "
            "Finished cycles are kept"
        ) from error
    devices.synchronise(device)
    trained = perf_counter()

    def predict_for(images: np.ndarray, chosen: np.ndarray, title: str):
        progress = Progress(f"cycle {cycle}, {title}", len(chosen), "images")
        return predict(network, module, images, chosen, normalise, device, progress.update)

    test = predict_for(test_split.images, np.arange(len(test_split.labels)), "testing")
    accuracy = float((test.logits.argmax(axis=1) == test_split.labels).mean())
    tested = perf_counter()

    remaining = unlabelled(pool_size, indices)
    if settings.query.pool_subset is not None:
        draw = generator_of(Stream.POOL_SUBSET, settings.seed, cycle)
        remaining = random_subset(remaining, settings.query.pool_subset, draw)
    scores = strategy.score(
        Candidates(
            remaining,
            lambda: predict_for(train_split.images, remaining, "scoring the pool"),
            generator_of(Stream.RANDOM_SCORES, settings.seed, cycle),
        )
    )
    best = top_k(scores, settings.query.labels)
    queried = perf_counter()

    labelled.write(labelled.extend(pool, remaining[best], scores[best]), labelled.path_of(cycle + 1))
    write_json(
        RESULTS / f"{cycle}.json",
        {
            "cycle": cycle,
            "labels": len(pool),
            "accuracy": accuracy,
            "test_images": len(test_split.labels),
            "parameters": resnet.count_parameters(network),
            "module_parameters": resnet.count_parameters(module) if module else 0,
        },
    )
    write_json(
        COSTS / f"{cycle}.json",
        {
            "cycle": cycle,
            "labels": len(pool),
            "training_seconds": trained - started,
            "evaluation_seconds": tested - trained,
            "query_seconds": queried - tested,
            "images_per_second": len(pool) * settings.training.epochs / (trained - started),
            "peak_memory_mb": devices.peak_memory_mb(device),
            **devices.describe(device),
        },
    )
    print(f"cycle {cycle}: {len(pool):,} labels, test accuracy {accuracy:.2%}, {len(best):,} more queried")


if __name__ == "__main__":
    errors.run(main)
