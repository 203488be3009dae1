"""The table `query_hits`: the memory's answer to each query of the sequences, by one code path for training and for scoring."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.memory.normalise import normalise_query
from fashionrec.memory.query_index import QueryIndexError, open_query_index
from fashionrec.memory.query_search import QueryIndex

_KEY = ("memory_date", "category", "wanted")
_NEAR = "memory_date date, category string, wanted string, query string, similarity double"


def asked_queries(sequences: DataFrame) -> DataFrame:
    """Return the distinct as_of_date, category and query (as typed) of the sequences' searches, whatever their split."""
    queries = sequences.select("as_of_date", "category", f.explode("actions.query").alias("query"))
    return queries.where("query IS NOT NULL").distinct()


def wanted_queries(sequences: DataFrame, memory: DataFrame) -> DataFrame:
    """Return the distinct normalised `query` of all that is asked and all that is remembered: what needs a vector."""
    asked = asked_queries(sequences).select(normalise_query(f.col("query")).alias("query")).where("query <> ''")
    return asked.unionByName(memory.select("query")).distinct()


def remembered_queries(memory: DataFrame, vectors: DataFrame) -> DataFrame:
    """Return one row per category and remembered query: its `embedding`, and `memory_dates`, the dates of the grid on which it holds."""
    grid = memory.select(f.col("as_of_date").alias("memory_date")).distinct()
    # A few dozen dates.
    holding = memory.join(f.broadcast(grid), f.col("memory_date").between(f.col("as_of_date"), f.col("holds_to")))
    dates = holding.groupBy("category", "query").agg(f.sort_array(f.collect_set("memory_date")).alias("memory_dates"))
    return dates.join(vectors.select("query", "embedding"), "query")


def look_up(
    asked: DataFrame,
    memory: DataFrame,
    vectors: DataFrame,
    indexes: Path,
    *,
    neighbours: int,
    min_similarity: float,
    top_products: int,
) -> DataFrame:
    """Return the rows of the table `query_hits` (without run_date): one per as-of date, category and query asked.

    The memory of the as-of date answers, or of the grid's last date before it: with the very query (after normalisation), else with
    the up to `neighbours` nearest ones of a cosine of at least `min_similarity`, their products merged; else there is no answer.

    Args:
        asked: rows of `asked_queries`.
        memory: rows of the table `query_products` of the run date.
        vectors: query and embedding, for every wanted query that is not remembered itself.
        indexes: folder of the run date's query indexes.
        neighbours: most remembered queries that answer one.
        min_similarity: least cosine of one that answers.
        top_products: most products of an answer.

    Raises:
        QueryIndexError: a query has no vector (inside Spark's own exception): it would be near nothing without anybody knowing why.
    """
    asked = _at_memory_dates(asked, memory)
    keys = asked.where("memory_date IS NOT NULL AND wanted <> ''").select(*_KEY).distinct()
    known = memory.select("category", "as_of_date", "holds_to", f.col("query").alias("wanted"))
    holding = keys.join(known, ["category", "wanted"]).where(f.col("memory_date").between(f.col("as_of_date"), f.col("holds_to")))
    exact = holding.select(*_KEY, f.col("wanted").alias("query"), f.lit(1.0).alias("similarity"))
    missed = keys.join(exact, list(_KEY), "left_anti").join(vectors.select(f.col("query").alias("wanted"), "embedding"), "wanted", "left")
    near = _near(missed, indexes, neighbours=neighbours, min_similarity=min_similarity)
    found = _merge(exact.unionByName(near), memory, top_products=top_products)
    match = f.when(f.col("neighbours").isNull(), "none").when(f.col("neighbours")[0]["query"] == f.col("wanted"), "exact").otherwise("near")
    return asked.join(found, list(_KEY), "left").select(
        "as_of_date",
        "category",
        f.col("asked").alias("query"),
        match.alias("match"),
        f.col("neighbours")[0]["similarity"].alias("similarity"),
        *(f.coalesce(name, f.array().cast(found.schema[name].dataType)).alias(name) for name in ("neighbours", "products")),
    )


