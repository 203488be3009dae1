"""The table `query_hits`: the memory's answer to each query of the sequences, by one code path for training and for scoring."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from fashionrec.memory.encoder import encode
from fashionrec.memory.normalise import normalise_query

_KEY = ("memory_date", "category", "wanted")
_NEAR = "memory_date date, category string, wanted string, query string, similarity double"


def look_up(sequences: DataFrame, memory: DataFrame, *, neighbours: int, min_similarity: float, top_products: int) -> DataFrame:
    """Return the rows of the table `query_hits` (without run_date): one per as-of date, category and query of the sequences.

    The newest memory on or before the as-of date answers: with the very query (after normalisation), else with the up to
    `neighbours` nearest ones of a cosine of at least `min_similarity`, their products merged; else there is no answer.
    """
    memory = memory.withColumnRenamed("as_of_date", "memory_date")
    asked = _asked(sequences, memory)
    keys = asked.where("memory_date IS NOT NULL AND wanted <> ''").select(*_KEY).distinct()
    known = memory.select("memory_date", "category", f.col("query").alias("wanted"))
    exact = keys.join(known, list(_KEY)).select(*_KEY, f.col("wanted").alias("query"), f.lit(1.0).alias("similarity"))
    missed = keys.join(known, list(_KEY), "left_anti")
    near = _near(missed, memory, neighbours=neighbours, min_similarity=min_similarity)
    found = _merge(exact.unionByName(near), memory, top_products=top_products)
    match = f.when(f.col("similarity").isNull(), "none").when(f.col("is_exact"), "exact").otherwise("near")
    return asked.join(found, list(_KEY), "left").select(
        "as_of_date",
        "category",
        f.col("asked").alias("query"),
        match.alias("match"),
        "similarity",
        f.coalesce("products", f.array().cast(found.schema["products"].dataType)).alias("products"),
    )


def hit_rates() -> tuple[Column, ...]:
    """Return the aggregates over the rows of `look_up` that say which share of the queries was answered how; null without queries."""
    return tuple(f.avg((f.col("match") == match).cast("double")).alias(f"memory_{match}_rate") for match in ("exact", "near", "none"))


def _asked(sequences: DataFrame, memory: DataFrame) -> DataFrame:
    """Return the distinct as-of dates, categories and queries, each with its normalised form `wanted` and its `memory_date`."""
    actions = sequences.select("as_of_date", "category", f.explode("actions.query").alias("asked")).where("asked IS NOT NULL").distinct()
    grid = memory.select("memory_date").distinct()
    dates = actions.select("as_of_date").distinct()
    # A few hundred dates against a few dozen.
    newest = dates.join(f.broadcast(grid), f.col("memory_date") <= f.col("as_of_date")).groupBy("as_of_date").agg(f.max("memory_date"))
    return actions.join(newest.toDF("as_of_date", "memory_date"), "as_of_date", "left").withColumn(
        "wanted", normalise_query(f.col("asked"))
    )


def _near(missed: DataFrame, memory: DataFrame, *, neighbours: int, min_similarity: float) -> DataFrame:
    """Return the keys of `missed` with their nearest remembered queries of the same date and category."""

    def search(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
        if left.empty or right.empty:
            return pd.DataFrame(columns=[*_KEY, "query", "similarity"])
        # Sorted, so that equally near queries come in the same order whatever Spark's order is.
        right = right.sort_values("query")
        vectors = np.stack(right["embedding"].tolist()).astype(np.float32)
        wanted = encode(left["wanted"].tolist(), dim=vectors.shape[1])
        places, similarities = nearest(wanted, vectors, count=neighbours)
        found = left.loc[np.repeat(left.index, places.shape[1])].reset_index(drop=True)
        found["query"] = right["query"].to_numpy()[places.ravel()]
        found["similarity"] = similarities.ravel()
        return found[found["similarity"] >= min_similarity]

    group = ("memory_date", "category")
    vectors = memory.select(*group, "query", "embedding")
    return missed.groupBy(*group).cogroup(vectors.groupBy(*group)).applyInPandas(search, _NEAR)


def nearest(wanted: NDArray[np.float32], vectors: NDArray[np.float32], *, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which rows of `vectors` (n, dim) are nearest to each of `wanted` (m, dim), and their cosines.

    Both have the shape (m, min(count, n)), nearest first.
    """
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    similarities, places = index.search(np.ascontiguousarray(wanted), min(count, len(vectors)))
    # The last bits of a product depend on how the batch was cut.
    return places, similarities.astype(np.float64).round(6)


def _merge(found: DataFrame, memory: DataFrame, *, top_products: int) -> DataFrame:
    """Return one row per key: the products of its remembered queries by exposure, weighted with the similarity."""
    products = memory.select("memory_date", "category", "query", f.explode("products").alias("product"))
    scored = found.join(products, ["memory_date", "category", "query"]).groupBy(*_KEY, "product.item_id", "product.title")
    score = f.round(f.sum(f.col("similarity") * f.col("product.exposure")), 9)
    scored_items = scored.agg(
        score.alias("score"), f.max("similarity").alias("similarity"), f.bool_or(f.col("query") == f.col("wanted")).alias("is_exact")
    )
    ranked = f.struct(-f.col("score"), "item_id", f.struct("item_id", "title", "score").alias("product"))
    best = f.slice(f.sort_array(f.collect_list(ranked)), 1, top_products)
    return scored_items.groupBy(*_KEY).agg(
        f.transform(best, lambda one: one.product).alias("products"),
        f.max("similarity").alias("similarity"),
        f.bool_or("is_exact").alias("is_exact"),
    )
