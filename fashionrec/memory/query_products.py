"""The table `query_products`: which products a query showed at the top, as known at the end of each date of a grid.

The grid goes back from the run date in steps of `as_of_every_days`, so that training examples read a memory of their own time.
"""

from collections.abc import Iterator
from datetime import date

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f
from pyspark.sql import types as t
from pyspark.sql.pandas.functions import pandas_udf

from fashionrec.memory.encoder import encode, encoder_name
from fashionrec.memory.normalise import normalise_query

_PRODUCT_COLUMNS = ("item_id", "title", "exposure", "click_count", "purchase_count")


def attribute_queries(events: DataFrame) -> DataFrame:
    """Return sessionized events with `query` normalised, and for item events the one of the latest search before them in the session.

    Item events without such a search, and queries without a letter or digit, are left out.
    """
    so_far = Window.partitionBy("user_id", "session_id").orderBy("event_at", "event_id")
    query = f.last(normalise_query(f.col("query")), ignorenulls=True).over(so_far)
    return events.withColumn("query", query).where("query <> ''")


def exposures(events: DataFrame, items: DataFrame, *, run_date: date, as_of_every_days: int, half_life_days: int) -> DataFrame:
    """Return one row per query, item and grid interval from the events of `attribute_queries`.

    `as_of_date` is the end of the interval, the first date of the grid that knows the events; `exposure` is decayed to it. `category`
    is null where the catalogue does not hold the item.
    """
    shown = events.where("action = 'search'").select("query", "event_date", f.posexplode("results").alias("place", "item_id"))
    position_weight = 1 / f.log2(f.col("place") + 2)
    shown = shown.select("query", "item_id", "event_date", position_weight.alias("weight"))
    acted = events.where("action <> 'search'").select(
        "query", "item_id", "event_date", *((f.col("action") == name).cast("long").alias(f"{name}_count") for name in ("click", "purchase"))
    )
    as_of_date = _grid_date(run_date, as_of_every_days)
    decayed = f.col("weight") * _decay(f.date_diff("as_of_date", "event_date"), half_life_days)
    rows = shown.unionByName(acted, allowMissingColumns=True).withColumn("as_of_date", as_of_date)
    return (
        rows.groupBy("query", "item_id", "as_of_date")
        .agg(
            f.coalesce(f.sum(decayed), f.lit(0.0)).alias("exposure"),
            f.count("weight").alias("shown_count"),
            *(f.coalesce(f.sum(name), f.lit(0)).alias(name) for name in ("click_count", "purchase_count")),
        )
        .join(items.select("item_id", "category", "title", "in_stock"), "item_id", "left")
    )


def results_without_item() -> Column:
    """Return the aggregate over `exposures` that counts the results which the catalogue does not hold."""
    return f.coalesce(f.sum(f.when(f.col("category").isNull(), f.col("shown_count"))), f.lit(0)).alias("results_without_item")


def build_query_products(
    events: DataFrame,
    shown: DataFrame,
    *,
    run_date: date,
    as_of_every_days: int,
    half_life_days: int,
    min_support: int,
    top_products: int,
    encoder_dim: int,
) -> DataFrame:
    """Return the rows of the table `query_products` (without run_date) from `attribute_queries` and its `exposures`.

    Today's stock is asked for the run date's memory only: a training example of March must not know what is sold out in May.
    """
    later = _later_dates(run_date, as_of_every_days)
    known = shown.where("category IS NOT NULL").withColumn("later_date", later)
    exposure = f.sum(f.col("exposure") * _decay(f.date_diff("later_date", "as_of_date"), half_life_days))
    products = (
        known.where((f.col("later_date") < f.lit(run_date)) | f.col("in_stock"))
        .groupBy("later_date", "category", "query", "item_id", "title")
        # Rounded: the order in which parts are added up is not fixed, and the last bits with it.
        .agg(
            f.round(exposure, 9).alias("exposure"),
            f.sum("click_count").alias("click_count"),
            f.sum("purchase_count").alias("purchase_count"),
        )
        .where("exposure > 0")
    )
    ranked = f.struct(
        -f.col("exposure"), -f.col("purchase_count"), -f.col("click_count"), "item_id", f.struct(*_PRODUCT_COLUMNS).alias("product")
    )
    best = f.slice(f.sort_array(f.collect_list(ranked)), 1, top_products)
    memory = products.groupBy("later_date", "category", "query").agg(f.transform(best, lambda one: one.product).alias("products"))
    searches = events.where("action = 'search'").withColumn("as_of_date", _grid_date(run_date, as_of_every_days))
    support = searches.groupBy("query", "as_of_date").count().withColumn("later_date", later)
    support = support.groupBy("later_date", "query").agg(f.sum("count").alias("search_count")).where(f.col("search_count") >= min_support)
    remembered = memory.join(support, ["later_date", "query"]).withColumnRenamed("later_date", "as_of_date")
    return _with_embedding(remembered, encoder_dim)


def _grid_date(run_date: date, every_days: int) -> Column:
    """Return the first date of the grid on or after `event_date`."""
    age = f.date_diff(f.lit(run_date), "event_date")
    return f.date_sub(f.lit(run_date), age - age % every_days)


def _later_dates(run_date: date, every_days: int) -> Column:
    """Return one row per date of the grid from `as_of_date` on."""
    return f.explode(f.sequence("as_of_date", f.lit(run_date), f.make_interval(days=f.lit(every_days))))


def _decay(days: Column, half_life_days: int) -> Column:
    return f.pow(f.lit(0.5), days / half_life_days)


def _with_embedding(memory: DataFrame, dim: int) -> DataFrame:
    # NumPy does in one call what Spark has no function for.
    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in batches:
            yield pd.Series(list(encode(batch.tolist(), dim=dim)), index=batch.index)

    # pyspark's stubs know only the form with a functionType, which its documentation advises against.
    vectors = pandas_udf(embed, t.ArrayType(t.FloatType()))  # type: ignore[call-overload]
    return memory.withColumn("embedding", vectors("query")).withColumn("encoder", f.lit(encoder_name(dim)))