def hit_rates() -> tuple[Column, ...]:
    """Return the aggregates over the rows of `look_up` that say which share of the queries was answered how; null without queries."""
    return tuple(f.avg((f.col("match") == match).cast("double")).alias(f"memory_{match}_rate") for match in ("exact", "near", "none"))


def _at_memory_dates(asked: DataFrame, memory: DataFrame) -> DataFrame:
    """Return what is asked with its normalised form `wanted` and its `memory_date`, the last date of the grid up to the as-of date."""
    grid = memory.select(f.col("as_of_date").alias("memory_date")).distinct()
    dates = asked.select("as_of_date").distinct()
    # A few hundred dates against a few dozen.
    newest = dates.join(f.broadcast(grid), f.col("memory_date") <= f.col("as_of_date")).groupBy("as_of_date").agg(f.max("memory_date"))
    asked = asked.withColumnRenamed("query", "asked").withColumn("wanted", normalise_query(f.col("asked")))
    return asked.join(newest.toDF("as_of_date", "memory_date"), "as_of_date", "left")


def _near(missed: DataFrame, indexes: Path, *, neighbours: int, min_similarity: float) -> DataFrame:
    """Return the keys of `missed` with their nearest remembered queries of the same date and category."""

    def search(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        # Rows come sorted by category: one index is mapped at a time.
        held: dict[str, QueryIndex] = {}
        for batch in batches:
            if without := int(batch["embedding"].isna().sum()):
                raise QueryIndexError(f"query_vectors: none for {without:,} queries of the sequences; run the step index_queries again")
            for group, rows in batch.groupby(["category", "memory_date"], sort=True):
                category, memory_date = cast("tuple[str, date]", group)
                if category not in held:
                    held.clear()
                    held[category] = open_query_index(indexes, category)
                wanted = np.stack(rows["embedding"].tolist()).astype(np.float32)
                places, similarities = held[category].nearest(wanted, memory_date, neighbours)
                found = rows.loc[np.repeat(rows.index, places.shape[1]), list(_KEY)].reset_index(drop=True)
                found["query"] = held[category].queries[places.ravel()]
                found["similarity"] = similarities.ravel()
                yield found[found["similarity"] >= min_similarity]

    spread = missed.repartitionByRange("category", "memory_date", "wanted").sortWithinPartitions("category", "memory_date", "wanted")
    return spread.select(*_KEY, "embedding").mapInPandas(search, _NEAR)


def _merge(found: DataFrame, memory: DataFrame, *, top_products: int) -> DataFrame:
    """Return one row per key with its `neighbours` and `products`.

    A product scores the sum over the neighbours of similarity times its exposure's share of the neighbour's largest: with plain
    exposures, a neighbour that everybody types would outvote the one that is meant.
    """
    holding = found.join(memory, ["category", "query"]).where(f.col("memory_date").between(f.col("as_of_date"), f.col("holds_to")))
    by_nearness = f.collect_list(f.struct(-f.col("similarity"), f.struct("query", "similarity").alias("one")))
    # Carried along by a window, not joined to the products afterwards: a join would search for near queries a second time.
    nearest = f.sort_array(by_nearness.over(Window.partitionBy(*_KEY)))["one"].alias("neighbours")
    answers = holding.select(*_KEY, "similarity", "products", f.col("products")[0]["exposure"].alias("largest"), nearest)
    products = answers.select(*_KEY, "similarity", "largest", "neighbours", f.explode("products").alias("product"))
    score = f.round(f.sum(f.col("similarity") * f.col("product.exposure") / f.col("largest")), 9)
    # Of a product whose title has changed, the nearest neighbour's.
    title = f.max(f.struct("similarity", "product.title"))["title"]
    neighbours = f.first("neighbours").alias("neighbours")
    scored = products.groupBy(*_KEY, "product.item_id").agg(title.alias("title"), score.alias("score"), neighbours)
    ranked = f.struct(-f.col("score"), "item_id", f.struct("item_id", "title", "score").alias("product"))
    best = f.slice(f.sort_array(f.collect_list(ranked)), 1, top_products)["product"]
    return scored.groupBy(*_KEY).agg(best.alias("products"), neighbours)
