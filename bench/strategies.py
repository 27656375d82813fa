"""What a query costs: python -m bench.strategies

Every strategy queries 1,000 of 49,000 images (512 features, 10 classes, 1,000 labelled) whose embeddings are made up,
beside scikit-activeml on as many of them as it can hold. Needs requirements-dev.txt, and ten minutes on two idle cores.
"""

import re
from collections.abc import Callable, Collection
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from skactiveml.base import SkactivemlClassifier
from skactiveml.pool import Badge, CoreSet, ProbCover, TypiClust, UncertaintySampling
from sklearn.cluster import MiniBatchKMeans

from bench import machine
from lab import choices
from lab.data import labelled
from lab.process import ending
from lab.query.query import Query
from lab.query.strategies import probcover, typiclust
from lab.training.prediction import Output, Predictions

FEATURES, CLASSES, DIRECTIONS = 512, 10, 8
IMAGES, LABELLED, QUERY = 49_000, 1_000, 1_000
# Of these scikit-activeml holds all that it makes: n × n distances, n × features × classes numbers.
SHARED_IMAGES, SHARED_LABELLED, SHARED_QUERY = 4_000, 100, 200
FOLDER = "query/strategies"
# What a strategy's docstring says.
WORKS_ON, COST = r"Works on (.*?)[.;] ", r"Cost: (.*?)\.(?: Memory|$)"


class Measured(NamedTuple):
    """positions: int64 (k,). seconds: of the clock. cpu_seconds: of all threads together."""

    positions: NDArray[np.int64]
    seconds: float
    cpu_seconds: float


def main() -> None:
    rows = []
    for name in choices.names(FOLDER):
        rows.append(row_of(name))
        print(rows[-1], flush=True)
    machine.publish(
        "strategies",
        f"What a query of {QUERY:,} among {IMAGES:,} images costs",
        pd.DataFrame(rows),
        [
            f"{machine.heading(torch.device('cpu'))}; load of the machine at the end: {machine.load()}.",
            f"{FEATURES} features, {CLASSES} classes, {LABELLED:,} labelled; made-up embeddings, so no network is run. "
            "Seconds of the clock, with those of all threads in brackets; once each.",
            "n ÷ 4, k ÷ 4: seconds with a quarter of the images, and with a quarter of the query.",
            f"scikit-activeml 1.0.1, {SHARED_IMAGES:,} images, {SHARED_LABELLED} labelled and {SHARED_QUERY} queried: "
            "how many times its seconds are ours, and which share of the images both choose. It breaks ties at random. "
            "Agreement of TypiClust and ProbCover is on the same clusters. Its BADGE has known defects: agreement "
            "there is with gradient embeddings that are formed.",
        ],
    )


