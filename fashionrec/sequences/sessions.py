"""Events get their item, their session and their category.

`describe_items` comes first: a large catalogue is joined by item, and everything after it needs a single shuffle, by user, and one sort
in that order: each window below has the order of `_in_order` or none.
"""

from pyspark.sql import Column, DataFrame, Observation, Window, WindowSpec
from pyspark.sql import functions as f

from fashionrec.lake.order import EVENT_ORDER, event_order

# What an action shows of its item, from the version of its day; price and category are those of the run date.
ITEM_COLUMNS = ("title", "brand", "colour", "size", "price", "attributes")
_EVENT_COLUMNS = (
    "event_id",
    "user_id",
    "event_at",
    "arrival_date",
    "arrival_number",
    "action",
    "query",
    "item_id",
    "position",
    "marketplace",
)
_MINUTE, _DAY = 60, 24 * 60 * 60


def as_of_today(versions: DataFrame, items: DataFrame) -> DataFrame:
    """Return the rows of `ingest.versions.intervals` with `price` and `category` as they stand in `items`.

    Where an item has left the catalogue, the price is null and the category its own of the time. Of what is still on sale, a path belongs
    to the category that its items are recommended in today: one that was renamed overnight would have no items.
    """
    today = items.select("item_id", "price", f.col("category").alias("_today"))
    found = versions.join(today.hint("shuffle_hash"), "item_id", "left")
    return found.withColumn("category", f.coalesce("_today", "category")).drop("_today")


def describe_items(events: DataFrame, versions: DataFrame) -> DataFrame:
    """Return the events with `item_category` and `item`, a struct of ITEM_COLUMNS as the item was on the event's day.

    A search has the category of its top result and no item. Both are null where the catalogue never knew the item.

    Args:
        events: rows of the table `interactions`.
        versions: rows of `as_of_today`.
    """
    described = versions.select(
        f.col("item_id").alias("_about"),
        f.col("category").alias("item_category"),
        "describes_from",
        "describes_to",
        f.struct(*ITEM_COLUMNS).alias("item"),
    )
    about = events.select(*_EVENT_COLUMNS, "event_date", f.coalesce("item_id", f.get("results", f.lit(0))).alias("_about"))
    that_day = (f.col("event_date") >= f.col("describes_from")) & (f.col("event_date") < f.col("describes_to"))
    # Hashed, not sorted: the catalogue's share of a partition fits in memory, the events need not be in its order.
    joined = about.join(described.hint("shuffle_hash"), (about["_about"] == described["_about"]) & that_day, "left")
    return joined.select(*_EVENT_COLUMNS, "item_category", f.when(f.col("item_id").isNotNull(), f.col("item")).alias("item"))


def sessionize(events: DataFrame, *, gap_minutes: int) -> DataFrame:
    """Return the events with `session_id`: 16 hex digits made from the user and the time of the session's first event.

    `gap_minutes` without an event end a session; midnight does not. The name depends on nothing that comes later, so it is
    the same in every run that sees the session's first event.
    """
    at = f.unix_micros("event_at")
    since_last = at - f.lag(at).over(_in_order())
    opens = since_last.isNull() | (since_last >= gap_minutes * 60 * 1_000_000)
    started = f.last(f.when(f.col("_opens"), at), ignorenulls=True).over(_in_order())
    name = f.lower(f.lpad(f.hex(f.xxhash64("user_id", "_started")), 16, "0"))
    return events.withColumn("_opens", opens).withColumn("_started", started).withColumn("session_id", name).drop("_opens", "_started")


def set_robots_aside(
    events: DataFrame, counts: Observation | None = None, *, max_events_per_minute: int, max_events_per_day: int, max_purchases: int
) -> DataFrame:
    """Return the events of people: without those of users who act faster or more than a person can, or buy more than a household does.

    A user goes with all events: by more than `max_events_per_minute` within any 60 s, more than `max_events_per_day` within any 24 h, or
    more than `max_purchases` in all. `counts` observes `robot_users` and `robot_events`.
    """
    at, in_order, by_user = f.unix_seconds("event_at"), _in_order(), Window.partitionBy("user_id")
    in_minute = at - f.lag(at, max_events_per_minute).over(in_order) < _MINUTE
    too_fast = in_minute | (at - f.lag(at, max_events_per_day).over(in_order) < _DAY)
    first = f.lag(at).over(in_order).isNull()
    bought = f.count_if(f.col("action") == "purchase").over(by_user)
    robot = f.coalesce(f.max("_too_fast").over(by_user), f.lit(False)) | (bought > max_purchases)
    marked = events.withColumns({"_too_fast": too_fast, "_first": first}).withColumn("_robot", robot)
    seen = f.count_if("_robot").alias("robot_events"), f.count_if(f.col("_robot") & f.col("_first")).alias("robot_users")
    observed = marked.observe(counts, *seen) if counts else marked
    return observed.where("NOT _robot").drop("_too_fast", "_first", "_robot")


def attribute_searches(events: DataFrame) -> DataFrame:
    """Return the events of `describe_items` and `sessionize` with `category` in place of `item_category`; null where there is none.

    An item event has its item's. A search has that of what it led to: the next item event of its session whose item the catalogue
    knows; a search that leads to none has that of its top result.
    """
    # Spark's lead over what is not null is one pass; first() over the rows that follow would start again at every row.
    events = events.withColumn("_led_to", f.when(f.col("item").isNotNull(), f.struct("item_category", "session_id")))
    following = f.expr(f"lead(_led_to, 1) IGNORE NULLS OVER (PARTITION BY user_id ORDER BY {', '.join(EVENT_ORDER)})")
    events = events.withColumn("_led_to", following)
    is_search_with = (f.col("action") == "search") & (f.col("_led_to.session_id") == f.col("session_id"))
    category = f.when(is_search_with, f.col("_led_to.item_category")).otherwise(f.col("item_category"))
    return events.withColumn("category", category).drop("item_category", "_led_to")


def _in_order() -> WindowSpec:
    return Window.partitionBy("user_id").orderBy(*event_order())


def left_out() -> tuple[Column, ...]:
    """Return the aggregates that count what has no category and so stands in no sequence."""
    without = f.col("category").isNull()
    return (
        f.count_if(without & (f.col("action") == "search")).alias("searches_without_category"),
        f.count_if(without & (f.col("action") != "search")).alias("events_without_item"),
    )
