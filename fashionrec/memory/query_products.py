"""The table `query_products`: which products a query showed at the top, as known at the end of each calendar week.

A week's rows come from what arrived in it and from the rows before: exposures decay, counts add. So they are the same whatever run makes
them, are written once, and cost what the week's events cost. Between two weeks in which something happens to a query, all its exposures
decay alike and their order stays: it has rows for those weeks only, and a query of the tail has few.
"""

from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

_PRODUCT_COLUMNS = ("item_id", "title", "exposure", "click_count", "purchase_count")
_WORDINGS = 3
# Users of a query are told apart up to this number: enough for any support, without an array that grows with a query's fame.
MOST_ASKERS = 100
# Products carried on for each one that is shown: it has to come this far down before its past is forgotten.
_CARRIED = 10


def shown_products(events: DataFrame, versions: DataFrame, *, as_of_date: date, half_life_days: int) -> DataFrame:
    """Return one row per query and item of a week: `exposure`, decayed to the as-of date, `shown_count`, `click_count`, `purchase_count`.

    Title and category are the item's of the as-of date, null where no catalogue that was known then held it.

    Args:
        events: rows of `attribute_queries` that arrived in the week.
        versions: rows of the table `item_versions`, from the catalogues that were known then.
        as_of_date: the last day of the week.
        half_life_days: days after which an exposure counts half.
    """
    searches = events.where("action = 'search' AND NOT is_prefix")
    shown = searches.select("query", "event_date", f.posexplode("results").alias("place", "item_id"))
    weight = 1 / f.log2(f.col("place") + 2) * _decay("event_date", as_of_date, half_life_days)
    shown = shown.select("query", "item_id", weight.alias("weight"))
    acted = events.where("action <> 'search'").select(
        "query", "item_id", *((f.col("action") == name).cast("long").alias(f"{name}_count") for name in ("click", "purchase"))
    )
    by_item = (
        shown.unionByName(acted, allowMissingColumns=True)
        .groupBy("query", "item_id")
        .agg(
            # Rounded: the order in which parts are added up is not fixed, and the last bits with it.
            f.coalesce(f.round(f.sum("weight"), 9), f.lit(0.0)).alias("exposure"),
            f.count("weight").alias("shown_count"),
            *(f.coalesce(f.sum(name), f.lit(0)).alias(name) for name in ("click_count", "purchase_count")),
        )
    )
    of_the_day = versions.where(f.lit(as_of_date) >= f.col("describes_from")).where(f.lit(as_of_date) < f.col("describes_to"))
    # Hashed, not sorted: the catalogue's share of a partition fits in memory.
    return by_item.join(of_the_day.select("item_id", "category", "title").hint("shuffle_hash"), "item_id", "left")


def results_without_item() -> Column:
    """Return the aggregate over `shown_products` that counts the results which no catalogue held."""
    return f.coalesce(f.sum(f.when(f.col("category").isNull(), f.col("shown_count"))), f.lit(0)).alias("results_without_item")


