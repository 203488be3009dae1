"""Events get their item, their session and their category.

`attach_items` comes first: a large catalogue is joined by item, and everything after it needs a single shuffle, by user.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

# Item columns that an action carries into the prompt.
ITEM_COLUMNS = ("title", "brand", "colour", "size", "price", "attributes")
_EVENT_COLUMNS = ("event_id", "user_id", "event_at", "action", "query", "item_id", "position")


def sessionize(events: DataFrame, *, gap_minutes: int) -> DataFrame:
    """Return the events with `session_id`: the user and the epoch second of the session's first event.

    `gap_minutes` without an event end a session; midnight does not. The name depends on nothing that comes later, so it is
    the same in every run that sees the session's first event.
    """
    in_order = Window.partitionBy("user_id").orderBy("event_at", "event_id")
    since_last = f.unix_micros("event_at") - f.lag(f.unix_micros("event_at")).over(in_order)
    opens = since_last.isNull() | (since_last >= gap_minutes * 60 * 1_000_000)
    started = f.last(f.when(f.col("_opens"), f.unix_seconds("event_at")), ignorenulls=True).over(in_order)
    return events.withColumn("_opens", opens).withColumn("session_id", f.concat_ws("-", "user_id", started.cast("string"))).drop("_opens")


def attach_items(events: DataFrame, items: DataFrame) -> DataFrame:
    """Return the events with the columns of their item, `item_category`, and `result_category` for searches.

    The latter is the category of the first result that the catalogue holds. Both are null where the catalogue knows no item.
    """
    known = items.select("item_id", f.col("category").alias("item_category"), *ITEM_COLUMNS)
    acted = events.where("action <> 'search'").select(*_EVENT_COLUMNS).join(known, "item_id", "left")
    shown = events.where("action = 'search'").select(*_EVENT_COLUMNS, f.posexplode_outer("results").alias("_rank", "_shown"))
    categories = items.select(f.col("item_id").alias("_shown"), f.col("category").alias("_category"))
    first = f.min(f.when(f.col("_category").isNotNull(), f.struct("_rank", "_category")))
    searches = shown.join(categories, "_shown", "left").groupBy(*_EVENT_COLUMNS).agg(first.getField("_category").alias("result_category"))
    return acted.unionByName(searches, allowMissingColumns=True)


def attribute_searches(events: DataFrame) -> DataFrame:
    """Return the events of `attach_items` and `sessionize` with `category` in place of the two others; null where there is none.

    An item event has its item's. A search has that of the next item event of its session, else that of its first known result.
    """
    backwards = Window.partitionBy("user_id", "session_id").orderBy(f.desc("event_at"), f.desc("event_id"))
    following = f.last("item_category", ignorenulls=True).over(backwards)
    is_search = f.col("action") == "search"
    category = f.when(is_search, f.coalesce(following, "result_category")).otherwise(f.col("item_category"))
    return events.withColumn("category", category).drop("item_category", "result_category")


def left_out() -> tuple[Column, ...]:
    """Return the aggregates that count what has no category and so stands in no sequence."""
    without = f.col("category").isNull()
    return (
        f.count_if(without & (f.col("action") == "search")).alias("searches_without_category"),
        f.count_if(without & (f.col("action") != "search")).alias("events_without_item"),
    )
