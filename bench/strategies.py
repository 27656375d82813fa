"""What a query costs: python -m bench.strategies

Every strategy queries 1,000 of 49,000 images (512 features, 10 classes, 1,000 labelled) whose embeddings are made up,
beside scikit-activeml on as many of them as it can hold. Needs requirements-dev.txt. Half an hour on two cores.
"""

import os
import re
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from skactiveml.pool import Badge, CoreSet, ProbCover, TypiClust, uncertainty_scores
from skactiveml.utils import MISSING_LABEL
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from bench import machine
from lab import choices
from lab.data import labelled
from lab.process import ending
from lab.query.query import Batch, Query
from lab.query.strategies import probcover, typiclust
from lab.training.prediction import Output, Predictions

FEATURES, CLASSES, LABELLED = 512, 10, 1_000
IMAGES, QUERY = 49_000, 1_000
# Images of which scikit-activeml holds all that it makes: n × n distances, n × features × classes numbers.
SHARED, SHARED_QUERY = 4_000, 200
GROWTH = [(IMAGES // 4, QUERY), (IMAGES, QUERY // 4)]
FOLDER = "query/strategies"


class Measured(NamedTuple):
    """seconds: of the wall clock; cpu_seconds: of all threads."""

    batch: Batch
    seconds: float
    cpu_seconds: float


def query_of(images: int, k: int, seed: int = 0) -> Query:
    """A query among made-up images: as many Gaussians as there are classes, rectified, and a last layer that fits."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(CLASSES, FEATURES)).astype(np.float32)
    labels = draw.integers(CLASSES, size=LABELLED + images)
    points = draw.standard_normal((LABELLED + images, FEATURES), dtype=np.float32)
    points += centres[labels]
    np.maximum(points, 0, out=points)
    weight, bias = centres / np.float32(FEATURES**0.5), np.zeros(CLASSES, np.float32)
    pool = np.arange(LABELLED + images)

    def run(asked: NDArray[np.int64], outputs: Iterable[Output]) -> Predictions:
        logits = points[asked] @ weight.T
        return Predictions(
            logits,
            logits.max(axis=1) if "predicted_loss" in outputs else None,
            points[asked] if "embeddings" in outputs else None,
        )

    first = labelled.cold_start(pool[:LABELLED])
    other = labelled.extend(first, pool[LABELLED:][:k], np.zeros(k))
    return Query(
        k,
        pool[LABELLED:],
        pool[:LABELLED],
        labels[:LABELLED],
        run,
        lambda: (weight, bias),
        np.random.default_rng(seed),
        lambda: other,
        lambda asked: labels[asked],
    )


def measure(choose: Callable[[Query], Batch], query: Query) -> Measured:
    begun, worked = perf_counter(), process_time()
    batch = choose(query)
    return Measured(batch, perf_counter() - begun, process_time() - worked)


def others(query: Query) -> dict[str, Callable[[], NDArray[np.int64]]]:
    """scikit-activeml's choice of positions, for strategies that both have."""
    images = np.concatenate([query.labelled, query.candidates])
    found = query.run(images, ["embeddings"])
    points, p = found.embeddings, found.probabilities
    assert points is not None
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    y = np.full(len(images), MISSING_LABEL)
    y[: len(query.labelled)] = query.labels
    seed = int(np.random.default_rng(0).integers(2**31))  # as ours draw it
    small = {"batch_size": probcover.MINI_BATCH, "init_size": probcover.MINI_BATCH, "random_state": seed}
    clusters = MiniBatchKMeans(CLASSES, **small).fit_predict(unit)
    delta = float(np.sqrt(2 - 2 * probcover.similarity_at(probcover.PURITY, unit, clusters)))

    def asked(strategy, x: NDArray) -> NDArray[np.int64]:
        return strategy.query(x, y, batch_size=query.k) - len(query.labelled)

    def uncertain(method: str) -> NDArray[np.int64]:
        return np.argsort(-uncertainty_scores(p[len(query.labelled) :], method=method), kind="stable")[: query.k]

    class Fitted:
        """What Badge asks of a classifier: probabilities and embeddings of images."""

    return {
        "least_confidence": lambda: uncertain("least_confident"),
        "margin": lambda: uncertain("margin_sampling"),
        "entropy": lambda: uncertain("entropy"),
        "coreset": lambda: asked(CoreSet(random_state=0), points),
        "typiclust": lambda: asked(
            TypiClust(MISSING_LABEL, 0, MiniBatchKMeans, small, "n_clusters", typiclust.NEIGHBOURS), unit
        ),
        "probcover": lambda: asked(ProbCover(CLASSES, [delta], random_state=0), unit),
    }
