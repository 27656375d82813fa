"""One cycle of active learning: train on the labelled pool, test once, score the unlabelled pool, query the best."""

from time import perf_counter
from types import SimpleNamespace

import numpy as np

from lab import choices, params
from lab.data import history, labelled, prepared
from lab.data.dataset import Split
from lab.errors import Diverged
from lab.host import Host
from lab.measures.ranking import RankQuality, cross_entropy, rank_quality
from lab.model.resnet import count_flops, count_parameters
from lab.query.candidates import Candidates
from lab.query.selection import random_subset, top_k, unlabelled
from lab.seeds import Stream, generator_of, seed_of
from lab.training import device as devices
from lab.training import learner
from lab.training.checkpoint import Checkpoint, key_of
from lab.training.prediction import Predictions
from lab.training.train import Spent


def main(host: Host, number: str) -> None:
    """Run one cycle, from its labelled-index file to the next one.

    Args:
        number: of the cycle, from 0.

    Raises:
        BadInput: the labelled-index file or the device is refused.
        Diverged: training no longer computes finite numbers.
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
    cycle = int(number)
    device = devices.choose()
    devices.make_deterministic()
    precision = devices.precision_of(settings.numerics.precision, device)
    is_compiled = settings.numerics.compile and devices.can_compile(device)
    machine = {
        **devices.describe(device),
        "precision": devices.name_of(precision, device),
        "compiled": is_compiled,
    }
    past = history.read(cycle)
    train_split, test_split = prepared.read_split("train"), prepared.read_split("test")
    statistics = prepared.read_statistics()
    path = labelled.path_of(cycle)
    pool = labelled.read(path)
    labelled.check(pool, path, len(train_split.labels), cycle, settings.cold_start, settings.query.labels)
    indices = pool["index"].to_numpy()
    labelled_split = Split(train_split.images[indices], train_split.labels[indices])

    key = key_of({"cycle": cycle, **vars(settings)}, machine, [*labelled_split, statistics.mean, statistics.std])
    checkpoint = Checkpoint(host.scratch / f"cycle-{cycle}-{key[:16]}.pt", key, host)
    host.when_safe(checkpoint.remove)
    strategy = choices.load("query/strategies", settings.strategy)
    model = learner.build(
        settings.arch,
        settings.width,
        settings.loss_prediction.hidden if strategy.TRAINS_MODULE else None,
        statistics,
        device,
        seed=seed_of(Stream.WEIGHTS, settings.seed, cycle),
        module_seed=seed_of(Stream.MODULE_WEIGHTS, settings.seed, cycle),
        precision=precision,
    )
    run = _Run(host, settings, cycle, checkpoint)
    spent = run.fit(model, labelled_split, is_compiled)
    clock = [perf_counter()]
    accuracy, ranks = run.test(model, test_split)
    clock.append(perf_counter())
    acquired, scores = run.query(model.for_scoring(), strategy.score, train_split.images, indices)
    clock.append(perf_counter())

    labelled.write(labelled.extend(pool, acquired, scores), labelled.path_of(cycle + 1))
    images_passed = len(pool) * settings.training.epochs
    result = {
        "cycle": cycle,
        "labels": len(pool),
        "accuracy": accuracy,
        "test_images": len(test_split.labels),
        "parameters": count_parameters(model.network),
        "module_parameters": count_parameters(model.module) if model.module else 0,
        "training_images": images_passed,
        "flops": count_flops(model.network, train_split.images.shape[1]),
        "loss_spearman": ranks.spearman,
        "loss_pair_accuracy": ranks.pair_accuracy,
        "acquired_classes": np.bincount(train_split.labels[acquired], minlength=len(statistics.classes)).tolist(),
        **machine,
    }
    history.write([*past, result], cycle + 1)
    evaluation_seconds, query_seconds = np.diff(clock)
    host.record(
        training_seconds=spent.training,
        evaluation_seconds=evaluation_seconds,
        query_seconds=query_seconds,
        compile_seconds=spent.compiling,
        images_per_second=images_passed / spent.training,
    )
    print(f"cycle {cycle}: {len(pool):,} labels, test accuracy {accuracy:.2%}, {len(acquired):,} more queried")


class _Run:
    """The three parts of a cycle, each with its bar of progress."""

    def __init__(self, host: Host, settings: SimpleNamespace, cycle: int, checkpoint: Checkpoint) -> None:
        self.host, self.settings, self.cycle, self.checkpoint = host, settings, cycle, checkpoint

    def fit(self, model: learner.Learner, split: Split, is_compiled: bool) -> Spent:
        """Train the model in place on the labelled images."""
        training = self.settings.training
        title = f"cycle {self.cycle}, {len(split.labels):,} labels, training"
        bar = self.host.progress(title, training.epochs, "epochs")
        return model.fit(
            model.batches(split, training.batch_size, training.crop_padding, training.flip),
            vars(self.settings.optimizer),
            learner.recipe_of(training, self.settings.loss_prediction),
            lambda epoch: seed_of(Stream.BATCHES, self.settings.seed, self.cycle, epoch),
            # After a checkpoint it begins in the middle.
            lambda epoch: bar.update(
                epoch.number - bar.done, loss=f"{epoch.loss:.3f}", accuracy=f"{epoch.accuracy:.1%}"
            ),
            self.checkpoint,
            is_compiled=is_compiled,
        )

    def test(self, model: learner.Learner, split: Split) -> tuple[float, RankQuality]:
        """The share of test images that are classified correctly (the paper, section 5, item 1).

        And how well the module ranks their losses, where there is one.
        """
        test = self._predict(model, split.images, np.arange(len(split.labels)), "testing")
        # The loss of an epoch is that of the weights before each step: the very last step shows here alone.
        if not all(np.isfinite(output).all() for output in test if output is not None):
            raise Diverged(f"outputs are no finite numbers after epoch {self.settings.training.epochs}")
        accuracy = float((test.logits.argmax(axis=1) == split.labels).mean())
        if test.predicted_loss is None:
            return accuracy, RankQuality(None, None)
        return accuracy, rank_quality(test.predicted_loss, cross_entropy(test.logits, split.labels))

    def query(self, model: learner.Learner, score, images: np.ndarray, labelled_indices: np.ndarray):
        """The images to label next: int64 (k,), absolute indices, best first; and their scores, (k,)."""
        candidates = unlabelled(len(images), labelled_indices)
        query = self.settings.query
        if query.pool_subset is not None:
            draw = generator_of(Stream.POOL_SUBSET, self.settings.seed, self.cycle)
            candidates = random_subset(candidates, query.pool_subset, draw)
        if not len(candidates):
            return candidates, np.empty(0)
        scores = score(
            Candidates(
                candidates,
                lambda: self._predict(model, images, candidates, "scoring the pool"),
                generator_of(Stream.RANDOM_SCORES, self.settings.seed, self.cycle),
            )
        )
        best = top_k(scores, query.labels)
        return candidates[best], scores[best]

    def _predict(self, model: learner.Learner, images: np.ndarray, indices: np.ndarray, title: str) -> Predictions:
        bar = self.host.progress(f"cycle {self.cycle}, {title}", len(indices), "images")

        def on_batch(count: int) -> None:
            bar.update(count)
            self.host.check(self.checkpoint.kept)

        return model.predict(images, indices, on_batch)
