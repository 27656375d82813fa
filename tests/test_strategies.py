"""Strategies: a template that all must pass, a ranking known by hand for each, agreement with scikit-activeml."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skactiveml.pool import CoreSet, ProbCover, TypiClust, uncertainty_scores
from sklearn.cluster import MiniBatchKMeans

from lab import choices
from lab.data import labelled
from lab.query import hidden, replayed
from lab.query.query import Batch, Query
from lab.query.strategies import badge, probcover, typiclust
from lab.training.prediction import Predictions
from tests.conftest import POOL_SIZE
from tests.test_cycle import change, change_protocol, run

STRATEGIES = choices.names("query/strategies")
PREDICTING = [name for name in STRATEGIES if choices.load("query/strategies", name).PREDICTS_POOL]
# They choose sets, in which the later pick can have the higher score.
UNSORTED = ("badge", "typiclust")
FIRST = np.array([7, 3])  # the labelled images
CLASSES = 3


def query(
    candidates: np.ndarray,
    k: int | None = None,
    first: np.ndarray | None = None,
    *,
    logits: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    seed: int = 0,
) -> Query:
    """A query among the images 1000, 999 … with these embeddings; 7 and 3 are labelled.

    Logits come from a last layer of random weights where they are not given. The predicted loss is the first feature.
    Another run acquired the last k candidates, the last one first. The hidden label of an image is its number modulo 3.

    Args:
        candidates: (n, features). first: (2, features), embeddings of the labelled images; all ones without.
    """
    candidates = np.asarray(candidates, dtype=np.float32)
    first = np.ones((2, candidates.shape[1])) if first is None else first
    everything = np.concatenate([np.asarray(first, dtype=np.float32), candidates])
    images = 1000 - np.arange(len(candidates))
    rows = {image: row for row, image in enumerate([*FIRST[: len(first)].tolist(), *images.tolist()])}
    if weight is None:
        weight = np.random.default_rng(5).normal(size=(CLASSES, candidates.shape[1]))
    weight, bias = np.asarray(weight, dtype=np.float32), np.zeros(len(weight), np.float32)
    if logits is None:
        said = everything @ weight.T
    else:
        said = np.concatenate([np.zeros((len(first), logits.shape[1])), logits]).astype(np.float32)

    def run(asked: np.ndarray, outputs: tuple[str, ...]) -> Predictions:
        at = [rows[image] for image in asked.tolist()]
        return Predictions(
            said[at],
            everything[at, 0] if "predicted_loss" in outputs else None,
            everything[at] if "embeddings" in outputs else None,
        )

    k = len(candidates) if k is None else k
    other = labelled.extend(labelled.cold_start(FIRST), images[::-1][:k], np.arange(k, 0, -1) / 3)
    return Query(
        k,
        images,
        FIRST[: len(first)],
        np.arange(len(first)),
        run,
        lambda: (weight, bias),
        np.random.default_rng(seed),
        lambda: other,
        lambda asked: asked % CLASSES,
    )


def chosen_by(name: str, *args: object, **kwargs: object) -> Batch:
    return choices.load("query/strategies", name).choose(query(*args, **kwargs))


def noise(count: int, features: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, features))


POOLS = {
    "any": noise(9),
    "two": noise(2),
    "one": noise(1),
    "identical images": np.repeat(noise(1), 9, axis=0),
    "all zero": np.zeros((9, 6)),
    "two of each": np.repeat(noise(4), 2, axis=0),
    "like the labelled": np.ones((5, 6)),
    "huge": 1e6 * noise(9),
}


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_every_strategy_chooses_k_different_candidates(name: str, pool: np.ndarray) -> None:
    for k in {1, min(4, len(pool)), len(pool)}:
        batch = chosen_by(name, pool, k)
        assert batch.positions.shape == batch.scores.shape == (k,)
        assert np.issubdtype(batch.positions.dtype, np.integer)
        assert len({*batch.positions.tolist()} & {*range(len(pool))}) == k
        assert np.isfinite(batch.scores).all()
        assert name in UNSORTED or (np.diff(batch.scores) <= 0).all()


@pytest.mark.parametrize("pool", ["any", "two of each"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_answers_alike_each_time(name: str, pool: str) -> None:
    for one, other in zip(*(chosen_by(name, POOLS[pool], 4) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", [name for name in PREDICTING if name not in UNSORTED])
def test_of_equal_candidates_the_earlier_is_chosen(name: str) -> None:
    same = np.repeat(noise(1), 6, axis=0)
    # one hidden label for all, whatever the number of the image
    asked = query(same)._replace(hidden_labels=np.zeros_like)
    assert choices.load("query/strategies", name).choose(asked).positions.tolist() == [*range(6)]


@pytest.mark.parametrize("name", UNSORTED)
def test_of_equal_candidates_one_is_chosen_after_the_other(name: str) -> None:
    assert chosen_by(name, np.repeat(noise(1), 6, axis=0)).positions.tolist() == [*range(6)]


@pytest.mark.parametrize("name", PREDICTING)
def test_every_strategy_refuses_nan_by_name(name: str) -> None:
    pool = noise(9)
    pool[4] = np.nan
    with pytest.raises(
        ValueError, match=r"^(embeddings|probabilities|logits|predicted_loss) of 1 of \d+ images is NaN"
    ):
        chosen_by(name, pool, 2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_asks_once_and_for_no_more_than_it_may(name: str) -> None:
    strategy, given, asked = choices.load("query/strategies", name), query(noise(9), 2), []

    def run(images: np.ndarray, outputs: tuple[str, ...]) -> Predictions:
        asked.append(images.tolist())
        assert strategy.TRAINS_MODULE or "predicted_loss" not in outputs
        return given.run(images, outputs)

    def look(images: np.ndarray) -> np.ndarray:
        assert hidden.are_seen_by(name)
        return images % CLASSES

    strategy.choose(given._replace(run=run, hidden_labels=look))
    both = [*FIRST.tolist(), *given.candidates.tolist()]
    assert asked in ([[], [given.candidates.tolist()], [both]] if not strategy.PREDICTS_POOL else [[both[2:]], [both]])
    assert bool(asked) == strategy.PREDICTS_POOL


# A replay acquires as many as the other run did.
@pytest.mark.parametrize("name", [name for name in STRATEGIES if not replayed.is_asked_by(name)])
def test_a_cycle_takes_what_is_left_where_the_pool_is_smaller_than_the_query(name: str, laboratory: Path) -> None:
    change(strategy=name, allow_oracle=True)
    change_protocol("query", labels=POOL_SIZE)
    run(0)
    assert sorted(pd.read_csv(labelled.path_of(1))["index"]) == list(range(POOL_SIZE))


# A ranking known by hand for each


PROBABILITIES = np.array([[0.5, 0.49, 0.01], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2], [0.9, 0.05, 0.05]])


@pytest.mark.parametrize(
    ("name", "order", "score"),
    [
        ("least_confidence", [1, 0, 2, 3], 0.6),
        ("margin", [0, 1, 2, 3], 0.99),
        ("entropy", [1, 2, 0, 3], -0.4 * np.log(0.4) - 0.6 * np.log(0.3)),
    ],
)
def test_uncertainties_rank_as_by_hand(name: str, order: list[int], score: float) -> None:
    batch = chosen_by(name, noise(4), logits=np.log(PROBABILITIES))
    assert batch.positions.tolist() == order
    assert batch.scores[0] == pytest.approx(score)


def test_confident_images_are_told_apart() -> None:
    logits = np.array([[40.0, 0, 0], [20, 0, 0], [30, 0, 0]])
    for name in ("least_confidence", "entropy"):
        assert chosen_by(name, noise(3), 2, logits=logits).positions.tolist()[0] == 1


def test_loss_prediction_queries_the_highest_predicted_loss() -> None:
    batch = chosen_by("loss_prediction", np.array([[0.3], [0.9], [0.5], [0.9]]), 3)
    assert batch.positions.tolist() == [1, 3, 2]
    np.testing.assert_array_equal(batch.scores, np.array([0.9, 0.9, 0.5], np.float32))


def test_the_true_loss_is_that_of_the_hidden_labels() -> None:
    # images 1000, 999, 998 and 997 have the labels 1, 0, 2 and 1
    batch = chosen_by("cheating_true_loss", noise(4), logits=np.log(PROBABILITIES))
    assert batch.positions.tolist() == [3, 2, 1, 0]
    np.testing.assert_allclose(batch.scores, -np.log([0.05, 0.2, 0.4, 0.49])[[0, 1, 2, 3]], rtol=1e-5)


def test_bald_queries_where_samples_disagree() -> None:
    # ten features speak for class 0, ten for class 1
    weight = np.repeat(np.eye(2), 10, axis=1)
    pool = np.zeros((3, 20))
    pool[1, [0, 10]] = 20  # one strong feature for each class: either may be dropped
    pool[2, :10] = 3  # many features for one class
    batch = chosen_by("bald", pool, weight=weight)
    # an image that says nothing is as uncertain as can be, and all samples agree on it
    assert batch.positions.tolist() == [1, 2, 0]
    # of four equally likely masks two leave one class, and two leave both alike
    assert batch.scores[0] == pytest.approx(0.5 * np.log(2), abs=0.05)
    assert batch.scores[2] == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_less(batch.scores, np.log(2))


def test_coreset_takes_the_farthest_from_all_that_are_chosen() -> None:
    batch = chosen_by("coreset", np.array([[1, 0], [2, 0], [10, 0], [6, 0]]), first=np.array([[0, 0], [-3, 0]]))
    assert batch.positions.tolist() == [2, 3, 1, 0]
    np.testing.assert_allclose(batch.scores, [10, 4, 2, 1])


def on_a_circle(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_typiclust_takes_the_middle_of_the_largest_cluster_without_a_label() -> None:
    pool = on_a_circle(1, 2, 86, 88, 90, 92, 94, 179, 180, 181)
    assert chosen_by("typiclust", 3 * pool, 2, on_a_circle(0)).positions.tolist() == [4, 8]
    # of four more clusters with nothing between them each has one turn before any has two
    batch = chosen_by("typiclust", on_a_circle(0, 90, 180, 270), first=on_a_circle(1))
    assert batch.positions[-1] == 0


def test_probcover_takes_what_covers_the_most_of_what_is_not_covered() -> None:
    # 0 and 1 are covered by the labelled image; 92 covers five, 181 three
    points = np.float32(on_a_circle(0.5, 0, 1, 88, 90, 92, 94, 96, 180, 181, 182))
    positions, covered = probcover.cover(points, 1, 4, np.float32(np.cos(np.radians(4.5))))
    assert positions.tolist() == [4, 7, 0, 1]
    assert covered.tolist() == [5, 3, 0, 0]


def test_badge_takes_another_gradient_before_the_same_again() -> None:
    pool = np.array([[1.0, 2.0, 0.5], [3.0, -1.0, 0.5], [3.0, -1.0, 0.5], [0.1, 0.1, 0.1]])
    batch = chosen_by("badge", pool, weight=0.1 * noise(3, 3))
    lengths = [np.linalg.norm(gradient) for gradient in gradients(query(pool, weight=0.1 * noise(3, 3)))]
    first = int(np.argmax(lengths))
    assert batch.positions[0] == first == 1
    assert batch.scores[0] == pytest.approx(lengths[first] ** 2)
    assert batch.positions[-1] == 2


# Agreement


def gradients(asked: Query) -> np.ndarray:
    """Gradient embeddings as they are defined, (n, classes · features)."""
    h, p = asked.predict(asked.candidates, "embeddings", "probabilities")
    p[np.arange(len(p)), p.argmax(axis=1)] -= 1
    return (p[:, :, None] * h[:, None, :]).reshape(len(h), -1).astype(np.float64)


@pytest.mark.parametrize("seed", range(5))
def test_badge_equals_kmeans_plus_plus_on_gradients_that_are_formed(seed: int) -> None:
    asked = query(noise(200, 16, seed), 40, seed=seed)
    formed, draw = gradients(asked), np.random.default_rng(seed)
    picks = [int((formed**2).sum(axis=1).argmax())]
    while len(picks) < 40:
        nearest = ((formed[:, None] - formed[picks]) ** 2).sum(axis=2).min(axis=1)
        picks.append(int(draw.choice(len(formed), p=nearest / nearest.sum())))
    batch = badge.choose(asked)
    assert batch.positions.tolist() == picks
    assert batch.scores[1] == pytest.approx(((formed[picks[0]] - formed[picks[1]]) ** 2).sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "method"),
    [("least_confidence", "least_confident"), ("margin", "margin_sampling"), ("entropy", "entropy")],
)
def test_uncertainties_agree_with_scikit_activeml(name: str, method: str) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), size=300)
    batch = chosen_by(name, noise(300), logits=np.log(probabilities))
    expected = uncertainty_scores(probabilities, method=method)
    np.testing.assert_allclose(batch.scores, np.sort(expected)[::-1], atol=1e-5)
    np.testing.assert_allclose(expected[batch.positions], batch.scores, atol=1e-5)


def other_chooses(strategy: object, points: np.ndarray, k: int, batch: Batch) -> None:
    """Another's strategy, asked for one image at a time, finds none that is better than ours."""
    found = points.astype(np.float64)
    labels = np.full(len(found), np.nan)
    labels[:2] = 0, 1
    for position in batch.positions[:k]:
        _, ((*utilities,),) = strategy.query(found, labels, batch_size=1, return_utilities=True)
        assert utilities[2 + position] == pytest.approx(np.nanmax(utilities), rel=1e-4)
        labels[2 + position] = 0