def row_of(name: str) -> dict[str, str]:
    """The table's row of a strategy."""
    about = " ".join((choices.load(FOLDER, name).__doc__ or "").split())
    source = re.search(r"\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)", about)
    works_on, cost = (found[1] if (found := re.search(what, about)) else "" for what in (WORKS_ON, COST))
    whole = measure(lambda query: ours(name, query), query_of(IMAGES, LABELLED, QUERY))
    quarters = [
        measure(lambda query: ours(name, query), query_of(images, LABELLED, k))
        for images, k in ((IMAGES // 4, QUERY), (IMAGES, QUERY // 4))
    ]
    ratio, agreement = beside(name)
    return {
        "strategy": f"`{name}`",
        "source": source[1] if source else "",
        "works on": works_on,
        "cost": cost,
        "seconds": f"{whole.seconds:.1f} ({whole.cpu_seconds:.1f})",
        "n ÷ 4": f"{quarters[0].seconds:.1f}",
        "k ÷ 4": f"{quarters[1].seconds:.1f}",
        "scikit-activeml": ratio,
        "agreement": agreement,
    }


def beside(name: str) -> tuple[str, str]:
    """How many times as long scikit-activeml takes, and the share of its choice that is ours."""
    query = query_of(SHARED_IMAGES, SHARED_LABELLED, SHARED_QUERY)
    choose = others(query).get(name)
    if choose is None:
        return "", ""
    mine = measure(lambda query: ours(name, query), query)
    other = measure(lambda _: choose(), query)
    expected = held_against(query).get(name, lambda: other.positions)()
    return (
        f"{other.seconds / mine.seconds:.0f} × ({other.seconds:.1f} s)",
        f"{np.isin(mine.positions, expected).mean():.0%}",
    )


def ours(name: str, query: Query) -> NDArray[np.int64]:
    return choices.load(FOLDER, name).choose(query).positions


def measure(choose: Callable[[Query], NDArray[np.int64]], query: Query) -> Measured:
    begun, worked = perf_counter(), process_time()
    positions = choose(query)
    return Measured(positions, perf_counter() - begun, process_time() - worked)


def query_of(images: int, first: int, k: int) -> Query:
    """A query among made-up images: one flat Gaussian a class, rectified, and a last layer that tells them apart.

    Args:
        first: how many are labelled.
    """
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((CLASSES, FEATURES), dtype=np.float32)
    labels, pool = draw.integers(CLASSES, size=first + images), np.arange(first + images)
    # Within a class few directions matter, as in embeddings of a trained network.
    directions = draw.standard_normal((DIRECTIONS, FEATURES), dtype=np.float32)
    points = (draw.standard_normal((len(pool), DIRECTIONS), dtype=np.float32) @ directions / 2).astype(np.float32)
    points += centres[labels]
    np.maximum(points, 0, out=points)
    weight, bias = centres / np.float32(FEATURES**0.5), np.zeros(CLASSES, np.float32)

    def run(asked: NDArray[np.int64], outputs: Collection[Output]) -> Predictions:
        logits = points[asked] @ weight.T
        embeddings = points[asked] if "embeddings" in outputs else None
        return Predictions(logits, logits.max(axis=1), embeddings)

    other_run = labelled.extend(labelled.cold_start(pool[:first]), pool[first:][:k], np.zeros(k))
    return Query(
        k,
        pool[first:],
        pool[:first],
        labels[:first],
        run,
        lambda: (weight, bias),
        np.random.default_rng(0),
        lambda: other_run,
        lambda asked: labels[asked],
    )


class LastLayer(SkactivemlClassifier):
    """What scikit-activeml asks for probabilities: here the images are their embeddings."""

    def __init__(self, weight=None, with_embeddings=False, classes=None, missing_label=np.nan) -> None:
        super().__init__(classes=classes, missing_label=missing_label)
        self.weight, self.with_embeddings = weight, with_embeddings

    def fit(self, X, y, sample_weight=None):  # noqa: N803  # scikit-learn's name
        return self

    def predict_proba(self, X):  # noqa: N803
        probabilities = softmax(X @ self.weight.T, axis=1)
        return (probabilities, X) if self.with_embeddings else probabilities


def others(query: Query) -> dict[str, Callable[[], NDArray[np.int64]]]:
    """What scikit-activeml chooses, for the strategies that both have."""
    points, unit, y, _ = _given(query)
    weight, _ = query.last_layer()

    def asked(strategy, x: NDArray[np.float32], **settings: object) -> NDArray[np.int64]:
        return np.asarray(strategy.query(x, y, batch_size=query.k, **settings)) - len(query.labelled)

    def by_network(strategy, with_embeddings: bool = False) -> Callable[[], NDArray[np.int64]]:
        network = LastLayer(weight, with_embeddings, list(range(CLASSES)))
        return lambda: asked(strategy, points, clf=network, fit_clf=False)

    return {
        "least_confidence": by_network(UncertaintySampling("least_confident", random_state=0)),
        "margin": by_network(UncertaintySampling("margin_sampling", random_state=0)),
        "entropy": by_network(UncertaintySampling("entropy", random_state=0)),
        "badge": by_network(Badge(random_state=0), with_embeddings=True),
        "coreset": lambda: asked(CoreSet(random_state=0), points),
        "typiclust": lambda: asked(TypiClust(random_state=0, k=typiclust.NEIGHBOURS), unit),
        "probcover": lambda: asked(ProbCover(CLASSES, random_state=0), unit),
    }


def held_against(query: Query) -> dict[str, Callable[[], NDArray[np.int64]]]:
    """What a choice is compared with where that is not scikit-activeml's usual one: its own with our clusters."""

    def same_clusters() -> NDArray[np.int64]:
        _, unit, y, kmeans = _given(query)
        strategy = TypiClust(np.nan, 0, MiniBatchKMeans, kmeans, k=typiclust.NEIGHBOURS)
        return strategy.query(unit, y, batch_size=query.k) - len(query.labelled)

    def same_radius() -> NDArray[np.int64]:
        _, unit, y, kmeans = _given(query)
        clusters = MiniBatchKMeans(CLASSES, **kmeans).fit_predict(unit)
        delta = np.sqrt(2 - 2 * float(probcover.similarity_at(probcover.PURITY, unit, clusters)))
        return ProbCover(CLASSES, [delta], random_state=0).query(unit, y, batch_size=query.k) - len(query.labelled)

    return {
        "badge": lambda: formed(query._replace(generator=np.random.default_rng(0))),
        "typiclust": same_clusters,
        "probcover": same_radius,
    }


def _given(query: Query) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64], dict[str, int]]:
    """Embeddings, the same of unit length, labels with NaN for none, and settings of k-means that give our clusters."""
    points = query.run(np.concatenate([query.labelled, query.candidates]), ["embeddings"]).embeddings
    assert points is not None
    y = np.full(len(points), np.nan)
    y[: len(query.labelled)] = query.labels
    kmeans = {"batch_size": typiclust.MINI_BATCH, "init_size": typiclust.MINI_BATCH}
    kmeans["random_state"] = int(np.random.default_rng(0).integers(2**31))
    return points, points / np.linalg.norm(points, axis=1, keepdims=True), y, kmeans


def formed(query: Query) -> NDArray[np.int64]:
    """BADGE's choice from gradient embeddings that are formed, n × classes × features numbers."""
    h, p = query.predict(query.candidates, "embeddings", "probabilities")
    p[np.arange(len(p)), p.argmax(axis=1)] -= 1
    gradients = (p[:, :, None].astype(np.float32) * h[:, None, :]).reshape(len(h), -1)
    picks = [int((gradients**2).sum(axis=1).argmax())]
    nearest = np.full(len(h), np.inf)
    while len(picks) < query.k:
        nearest = np.minimum(nearest, ((gradients - gradients[picks[-1]]) ** 2).sum(axis=1, dtype=np.float64))
        picks.append(int(query.generator.choice(len(h), p=nearest / nearest.sum())))
    return np.array(picks)


if __name__ == "__main__":
    ending.run(main)
