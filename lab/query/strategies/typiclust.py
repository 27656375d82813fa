"""TypiClust: query the most typical image of each cluster that has no label (Hacohen et al., 2022, algorithm 1).

The typicality of an image is the inverse of its mean distance to its 20 nearest neighbours (equation 4), here those
among the candidates of its cluster. k-means makes as many clusters as there are labels with the query, at most 500, in
mini-batches. Clusters with the fewest labels come first, of equal ones the larger; where more images are asked for than
there are clusters, each has its turn again. No cluster is too small, unlike in the authors' code.

Works on embeddings of unit length; the paper's are of a network trained without labels, these of the network that is
trained here. Cost: one pass over the pool and the labelled set; up to 500 · n · features operations an iteration of
k-means, and Σ s² · features for clusters of s images. Memory: the embeddings, a few numbers an image, one cluster and
its neighbours.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from lab.query.query import Batch, Query

TRAINS_MODULE = False
PREDICTS_POOL = True

MOST_CLUSTERS = 500
NEIGHBOURS = 20
MINI_BATCH = 4096
CELLS = 2**22  # distances at once
# A mean distance under which images of unit length are the same, whatever float32 says.
SAME = np.float32(1e-3)


def choose(query: Query) -> Batch:
    """Scores are typicalities, float32. The order is that of the clusters' turns, and not of the scores."""
    (points,) = query.predict(np.concatenate([query.labelled, query.candidates]), "embeddings")
    points /= np.maximum(np.sqrt(np.einsum("ij,ij->i", points, points)), np.finfo(np.float32).tiny)[:, None]
    count = min(len(query.labelled) + query.k, MOST_CLUSTERS, len(points))
    seed = int(query.generator.integers(2**31))
    # scikit-learn would draw the first centres from three batches, which takes longer than all the rest.
    kmeans = MiniBatchKMeans(count, batch_size=MINI_BATCH, init_size=MINI_BATCH, random_state=seed)
    clusters = kmeans.fit_predict(points)
    sizes = np.bincount(clusters, minlength=count)
    labels = np.bincount(clusters[: len(query.labelled)], minlength=count)
    points, clusters = points[len(query.labelled) :], clusters[len(query.labelled) :]

    # Whose turn it is follows from the sizes: only clusters that have one are looked into.
    rank = np.lexsort([-sizes, labels]).argsort()
    turn = np.empty(len(points), dtype=np.int64)
    by_cluster = np.argsort(clusters, kind="stable")
    counts = np.bincount(clusters, minlength=count)
    turn[by_cluster] = np.arange(len(points)) - np.repeat(counts.cumsum() - counts, counts)
    typicality = np.empty(len(points), dtype=np.float32)
    for cluster in np.unique(clusters[np.lexsort([rank[clusters], turn])[: query.k]]):
        members = np.flatnonzero(clusters == cluster)
        typicality[members] = _typicality(points[members])
        turn[members[np.argsort(-typicality[members], kind="stable")]] = np.arange(len(members))
    positions = np.lexsort([rank[clusters], turn])[: query.k]
    return Batch(positions, typicality[positions])


def _typicality(members: NDArray[np.float32]) -> NDArray[np.floating]:
    """Of each member of a cluster, (s,). members: float32 (s, features)."""
    neighbours = min(NEIGHBOURS, len(members) - 1)
    if neighbours == 0:
        return np.ones(1, dtype=np.float32)
    lengths = np.einsum("ij,ij->i", members, members)
    found, rows = np.empty(len(members), dtype=np.float32), max(1, CELLS // len(members))
    for start in range(0, len(members), rows):
        part = np.arange(start, min(start + rows, len(members)))
        squared = lengths[part, None] + lengths - 2 * (members[part] @ members.T)
        squared[part - start, part] = np.inf  # no image is its own neighbour
        nearest = np.partition(squared, neighbours - 1, axis=1)[:, :neighbours]
        found[part] = np.sqrt(nearest.clip(min=0)).mean(axis=1)
    return (1 / np.maximum(found, SAME)).astype(np.float32)