def build_query_products(
    events: DataFrame,
    shown: DataFrame,
    before: DataFrame,
    *,
    as_of_date: date,
    half_life_days: int,
    history_days: int,
    top_products: int,
) -> DataFrame:
    """Return the rows of the table `query_products` (without fingerprint) of one week.

    Args:
        events: rows of `attribute_queries` that arrived in the week.
        shown: their `shown_products`.
        before: rows of the table of earlier weeks.
        as_of_date: the last day of the week.
        half_life_days: days after which an exposure counts half.
        history_days: days without any event after which a query's past is forgotten.
        top_products: products that an answer shows; ten times as many are carried on.
    """
    evidence = _evidence(events)
    alive = before.where(f.col("as_of_date").between(as_of_date - timedelta(days=history_days), as_of_date - timedelta(days=1)))
    # The keys first: most rows are of queries to which nothing happened, and their products need not be moved.
    newest = alive.join(evidence, "query", "left_semi").groupBy("query").agg(f.max("as_of_date").alias("as_of_date"))
    last = alive.join(newest, ["query", "as_of_date"])
    decayed = f.col("exposure") * _decay("as_of_date", as_of_date, half_life_days)
    carried = last.select("category", "query", "as_of_date", f.inline("products")).withColumn("exposure", decayed)
    carried = carried.drop("as_of_date").withColumn("is_new", f.lit(0))
    new = shown.where("category IS NOT NULL").select("category", "query", *_PRODUCT_COLUMNS, f.lit(1).alias("is_new"))
    products = (
        carried.unionByName(new)
        .groupBy("category", "query", "item_id")
        .agg(
            f.max_by("title", "is_new").alias("title"),
            f.round(f.sum("exposure"), 9).alias("exposure"),
            f.sum("click_count").alias("click_count"),
            f.sum("purchase_count").alias("purchase_count"),
        )
        .where("exposure > 0")
    )
    ranked = f.struct(
        -f.col("exposure"), -f.col("purchase_count"), -f.col("click_count"), "item_id", f.struct(*_PRODUCT_COLUMNS).alias("product")
    )
    best = f.slice(f.sort_array(f.collect_list(ranked)), 1, _CARRIED * top_products)
    memory = products.groupBy("category", "query").agg(f.transform(best, lambda one: one.product).alias("products"))
    return memory.join(_with_past(evidence, last), "query").withColumn("as_of_date", f.lit(as_of_date))


def held(rows: DataFrame, *, min_support: int, history_days: int) -> DataFrame:
    """Return the rows of `query_products` that answer, each with `holds_to`, the last as-of date that it answers.

    That is the day before the query's next row, or the one on which it was last heard of `history_days` ago. Rows of fewer than
    `min_support` users answer nobody.
    """
    following = f.lead("as_of_date").over(Window.partitionBy("category", "query").orderBy("as_of_date"))
    until = f.least(f.date_sub(following, 1), f.date_add("as_of_date", history_days))
    return rows.where(f.col("user_count") >= min_support).withColumn("holds_to", until)


def _evidence(events: DataFrame) -> DataFrame:
    """Return a week's wordings, search_count and askers of each query to which something happened."""
    is_search = (f.col("action") == "search") & ~f.col("is_prefix")
    typed = events.groupBy("query", f.when(is_search, f.col("wording")).alias("wording")).agg(
        f.count_if(is_search).alias("search_count"),
        _first_askers(f.collect_set(f.when(is_search, f.xxhash64("user_id")))).alias("askers"),
    )
    commonest = f.sort_array(f.collect_list(f.when(f.col("wording").isNotNull(), f.struct(-f.col("search_count"), "wording"))))
    return typed.groupBy("query").agg(
        f.slice(commonest, 1, _WORDINGS)["wording"].alias("wordings"),
        f.sum("search_count").alias("search_count"),
        _first_askers(f.array_distinct(f.flatten(f.collect_list("askers")))).alias("askers"),
    )


def _with_past(evidence: DataFrame, last: DataFrame) -> DataFrame:
    """Return a week's evidence with that of the rows before, which all categories of a query have alike."""
    past = last.groupBy("query").agg(*(f.max(name).alias(f"past_{name}") for name in ("wordings", "search_count", "askers")))
    no_askers = f.array().cast("array<bigint>")
    askers = _first_askers(f.array_union("askers", f.coalesce("past_askers", no_askers)))
    return (
        evidence.join(past, "query", "left")
        .select(
            "query",
            f.when(f.size("wordings") > 0, f.col("wordings")).otherwise(f.col("past_wordings")).alias("wordings"),
            (f.col("search_count") + f.coalesce("past_search_count", f.lit(0))).alias("search_count"),
            askers.alias("askers"),
        )
        .withColumn("user_count", f.size("askers").cast("long"))
    )


def _first_askers(hashes: Column) -> Column:
    # The smallest, not any: the same ones whatever the order in which they come.
    return f.slice(f.sort_array(hashes), 1, MOST_ASKERS)


def _decay(since: str, as_of_date: date, half_life_days: int) -> Column:
    return f.pow(f.lit(0.5), f.date_diff(f.lit(as_of_date), since) / half_life_days)
