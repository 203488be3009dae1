"""A sample of items laid out on a plane by how near their vectors lie, and figures that say how far such a picture can be trusted."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

Floats = NDArray[np.float32]

NEIGHBOURS = 10
# What t-SNE is made for: every item looks at some 30 others, and below three times as many there is nothing for it to weigh.
_PERPLEXITY = 30
_LEAST_FOR_TSNE = 3 * _PERPLEXITY + 1
_ITERATIONS = 750
_SAMPLED = "category string, trained boolean, id_vector array<float>, title_vector array<float>"


def sample_items(items: DataFrame, *, count: int) -> DataFrame:
    """Return at most `count` items (item_id, title, category), as many of each category as of any other where it has them.

    Which ones is decided by a hash of the ID: the same catalogue gives the same sample, and a new item changes little of it.
    """
    chance = f.xxhash64("item_id", f.lit("projection"))
    place = f.row_number().over(Window.partitionBy("category").orderBy(chance, "item_id"))
    spread = items.select("item_id", "title", "category", place.alias("place"), chance.alias("chance"))
    return spread.orderBy("place", "chance", "item_id").limit(count).select("item_id", "title", "category")


def with_vectors(
    sample: DataFrame,
    *,
    id_vectors: Callable[[Sequence[str]], tuple[Floats, NDArray[np.bool_]]],
    encode: Callable[[Sequence[str]], Floats],
) -> pd.DataFrame:
    """Return the sample's category, trained (in the ID space), id_vector and title_vector, by category; a Spark worker computes them.

    Args:
        sample: see `sample_items`.
        id_vectors: gives items' vectors, (items, dim), and which were trained, (items,).
        encode: gives titles' vectors, (titles, dim). Both are called in a worker, so that the driver loads no model.
    """

    def vectors(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            ids, trained = id_vectors(batch.item_id.tolist())
            found = {"id_vector": list(ids), "title_vector": list(encode(batch.title.tolist()))}
            yield pd.DataFrame({"category": batch.category, "trained": trained, **found})

    return sample.orderBy("category", "item_id").coalesce(1).mapInPandas(vectors, _SAMPLED).toPandas()


def project(vectors: Floats) -> tuple[Floats, str]:
    """Return places on a plane, (items, 2) float32, and the method: t-SNE over cosine distances, PCA where items are too few for it.

    The same vectors give the same places. Some 5 seconds for 2,000 items of 64 dimensions on one core.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(vectors) < _LEAST_FOR_TSNE:
        if len(vectors) < 2:
            return np.zeros((len(vectors), 2), np.float32), "PCA"
        return PCA(n_components=2, svd_solver="full").fit_transform(vectors).astype(np.float32), "PCA"
    layout = TSNE(metric="cosine", init="pca", perplexity=_PERPLEXITY, max_iter=_ITERATIONS, random_state=0)
    # Threads that wait for each other made it three times as slow on two busy cores.
    with threadpool_limits(1):
        return layout.fit_transform(vectors).astype(np.float32), "t-SNE"


def trust(vectors: Floats, places: Floats, categories: NDArray[Any]) -> dict[str, float]:
    """Return three shares, 0 to 1, over each item's ten nearest others (fewer in a smaller sample).

    own_category: of those in the full space, how many are of the item's category; by_chance: how many would be if they were drawn;
    kept: how many are among the ten nearest in the picture too. An empty dict for less than two items.
    """
    count = min(NEIGHBOURS, len(vectors) - 1)
    if count < 1:
        return {}
    labels = pd.factorize(categories)[0]
    near = _nearest(vectors @ vectors.T, count)
    squares = (places**2).sum(1)
    seen = _nearest(2 * places @ places.T - squares, count)
    sizes = np.bincount(labels)
    return {
        "own_category": float((labels[near] == labels[:, None]).mean()),
        "by_chance": float((sizes * (sizes - 1)).sum() / (len(labels) * (len(labels) - 1))),
        "kept": float(np.mean([len(np.intersect1d(a, b)) / count for a, b in zip(near, seen, strict=True)])),
    }


def _nearest(similarity: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return each row's `count` highest columns but its own, (items, count); ties in the items' order."""
    np.fill_diagonal(similarity, -np.inf)
    nearest: NDArray[np.int64] = np.argsort(-similarity, axis=1, kind="stable")[:, :count]
    return nearest
