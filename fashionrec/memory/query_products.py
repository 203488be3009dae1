"""The table `query_products`: which products a query showed at the top, as known at the end of each date of a grid.

The grid goes back from the run date in steps of `as_of_every_days`, so that training examples read a memory of their own time. Between two
dates on which a query is asked all its exposures decay alike and their order stays, so it has rows for those dates only, and for the run
date: a query of the tail has few.
"""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

_PRODUCT_COLUMNS = ("item_id", "title", "exposure", "click_count", "purchase_count")
_WORDINGS = 3
_LAST = date(9999, 12, 31)


def catalogue(versions: DataFrame, items: DataFrame) -> DataFrame:
    """Return the descriptions of `item_versions`, each with the item's `withdrawn_date` and `is_on_sale`.

    `withdrawn_date` is that of the first catalogue that held the item no more, null while it holds; `is_on_sale` says whether the item
    is in stock in `items`, the run date's catalogue.
    """
    last = versions.where(f.col("describes_to") == f.lit(_LAST)).select("item_id", f.col("valid_to").alias("withdrawn_date"))
    on_sale = items.where("in_stock").select("item_id", f.lit(True).alias("is_on_sale"))
    described = versions.select("item_id", "describes_from", "describes_to", "category", "title")
    return described.join(last, "item_id").join(on_sale, "item_id", "left").fillna(False, "is_on_sale")


def exposures(events: DataFrame, described: DataFrame, *, run_date: date, as_of_every_days: int, half_life_days: int) -> DataFrame:
    """Return one row per query, item and interval of the grid, from the events of `attribute_queries` and the rows of `catalogue`.

    `as_of_date` is the end of the interval, the first date of the grid that knows the events; `exposure` is decayed to it. Title and
    category are the item's of that date, null where the catalogue never knew it.
    """
    searches = events.where("action = 'search' AND NOT is_prefix")
    shown = searches.select("query", "event_date", f.posexplode("results").alias("place", "item_id"))
    shown = shown.select("query", "item_id", "event_date", (1 / f.log2(f.col("place") + 2)).alias("weight"))
    acted = events.where("action <> 'search'").select(
        "query", "item_id", "event_date", *((f.col("action") == name).cast("long").alias(f"{name}_count") for name in ("click", "purchase"))
    )
    decayed = f.col("weight") * _decay(f.date_diff("as_of_date", "event_date"), half_life_days)
    rows = shown.unionByName(acted, allowMissingColumns=True).withColumn("as_of_date", _grid_date(run_date, as_of_every_days))
    by_item = rows.groupBy("query", "item_id", "as_of_date").agg(
        f.coalesce(f.sum(decayed), f.lit(0.0)).alias("exposure"),
        f.count("weight").alias("shown_count"),
        *(f.coalesce(f.sum(name), f.lit(0)).alias(name) for name in ("click_count", "purchase_count")),
    )
    that_day = (by_item["as_of_date"] >= described["describes_from"]) & (by_item["as_of_date"] < described["describes_to"])
    # Hashed, not sorted: the catalogue's share of a partition fits in memory.
    joined = by_item.join(described.hint("shuffle_hash"), (by_item["item_id"] == described["item_id"]) & that_day, "left")
    return joined.select(by_item["*"], "category", "title", "withdrawn_date", "is_on_sale")


