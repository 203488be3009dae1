"""Raw interaction logs become valid interactions; every other row gets the reason why it is none."""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.ingest.pseudonyms import hide_names, pseudonym_of, with_key
from fashionrec.ingest.text import clean_text
from fashionrec.ingest.verdicts import first_reason
from fashionrec.lake.spec import table_spec
from fashionrec.sources.files import arrival_date, is_blank

# Why a row may go to quarantine, in the order in which they are looked for: a row has the first that applies.
REASONS = (
    "bad_encoding",
    "malformed",
    "missing_field",
    "text_too_long",
    "unknown_action",
    "no_time_zone",
    "bad_time",
    "before_epoch",
    "future",
    "local_time",
    "too_late",
    "search_without_query",
    "item_action_without_item",
    "bad_position",
    "unknown_item",
)
# Rows that are neither valid nor rejected: a second copy of an event, the same action again at once, and events of days that this run does
# not rebuild.
DUPLICATE, NEAR_DUPLICATE, BEFORE_WINDOW = "duplicate", "near_duplicate", "before_window"
# What is counted among the valid rows: values left out because they do not belong to the row's action, and paid placements.
MARKS = ("misplaced", "sponsored")
COLUMNS = tuple(table_spec("interactions").struct.names)
_RAW_COLUMNS = (*(name for name in COLUMNS if name not in ("event_date", "arrival_date")), "sponsored_results")
_ISO_8601 = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?"
_ZONE = r"(Z|[+-]\d{2}:?\d{2})$"
# The clocks farthest ahead of UTC.
_HOURS_EAST = 14


def judge_interactions(raw: DataFrame, *, key: bytes, first_day: date, lookback_days: int, max_text_length: int) -> DataFrame:
    """Return every raw row with the columns of the table `interactions` and a verdict on the row by itself.

    The other verdicts come from `verdicts_among`. Users and devices are pseudonyms from here on. Added are `row` (a number),
    `arrival_date`, `reason` (null for a valid row, otherwise one of REASONS or BEFORE_WINDOW), `raw` (the row as text, where it is
    rejected), `file`, `unknown` (fields that the contract does not know) and `misplaced` (whether a value that does not belong to the
    row's action was left out, such as the query on a click).

    Args:
        raw: rows of `sources.files.read_raw`; the folder's name in `_file` is the day on which a row arrived.
        key: secret key of the pseudonyms.
        first_day: the first day that this run rebuilds.
        lookback_days: days after which an event is too late: no run puts it in its day, only a backfill with a longer lookback does.
        max_text_length: longest ID or query, in characters.
    """
    is_search = f.col("action") == "search"
    rows = with_key(raw, key).withColumns(
        {
            "arrival_date": arrival_date(),
            "_event_at": f.when(f.col("event_at").rlike(_ISO_8601 + _ZONE), f.col("event_at").try_cast("timestamp")),
            "_query": clean_text("query"),
            "_item": f.when(~is_blank("item_id"), f.trim("item_id")),
            "_paid": f.coalesce(f.col("sponsored"), f.lit(False)),
        }
    )
    rows = rows.withColumn("reason", _reason(is_search, first_day, lookback_days, max_text_length))
    organic = f.filter("results", lambda item: ~f.coalesce(f.array_contains("sponsored_results", item), f.lit(False)))
    is_placement = ~is_search & f.col("_paid")
    return rows.select(
        f.monotonically_increasing_id().alias("row"),
        f.trim("event_id").alias("event_id"),
        pseudonym_of(f.col("user_id")).alias("user_id"),
        f.col("_event_at").alias("event_at"),
        f.to_date("_event_at").alias("event_date"),
        "action",
        f.when(is_search, f.col("_query")).alias("query"),
        f.when(~is_search, f.col("_item")).alias("item_id"),
        f.when(~is_search & ~f.col("_paid"), f.col("position")).alias("position"),
        f.when(is_search, f.when(f.col("sponsored_results").isNull(), f.col("results")).otherwise(organic)).alias("results"),
        f.coalesce(is_placement, f.lit(False)).alias("sponsored"),
        f.when(~is_blank("device_id"), pseudonym_of(f.col("device_id"))).alias("device_id"),
        f.when(~is_blank("marketplace"), f.trim("marketplace")).alias("marketplace"),
        "arrival_date",
        "reason",
        f.when(f.col("reason").isin(*REASONS), _raw_text()).alias("raw"),
        f.col("_file").alias("file"),
        f.col("_unknown").alias("unknown"),
        (f.col("reason").isNull() & _out_of_place(is_search)).alias("misplaced"),
    )


