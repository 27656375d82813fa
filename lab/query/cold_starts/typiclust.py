"""Label first the most typical image of each cluster of pixels (Hacohen et al., 2022, algorithm 1).

The paper clusters what a network trained without labels sees. Here it is pixels, averaged to 8 × 8: images that are
alike in colours and coarse shapes. Typicality is the inverse mean distance to the 20 nearest neighbours in the cluster
(equation 4). k-means makes at most 500 clusters, the largest has the first turn.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

from lab.query.first import First

SIDE = 8
MOST_CLUSTERS = 500
NEIGHBOURS = 20
MINI_BATCH = 4096


def choose(first: First) -> NDArray[np.int64]:
    parts = np.array_split(first.pool, len(first.pool) // 1000 + 1)
    points = np.concatenate([averaged(first.images[part]) for part in parts])
    count = min(first.k, MOST_CLUSTERS)
    seed = int(first.generator.integers(2**31))
    kmeans = MiniBatchKMeans(count, batch_size=MINI_BATCH, init_size=MINI_BATCH, random_state=seed)
    clusters = kmeans.fit_predict(points)
    turn = np.empty(len(points), dtype=np.int64)
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(members) - 1), algorithm="brute")
        distances = neighbours.fit(points[members]).kneighbors()[0] if len(members) > 1 else np.zeros((1, 1))
        turn[members[distances.mean(axis=1).argsort(kind="stable")]] = np.arange(len(members))
    rank = np.argsort(-np.bincount(clusters, minlength=count), kind="stable").argsort()
    return first.pool[np.lexsort([rank[clusters], turn])[: first.k]]


def averaged(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images of 8 × 8 pixels, each the mean of those it stands for: float32 (n, 192), 0 … 255.

    Args:
        images: uint8 (n, size, size, 3). What does not divide by 8 is cut off at the right and below.
    """
    block = max(1, images.shape[1] // SIDE)
    side = images.shape[1] // block
    blocks = images[:, : side * block, : side * block].reshape(len(images), side, block, side, block, -1)
    return blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1)