@pytest.mark.parametrize("seed", range(3))
def test_coreset_agrees_with_scikit_activeml(seed: int) -> None:
    points = np.float32(noise(200, 8, seed))
    other_chooses(CoreSet(random_state=0), points, 30, chosen_by("coreset", points[2:], 30, points[:2]))


def blobs(sizes: list[int], features: int, seed: int) -> np.ndarray:
    """Points of unit length around one another centre for each size; the first two are of the first two centres."""
    draw = np.random.default_rng(seed)
    centres = 8 * np.linalg.qr(draw.normal(size=(features, features)))[0][: len(sizes)]
    kinds = np.concatenate([np.arange(2), draw.permutation(np.repeat(np.arange(len(sizes)), sizes))])
    points = centres[kinds] + draw.normal(size=(len(kinds), features)) / 2
    return np.float32(points / np.linalg.norm(points, axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(3))
def test_typiclust_agrees_with_scikit_activeml(seed: int) -> None:
    points, k = blobs([50, 45, 40, 35, 31, 28, 26, 24], 12, seed), 6
    batch = chosen_by("typiclust", points[2:], k, points[:2], seed=seed)
    settings = {
        "batch_size": typiclust.MINI_BATCH,
        "init_size": typiclust.MINI_BATCH,
        "random_state": int(np.random.default_rng(seed).integers(2**31)),
    }
    other = TypiClust(cluster_algo=MiniBatchKMeans, cluster_algo_dict=settings, k=typiclust.NEIGHBOURS, random_state=0)
    labels = np.full(len(points), np.nan)
    labels[:2] = 0, 1
    assert batch.positions.tolist() == (other.query(points, labels, batch_size=k) - 2).tolist()


@pytest.mark.filterwarnings("ignore:The maximum purity")  # none is asked for
@pytest.mark.parametrize("seed", range(3))
def test_probcover_agrees_with_scikit_activeml(seed: int) -> None:
    points = blobs([60, 50, 40], 12, seed)
    batch = chosen_by("probcover", points[2:], 20, points[:2], seed=seed)
    seed = int(np.random.default_rng(seed).integers(2**31))
    size = probcover.MINI_BATCH
    clusters = MiniBatchKMeans(CLASSES, batch_size=size, init_size=size, random_state=seed).fit_predict(points)
    delta = np.sqrt(2 - 2 * float(probcover.similarity_at(probcover.PURITY, points, clusters)))
    other_chooses(ProbCover(deltas=[delta], random_state=0), points, 20, batch)
    assert batch.scores[0] > 0.05


@pytest.mark.parametrize("purity", [0.5, 0.95, 1.0])
def test_the_radius_is_the_largest_at_which_enough_balls_are_pure(purity: float) -> None:
    points = blobs([60, 50, 40], 12, 0)
    clusters = np.random.default_rng(0).integers(3, size=len(points)) * (points[:, 0] > 0)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    foreign = np.where(clusters[:, None] != clusters, distances, np.inf).min(axis=1)
    delta = np.sqrt(2 - 2 * float(probcover.similarity_at(purity, points, clusters)))
    assert (foreign > delta - 1e-6).mean() >= purity
    assert (foreign > delta + 1e-3).mean() < purity


# Memory


@pytest.mark.parametrize("name", PREDICTING)
def test_memory_is_the_embeddings_once_and_a_few_numbers_an_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probcover, "CHUNK", 256)  # full at either size of the pool
    features, peaks = 256, []
    weight = np.float32(noise(CLASSES, features))
    for count in (8_000, 16_000):
        everything = np.float32(noise(count + 10, features))

        def run(asked: np.ndarray, outputs: tuple[str, ...], everything: np.ndarray = everything) -> Predictions:
            found = everything[asked]
            return Predictions(
                found @ weight.T, found[:, 0], np.ascontiguousarray(found) if "embeddings" in outputs else None
            )

        asked = query(noise(20), 20)._replace(
            candidates=np.arange(10, count + 10),
            labelled=np.arange(10),
            run=run,
            last_layer=lambda: (weight, np.zeros(CLASSES, np.float32)),
        )
        tracemalloc.start()
        choices.load("query/strategies", name).choose(asked)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    an_image = (peaks[1] - peaks[0]) / 8_000
    assert an_image < 4 * features * 1.2 + 200
