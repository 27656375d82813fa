"""One cycle of active learning: train on the labelled pool, test once, query the next labels."""

from collections.abc import Collection
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from lab import choices
from lab.data import carried, details, history, labelled, sizes, stop_set, validation
from lab.errors import Diverged
from lab.host import Host
from lab.measures import by_class
from lab.measures.agreement import kappa
from lab.measures.details import confusion, losses, lowest, short
from lab.measures.ranking import RankQuality, cross_entropy, rank_quality
from lab.model.resnet import count_flops, count_parameters
from lab.query import hidden, oracle, replayed
from lab.query.query import Batch, Query
from lab.query.selection import random_subset, unlabelled
from lab.seeds import Stream, generator_of
from lab.training import of_cycle, weights
from lab.training.learner import Learner
from lab.training.prediction import Output, Predictions


def main(host: Host, number: str) -> None:
    """Run one cycle, from its labelled-index file to the next one.

    Args:
        number: of the cycle, from 0.

    Raises:
        BadInput: the labelled-index file or the device is refused.
        Diverged: training no longer computes finite numbers.
        Interrupted: a signal asked to stop; training is kept in its checkpoint.
    """
    settings = of_cycle.load_settings()
    cycle = int(number)
    past = history.read(cycle)
    # A search is judged on images that it holds out: it never opens the test set.
    tested = None if settings.validation else oracle.read_test(settings.oracle)
    fitted = of_cycle.fit(host, settings, cycle)
    model, pool, images = fitted.model, fitted.pool, fitted.images
    indices, taken = fitted.indices, pool["index"].to_numpy()

    def predict(
        model: Learner,
        images: NDArray[np.uint8],
        indices: NDArray[np.int64],
        title: str,
        outputs: Collection[Output] = ("logits", "predicted_loss"),
    ) -> Predictions:
        bar = host.progress(f"cycle {cycle}, {title}", len(indices), "images")

        def on_batch(count: int) -> None:
            bar.update(count)
            host.check(fitted.checkpoint.kept)

        return model.predict(images, indices, on_batch, outputs)

    clock = [perf_counter()]
    held_out = validation.held_out(settings.validation, len(images.labels))
    judged, judges = (images, held_out) if tested is None else (tested, np.flatnonzero(tested.labels >= 0))
    outputs, labels = predict(model, judged.images, judges, "testing"), judged.labels[judges]
    accuracy, ranks = measure(outputs, labels)

    stops = stop_set.draw(validation.pool(settings.validation, len(images.labels)))
    before = stop_set.read(cycle)
    after = predict(model, images.images, stops, "predicting the stop set", ()).logits.argmax(axis=1)
    is_left = ~np.isin(stops, taken)
    agreement = kappa(before[is_left], after[is_left]) if len(before) else None
    clock.append(perf_counter())

    candidates = unlabelled(len(images.labels), np.concatenate([taken, held_out]))
    # What another run acquired need not be in the subset that this one's seed draws.
    if settings.query.pool_subset is not None and not replayed.is_asked_by(settings.strategy):
        draw = generator_of(Stream.POOL_SUBSET, settings.seed, cycle)
        candidates = random_subset(candidates, settings.query.pool_subset, draw)
    batch = Batch(np.empty(0, dtype=np.int64), np.empty(0))
    if len(candidates):
        scorer = model.for_scoring()
        batch = choices.load("query/strategies", settings.strategy).choose(
            Query(
                min(sizes.query_of(settings.query.labels, cycle), len(candidates)),
                candidates,
                indices,
                images.labels[indices],
                lambda asked, outputs: predict(scorer, images.images, asked, "scoring the pool", outputs),
                scorer.last_layer,
                generator_of(Stream.RANDOM_SCORES, settings.seed, cycle),
                lambda: labelled.read(replayed.path_of(cycle + 1)),
                hidden.labels_for(settings.strategy, images.labels),
            )
        )
    acquired = candidates[batch.positions]
    clock.append(perf_counter())

    labelled.write(labelled.extend(pool, acquired, batch.scores), labelled.path_of(cycle + 1))
    if settings.initialisation.start == "previous":
        weights.write(carried.path_of(cycle + 1), model)
    else:
        carried.write_nothing(cycle + 1)
    stop_set.write(after, cycle + 1)
    classes, epochs = model.normalise.statistics.classes, fitted.trained.epochs
    details.write(
        {
            "classes": classes,
            "confusion": confusion(outputs.logits, labels),
            "training": {
                column: short(getattr(epoch, column) for epoch in epochs)
                for column in ("loss", "accuracy", "learning_rate")
            },
            "losses": losses(outputs.logits, outputs.predicted_loss, labels),
            "lowest": lowest(batch.all_scores, batch.positions, candidates),
            "asked": expected(model, images.images, acquired) if settings.oracle == oracle.PEOPLE else None,
        },
        cycle,
    )
    images_passed = len(indices) * fitted.epochs
    result = {
        "cycle": cycle,
        "labels": len(pool),
        "accuracy": accuracy,
        "training_accuracy": epochs[-1].accuracy,
        "judged_on": "validation" if settings.validation else "test",
        "judged_images": len(judges),
        "parameters": count_parameters(model.network),
        "module_parameters": count_parameters(model.module) if model.module else 0,
        "training_images": images_passed,
        "flops": count_flops(model.network, model.normalise.statistics.pixels or images.images.shape[1]),
        "loss_spearman": ranks.spearman,
        "loss_pair_accuracy": ranks.pair_accuracy,
        "agreement": agreement,
        **by_class.measures(outputs.logits, labels),
        # People have not labelled them yet.
        "acquired_classes": None
        if settings.oracle == oracle.PEOPLE
        else np.bincount(images.labels[acquired], minlength=len(classes)).tolist(),
        **fitted.machine,
    }
    history.write([*past, result], cycle + 1)
    evaluation_seconds, query_seconds = np.diff(clock)
    host.record(
        training_seconds=fitted.trained.seconds,
        evaluation_seconds=evaluation_seconds,
        query_seconds=query_seconds,
        compile_seconds=fitted.trained.compiling,
        images_per_second=images_passed / fitted.trained.seconds,
    )
    judged_on = result["judged_on"]
    print(f"cycle {cycle}: {len(pool):,} labels, {judged_on} accuracy {accuracy:.2%}, {len(acquired):,} more queried")


def expected(model: Learner, images: NDArray[np.uint8], acquired: NDArray[np.int64]) -> dict[str, list]:
    """What the network takes images for that people are asked about: predicted class, and its probability."""
    if not len(acquired):
        return {"predicted": [], "confidence": []}
    probabilities = model.predict(images, acquired, lambda count: None, ()).probabilities
    return {"predicted": probabilities.argmax(axis=1).tolist(), "confidence": short(probabilities.max(axis=1))}


def measure(predictions: Predictions, labels: NDArray[np.int64]) -> tuple[float, RankQuality]:
    """The share of images that are classified correctly (the paper, section 5, item 1).

    And how well the module ranks their losses, where there is one.

    Raises:
        Diverged: an output is no finite number.
    """
    # The loss of an epoch is that of the weights before each step: the very last step shows here alone.
    if not all(np.isfinite(output).all() for output in predictions if output is not None):
        raise Diverged("outputs are no finite numbers after the last epoch")
    accuracy = float((predictions.logits.argmax(axis=1) == labels).mean())
    if predictions.predicted_loss is None:
        return accuracy, RankQuality(None, None)
    return accuracy, rank_quality(predictions.predicted_loss, cross_entropy(predictions.logits, labels))