def results_without_item() -> Column:
    """Return the aggregate over `exposures` that counts the results which no catalogue ever held."""
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
) -> DataFrame:
    """Return the rows of the table `query_products` (without run_date) from `attribute_queries` and its `exposures`.

    Today's stock is asked for the run date's rows only: a training example of March must not know what is sold out in May.
    """
    evidence = _evidence(events, run_date=run_date, as_of_every_days=as_of_every_days, min_support=min_support)
    known = shown.where("category IS NOT NULL").withColumnRenamed("as_of_date", "shown_date")
    decayed = f.col("exposure") * _decay(f.date_diff("as_of_date", "shown_date"), half_life_days)
    still_sold = f.when(f.col("as_of_date") == f.lit(run_date), f.col("is_on_sale")).otherwise(
        f.coalesce(f.col("withdrawn_date") > f.col("as_of_date"), f.lit(True))
    )
    products = (
        known.join(evidence.select("query", "as_of_date"), "query")
        .where(f.col("shown_date") <= f.col("as_of_date"))
        .where(still_sold)
        .groupBy("as_of_date", "category", "query", "item_id")
        # Rounded: the order in which parts are added up is not fixed, and the last bits with it.
        .agg(
            f.max_by("title", "shown_date").alias("title"),
            f.round(f.sum(decayed), 9).alias("exposure"),
            f.sum("click_count").alias("click_count"),
            f.sum("purchase_count").alias("purchase_count"),
        )
        .where("exposure > 0")
    )
    ranked = f.struct(
        -f.col("exposure"), -f.col("purchase_count"), -f.col("click_count"), "item_id", f.struct(*_PRODUCT_COLUMNS).alias("product")
    )
    best = f.slice(f.sort_array(f.collect_list(ranked)), 1, top_products)
    memory = products.groupBy("as_of_date", "category", "query").agg(f.transform(best, lambda one: one.product).alias("products"))
    following = f.lead("as_of_date").over(Window.partitionBy("category", "query").orderBy("as_of_date"))
    # The run date has rows of its own: without one, nothing of the query can be bought today.
    until = f.when(f.col("as_of_date") == f.lit(run_date), f.lit(run_date)).otherwise(f.date_sub(f.coalesce(following, f.lit(run_date)), 1))
    return memory.withColumn("holds_to", until).join(evidence, ["query", "as_of_date"])


def _evidence(events: DataFrame, *, run_date: date, as_of_every_days: int, min_support: int) -> DataFrame:
    """Return query, as_of_date, wordings, search_count and user_count: for the grid's dates on which it was asked, and the run date.

    Up to each date; where it has its `min_support` different users.
    """
    searches = events.where("action = 'search' AND NOT is_prefix").withColumn("asked_date", _grid_date(run_date, as_of_every_days))
    newcomers = searches.groupBy("query", "user_id").agg(f.min("asked_date").alias("asked_date"))
    users = newcomers.groupBy("query", "asked_date").agg(f.count("*").alias("user_count"))
    # Most queries are asked once: they go before anything is joined.
    supported = users.groupBy("query").agg(f.sum("user_count").alias("_users")).where(f.col("_users") >= min_support).select("query")
    typed = searches.groupBy("query", "wording", "asked_date").agg(f.count("*").alias("search_count")).join(supported, "query")
    dates = f.array_union(f.collect_set("asked_date"), f.array(f.lit(run_date)))
    asked = typed.groupBy("query").agg(f.explode(dates).alias("as_of_date"))
    so_far = asked.join(typed, "query").where(f.col("asked_date") <= f.col("as_of_date")).groupBy("query", "as_of_date", "wording")
    commonest = f.sort_array(f.collect_list(f.struct(-f.col("search_count"), "wording")))
    wordings = (
        so_far.agg(f.sum("search_count").alias("search_count"))
        .groupBy("query", "as_of_date")
        .agg(f.slice(commonest, 1, _WORDINGS)["wording"].alias("wordings"), f.sum("search_count").alias("search_count"))
    )
    askers = asked.join(users, "query").where(f.col("asked_date") <= f.col("as_of_date"))
    askers = askers.groupBy("query", "as_of_date").agg(f.sum("user_count").alias("user_count")).where(f.col("user_count") >= min_support)
    return wordings.join(askers, ["query", "as_of_date"])


def _grid_date(run_date: date, every_days: int) -> Column:
    """Return the first date of the grid on or after `event_date`."""
    age = f.date_diff(f.lit(run_date), "event_date")
    return f.date_sub(f.lit(run_date), age - age % every_days)


def _decay(days: Column, half_life_days: int) -> Column:
    return f.pow(f.lit(0.5), days / half_life_days)
