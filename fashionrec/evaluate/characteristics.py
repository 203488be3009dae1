"""The paper's four characteristics of fashion shopping (section 3), by category and month. Pure DataFrame functions.

Each returns category, month (its first day) and value, and no row where the data does not hold what it is made of.
"""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

# A search belongs to no category, so figures of queries stand under this one.
ALL = "all"


def new_items(items: DataFrame, *, until: date) -> DataFrame:
    """C1, turnover: items of the snapshot by the month in which they were first available, up to `until`.

    Items that have left the catalogue since are not in the snapshot, so early months are lower bounds.
    """
    known = items.where(f.col("first_available_date") <= f.lit(until))
    return known.groupBy("category", _month("first_available_date")).agg(f.count("*").cast("double").alias("value"))


def actions_before_purchase(sequences: DataFrame) -> DataFrame:
    """C2, comparison: mean number of searches and clicks between a purchase and the one before it in the category, by the purchase's month.

    Counted on the paths of training, validation and test examples, so at most `sequences.max_actions`; since the purchase before, as whole
    paths grow with the length of the log. Months of nothing but purchases are absent.
    """
    newest_first = f.reverse(f.col("actions.action"))
    previous = f.array_position(newest_first, "purchase")
    since = f.when(previous > 0, previous - 1).otherwise(f.size("actions"))
    months = sequences.where("target_at IS NOT NULL").groupBy("category", _month("target_at")).agg(f.avg(since).alias("value"))
    return months.where("value > 0")


def season_share(interactions: DataFrame, items: DataFrame) -> DataFrame:
    """C3, attributes: share of purchases whose item is made for the season of the purchase's month on the northern half of the globe.

    Counted among purchases of items that name one season: "All Season" is a choice for none.
    """
    named = f.regexp_replace(f.lower(f.trim(f.col("attributes")["season"])), "^fall$", "autumn")
    seasonal = items.select("item_id", "category", named.alias("season")).where(f.col("season").isin(*_SEASONS))
    bought = interactions.where("action = 'purchase'").join(seasonal, "item_id")
    # December counts as 0, so that each season is three months in a row.
    now = f.element_at(f.array(*map(f.lit, _SEASONS)), (f.month("event_date") % 12 / 3).cast("int") + 1)
    return bought.groupBy("category", _month("event_date")).agg(f.avg((f.col("season") == now).cast("double")).alias("value"))


def unique_queries_per_day(interactions: DataFrame) -> DataFrame:
    """C4, queries: different queries a day, case and blanks aside, as the mean over the days with events; months without any are absent."""
    query = f.lower(f.trim(f.regexp_replace("query", r"\s+", " ")))
    days = interactions.groupBy("event_date").agg(f.countDistinct(query).alias("queries"))
    months = days.groupBy(f.lit(ALL).alias("category"), _month("event_date")).agg(f.avg("queries").alias("value"))
    return months.where("value > 0")


def characteristic_rows(interactions: DataFrame, items: DataFrame, sequences: DataFrame, *, until: date) -> DataFrame:
    """Return the rows of the table characteristics; it is empty where the data holds nothing for any of them."""
    parts = {
        "c1_new_items": new_items(items, until=until),
        "c2_actions_before_purchase": actions_before_purchase(sequences),
        "c3_season_share": season_share(interactions, items),
        "c4_unique_queries_per_day": unique_queries_per_day(interactions),
    }
    rows = [part.select(f.lit(name).alias("characteristic"), "category", "month", "value") for name, part in parts.items()]
    return rows[0].union(rows[1]).union(rows[2]).union(rows[3])


_SEASONS = ("winter", "spring", "summer", "autumn")


def _month(column: str) -> Column:
    return f.trunc(f.col(column), "month").alias("month")