def verdicts_among(judged: DataFrame, known_items: DataFrame, *, near_duplicate_seconds: int) -> DataFrame:
    """Return (row, reason) of the rows that only others show to be none: unknown items, copies, and the same action again at once.

    Copies of an event share its ID: the first in the order of time and content stays, whatever file it lies in. An action is a near
    duplicate within so many seconds of the one before by the same user, on the same item or query, on the same UTC day: what a day's
    table holds must not depend on the days that a run happens to read.

    Args:
        judged: rows of `judge_interactions`. Only narrow columns of them are shuffled.
        known_items: `item_id` of every item that any catalogue so far has held.
        near_duplicate_seconds: seconds between one action and the next that make them one.
    """
    not_rejected = judged.where(f.col("reason").isNull() | (f.col("reason") == BEFORE_WINDOW))
    named = not_rejected.select("row", "item_id").where(f.col("item_id").isNotNull())
    strange_items = named.select("item_id").distinct().join(known_items.select("item_id"), "item_id", "left_anti")
    # Few in any log that is fit to be published; Spark would guess many, and shuffle all rows to meet them.
    strange_items = f.broadcast(strange_items)
    strange = named.join(strange_items, "item_id").select("row", f.lit("unknown_item").alias("reason"))
    narrow = judged.where(f.col("reason").isNull()).select(
        "row",
        "item_id",
        "event_id",
        "event_at",
        "event_date",
        # Two of them alike by chance within seconds: not in the life of any shop.
        f.xxhash64("user_id", "action", f.coalesce("item_id", f.lower("query"))).alias("deed"),
        "arrival_date",
        f.xxhash64(*(name for name in COLUMNS if name != "arrival_date")).alias("content"),
    )
    narrow = narrow.join(strange_items, "item_id", "left_anti")
    copies = Window.partitionBy("event_id").orderBy("event_at", "content", "arrival_date", "row")
    narrow = narrow.withColumn("is_copy", f.row_number().over(copies) > 1)
    deeds = Window.partitionBy("deed", "event_date", "is_copy").orderBy("event_at", "event_id")
    gap = f.unix_micros("event_at") - f.unix_micros(f.lag("event_at").over(deeds))
    again = gap <= near_duplicate_seconds * 1_000_000
    verdict = f.when(f.col("is_copy"), DUPLICATE).when(again, NEAR_DUPLICATE)
    return narrow.select("row", verdict.alias("reason")).where(f.col("reason").isNotNull()).union(strange)


def valid_interactions(judged: DataFrame) -> DataFrame:
    """Return the rows of the table `interactions`, laid out so that each day is written as one file unless it is large."""
    return judged.where(f.col("reason").isNull()).select(*COLUMNS).hint("rebalance", "event_date")


def _reason(is_search: Column, first_day: date, lookback_days: int, max_text_length: int) -> Column:
    """Return the first reason that applies to a row by itself, null where none does."""
    at, day = f.col("_event_at"), f.to_date("_event_at")
    end_of_arrival = f.date_add("arrival_date", 1).cast("timestamp")
    texts = (*(f.col(name) for name in ("event_id", "user_id", "item_id", "device_id", "marketplace")), f.col("_query"))
    no_zone = f.col("event_at").rlike(f"{_ISO_8601}$") & f.col("event_at").try_cast("timestamp").isNotNull()
    return first_reason(
        {
            "bad_encoding": f.col("_bad_encoding"),
            "malformed": f.col("_malformed"),
            "missing_field": is_blank("event_id") | is_blank("user_id") | is_blank("event_at") | is_blank("action"),
            "text_too_long": f.greatest(*(f.length(text) for text in texts)) > max_text_length,
            "unknown_action": ~f.col("action").isin("search", "click", "purchase"),
            "no_time_zone": no_zone,
            "bad_time": at.isNull(),
            # The first day of 1970 is what a clock shows that was never set.
            "before_epoch": at < f.lit("1970-01-02").cast("timestamp"),
            "future": at >= end_of_arrival + f.expr(f"INTERVAL {_HOURS_EAST} HOURS"),
            # Clocks east of UTC are ahead of it: read as UTC, their times lie after the row's own arrival.
            "local_time": at >= end_of_arrival,
            # Days before the window that a row's own arrival day could still reach were rebuilt by the run of that day.
            "too_late": (day < f.lit(first_day)) & (day < f.date_sub("arrival_date", lookback_days)),
            "search_without_query": is_search & f.col("_query").isNull(),
            "item_action_without_item": ~is_search & f.col("_item").isNull(),
            "bad_position": ~is_search & ~f.col("_paid") & (f.col("position") < 1),
            BEFORE_WINDOW: day < f.lit(first_day),
        }
    )


def _raw_text() -> Column:
    """Return the row as it came, or where only its columns are known as their JSON, with pseudonyms for the IDs in it."""
    as_json = f.to_json(f.struct(*(f.col(name) for name in _RAW_COLUMNS)))
    return hide_names(f.coalesce("_text", as_json), "user_id", "device_id")


def _out_of_place(is_search: Column) -> Column:
    on_search = f.col("_item").isNotNull() | f.col("position").isNotNull() | f.col("_paid")
    on_item = f.col("_query").isNotNull() | f.col("results").isNotNull() | f.col("sponsored_results").isNotNull()
    return f.when(is_search, on_search).otherwise(on_item)
