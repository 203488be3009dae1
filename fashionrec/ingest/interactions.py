"""Raw interaction logs become valid interactions; every other row gets the reason why it is none."""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.ingest.raw import clean_text, is_blank

# Why a row may go to quarantine, in the order in which they are looked for: a row has the first that applies.
REASONS = (
    "malformed",
    "missing_field",
    "unknown_action",
    "bad_time",
    "too_late",
    "search_without_query",
    "item_action_without_item",
    "bad_position",
)
# Rows that are neither valid nor rejected: a second copy of an event, and events of days that this run does not rebuild.
DUPLICATE, BEFORE_WINDOW = "duplicate", "before_window"
_COLUMNS = ("event_id", "user_id", "event_at", "event_date", "action", "query", "item_id", "position", "results")
_ISO_8601 = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})$"


def judge_interactions(raw: DataFrame, *, first_day: date, lookback_days: int) -> DataFrame:
    """Return every raw row with the columns of the table `interactions` and a verdict.

    Added are `reason` (null for a valid row, otherwise one of REASONS, DUPLICATE or BEFORE_WINDOW), `raw` (the row as text, where it is
    rejected), `file`, `unknown` (fields that the contract does not know) and `misplaced` (whether a value that does not belong to the row's
    action was left out, such as the query on a click).

    Args:
        raw: rows of `ingest.raw.read_raw`; the folder's name in `_file` is the day on which a row arrived.
        first_day: the first day that this run rebuilds.
        lookback_days: days after which an event is too late: no run puts it in its day, only a backfill with a longer lookback does.
    """
    is_search = f.col("action") == "search"
    rows = raw.withColumns(
        {
            "arrival_date": f.regexp_extract("_file", r"/(\d{4}-\d{2}-\d{2})/[^/]+$", 1).cast("date"),
            "_event_at": f.when(f.col("event_at").rlike(_ISO_8601), f.col("event_at").try_cast("timestamp")),
            "_query": clean_text("query"),
            "_item": f.when(~is_blank("item_id"), f.trim("item_id")),
        }
    )
    rows = rows.withColumn("reason", _reason(is_search, first_day, lookback_days))
    text = f.coalesce("_text", f.to_json(f.struct(*(name for name in _COLUMNS if name != "event_date"))))
    out_of_place = f.when(is_search, f.col("_item").isNotNull() | f.col("position").isNotNull()).otherwise(
        f.col("_query").isNotNull() | f.col("results").isNotNull()
    )
    judged = rows.select(
        f.trim("event_id").alias("event_id"),
        f.trim("user_id").alias("user_id"),
        f.col("_event_at").alias("event_at"),
        f.to_date("_event_at").alias("event_date"),
        "action",
        f.when(is_search, f.col("_query")).alias("query"),
        f.when(~is_search, f.col("_item")).alias("item_id"),
        f.when(~is_search, f.col("position")).alias("position"),
        f.when(is_search, f.col("results")).alias("results"),
        "reason",
        f.when(f.col("reason").isin(*REASONS), text).alias("raw"),
        f.col("_file").alias("file"),
        f.col("_unknown").alias("unknown"),
        (f.col("reason").isNull() & out_of_place).alias("misplaced"),
    )
    # The first copy in the order of all columns stays, so that every run keeps the same one.
    copies = Window.partitionBy("event_id", "reason").orderBy(*_COLUMNS[1:], "file")
    later_copy = f.col("reason").isNull() & (f.row_number().over(copies) > 1)
    return judged.withColumn("reason", f.when(later_copy, DUPLICATE).otherwise(f.col("reason")))


def valid_interactions(judged: DataFrame) -> DataFrame:
    """Return the rows of the table `interactions`, laid out so that each day is written as one file unless it is large."""
    return judged.where(f.col("reason").isNull()).select(*_COLUMNS).hint("rebalance", "event_date")


def _reason(is_search: Column, first_day: date, lookback_days: int) -> Column:
    """Return the first reason that applies to a row, null where none does."""
    at, day = f.col("_event_at"), f.to_date("_event_at")
    after_arrival = at >= f.date_add("arrival_date", 1).cast("timestamp")
    missing = is_blank("event_id") | is_blank("user_id") | is_blank("event_at") | is_blank("action")
    tests = {
        "malformed": f.col("_malformed"),
        "missing_field": missing,
        "unknown_action": ~f.col("action").isin("search", "click", "purchase"),
        "bad_time": at.isNull() | (at < f.lit("2000-01-01").cast("timestamp")) | after_arrival,
        # Days before the window that a row's own arrival day could still reach were rebuilt by the run of that day.
        "too_late": (day < f.lit(first_day)) & (day < f.date_sub("arrival_date", lookback_days)),
        "search_without_query": is_search & f.col("_query").isNull(),
        "item_action_without_item": ~is_search & f.col("_item").isNull(),
        "bad_position": ~is_search & (f.col("position") < 1),
        BEFORE_WINDOW: day < f.lit(first_day),
    }
    return f.coalesce(*(f.when(test, f.lit(reason)) for reason, test in tests.items()))
