"""ProbCover: query the images whose balls cover the most of the pool (Yehuda et al., 2022, algorithm 1).

An image covers all that are no farther than a radius δ. What labelled images cover is covered; each pick is the
candidate that covers the most of the rest. δ is the largest radius at which 95 % of the balls are pure: hold images of
one cluster alone, where k-means makes as many clusters as there are classes (the paper's rule, on pseudo-labels).

Works on embeddings of unit length; the paper's are of a network trained without labels, these of the network that is
trained here. Cost: one pass over the pool and the labelled set; up to 2.5 n² · features operations (distances for δ,
for what each image covers, and of each image once it is covered) and k · n · features. Memory: the embeddings, a few
numbers an image, and distances in chunks of bounded size.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from lab.query.query import Batch, Query

TRAINS_MODULE = False
PREDICTS_POOL = True

PURITY = 0.95
MINI_BATCH = 4096
CHUNK = 2048  # images: their distances to as many others at once take 16 MB
# A scalar product above which images of unit length are the same, whatever rounding says.
SAME = np.float32(1 - 1e-6)

# What an image covers once it is picked: less than rounding can make of any other.
PICKED = np.iinfo(np.int64).min // 2

Points = NDArray[np.float32]


def choose(query: Query) -> Batch:
    """Scores are shares of the labelled set and the pool that a pick covers and none before it does, float64."""
    (points,) = query.predict(np.concatenate([query.labelled, query.candidates]), "embeddings")
    points /= np.maximum(np.sqrt(np.einsum("ij,ij->i", points, points)), np.finfo(np.float32).tiny)[:, None]
    classes = len(query.last_layer()[1])
    seed = int(query.generator.integers(2**31))
    kmeans = MiniBatchKMeans(min(classes, len(points)), batch_size=MINI_BATCH, init_size=MINI_BATCH, random_state=seed)
    clusters = kmeans.fit_predict(points)
    positions, covered = cover(points, len(query.labelled), query.k, similarity_at(PURITY, points, clusters))
    return Batch(positions, covered / len(points))


def similarity_at(purity: float, points: Points, clusters: NDArray[np.integer]) -> np.float32:
    """The scalar product of images that are δ apart: 1 − δ²/2 at unit length.

    A ball is pure if δ is less than the distance to the nearest image of another cluster: δ is a quantile of these.

    Args:
        purity: the least share of pure balls, 0 … 1.
        points: float32 (n, features), of unit length.
        clusters: (n,), of each.
    """
    nearest = np.full(len(points), -1, dtype=np.float32)
    parts = [part for cluster in np.unique(clusters) for part in _chunks(np.flatnonzero(clusters == cluster))]
    for rows, columns in combinations(parts, 2):
        if clusters[rows[0]] != clusters[columns[0]]:
            products = points[rows] @ points[columns].T
            nearest[rows] = np.maximum(nearest[rows], products.max(axis=1))
            nearest[columns] = np.maximum(nearest[columns], products.max(axis=0))
    impure = int((1 - purity) * len(points))
    # Of the others the closest to another cluster is just out of reach.
    closest = np.partition(nearest, len(points) - 1 - impure)[len(points) - 1 - impure]
    return min(np.nextafter(closest, np.float32(2)), SAME)


def cover(points: Points, labelled: int, k: int, least: np.float32) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Greedy maximum coverage.

    Args:
        points: float32 (n, features), of unit length; the labelled ones first.
        labelled: how many of them are labelled.
        k: how many of the others to pick.
        least: the scalar product from which on a point covers another.

    Returns:
        positions among the others, int64 (k,), and how many points each covers that none before it does, int64 (k,);
        of equal ones the earlier is picked.
    """
    others = points[labelled:]
    is_covered = _counts(points, points, np.arange(labelled), least) > 0
    gains = _counts(others, points, np.flatnonzero(~is_covered), least)
    positions, covered = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.int64)
    for number in range(k):
        pick = gains.argmax()
        positions[number], covered[number] = pick, gains[pick]
        if gains[pick] > 0:
            found = np.flatnonzero(~is_covered & (points @ others[pick] >= least))
            is_covered[found] = True
            gains -= _counts(others, points, found, least)
        gains[pick] = PICKED
    return positions, covered


def _counts(centres: Points, points: Points, chosen: NDArray[np.int64], least: np.float32) -> NDArray[np.int64]:
    """How many of the chosen points each centre covers."""
    counts = np.zeros(len(centres), dtype=np.int64)
    for part in _chunks(chosen):
        columns, rows = points[part].T, CHUNK**2 // len(part)
        for start in range(0, len(centres), rows):
            counts[start : start + rows] += (centres[start : start + rows] @ columns >= least).sum(axis=1)
    return counts


def _chunks(array: NDArray) -> list[NDArray]:
    return np.array_split(array, range(CHUNK, len(array), CHUNK)) if len(array) else []
