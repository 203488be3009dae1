"""The table `query_hits`: the memory's answer to each query of the sequences, by one code path for training and for scoring."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
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
    """Return one row per category and query that `held` gives: its `embedding`, and `memory_dates`, the weeks' ends on which it answers."""
    grid = memory.select(f.col("as_of_date").alias("memory_date")).distinct()
    # A few dozen dates.
    holding = memory.join(f.broadcast(grid), f.col("memory_date").between(f.col("as_of_date"), f.col("holds_to")))
    dates = holding.groupBy("category", "query").agg(f.sort_array(f.collect_set("memory_date")).alias("memory_dates"))
    return dates.join(vectors.select("query", "embedding"), "query")


def gone_items(versions: DataFrame) -> DataFrame:
    """Return item_id, gone_from and gone_to, the days for which the catalogues of `item_versions` held an item no more."""
    gone = versions.where("valid_to < describes_to")
    return gone.select("item_id", f.col("valid_to").alias("gone_from"), f.col("describes_to").alias("gone_to"))


def look_up(
    asked: DataFrame,
    memory: DataFrame,
    gone: DataFrame,
    vectors: DataFrame,
    indexes: Path,
    *,
    neighbours: int,
    min_similarity: float,
    top_products: int,
) -> DataFrame:
    """Return the rows of the table `query_hits` (without run_date): one per as-of date, category and query asked.

    The memory of the newest week that had ended by the as-of date answers: with the very query (after normalisation), else with
    the up to `neighbours` nearest ones of a cosine of at least `min_similarity`, their products merged; else there is no answer.
    Products that had left the catalogue by then are left out. Today's stock is not asked: nobody will know it of this day when its path is
    a training example, which has to read the same text.

    Args:
        asked: rows of `asked_queries`.
        memory: rows of `held`.
        gone: rows of `gone_items`.
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
    itself = keys.withColumn("query", f.col("wanted")).withColumn("similarity", f.lit(1.0))
    exact = _products(itself, memory, gone)
    missed = keys.join(exact, list(_KEY), "left_anti").join(vectors.select(f.col("query").alias("wanted"), "embedding"), "wanted", "left")
    near = _products(_near(missed, indexes, neighbours=neighbours, min_similarity=min_similarity), memory, gone)
    found = _merge(exact.unionByName(near), top_products=top_products)
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
    """Return what is asked with its normalised form `wanted` and its `memory_date`, the newest week's end up to the as-of date."""
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


def _products(found: DataFrame, memory: DataFrame, gone: DataFrame) -> DataFrame:
    """Return one row per key, query and product that the query has on the memory's date: `product`, `share` of the largest exposure."""
    holding = found.join(memory, ["category", "query"]).where(f.col("memory_date").between(f.col("as_of_date"), f.col("holds_to")))
    largest = f.col("products")[0]["exposure"].alias("largest")
    products = holding.select(*_KEY, "query", "similarity", largest, f.explode("products").alias("product"))
    products = products.withColumn("item_id", f.col("product.item_id"))
    # Hashed, not sorted: the catalogue's share of a partition fits in memory.
    by_then = (products["item_id"] == gone["item_id"]) & f.col("memory_date").between(f.col("gone_from"), f.date_sub("gone_to", 1))
    on_sale = products.join(gone.hint("shuffle_hash"), by_then, "left_anti")
    return on_sale.select(*_KEY, "query", "similarity", "product", (f.col("product.exposure") / f.col("largest")).alias("share"))


def _merge(products: DataFrame, *, top_products: int) -> DataFrame:
    """Return one row per key with its `neighbours` and `products`.

    A product scores the sum over the neighbours of similarity times its exposure's share of the neighbour's largest: with plain
    exposures, a neighbour that everybody types would outvote the one that is meant.
    """
    score = f.round(f.sum(f.col("similarity") * f.col("share")), 9)
    # Of a product whose title has changed, the nearest neighbour's.
    title = f.max(f.struct("similarity", "product.title"))["title"]
    voters = f.collect_list(f.struct(-f.col("similarity"), f.struct("query", "similarity").alias("one")))
    scored = products.groupBy(*_KEY, "product.item_id").agg(title.alias("title"), score.alias("score"), voters.alias("voters"))
    ranked = f.struct(-f.col("score"), "item_id", f.struct("item_id", "title", "score").alias("product"))
    best = f.slice(f.sort_array(f.collect_list(ranked)), 1, top_products)["product"]
    nearest = f.sort_array(f.array_distinct(f.flatten(f.collect_list("voters"))))["one"]
    return scored.groupBy(*_KEY).agg(best.alias("products"), nearest.alias("neighbours"))
