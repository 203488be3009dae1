"""Raw interaction logs become valid interactions; every other row gets the reason why it is none."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.ingest.pseudonyms import hide_names, names_nobody, pseudonym_of, with_key
from fashionrec.ingest.text import clean_text
from fashionrec.ingest.times import instant, lacks_zone
from fashionrec.ingest.verdicts import first_reason
from fashionrec.lake.spec import table_spec
from fashionrec.sources.rows import is_blank

# Why a row may go to quarantine, in the order in which they are looked for: a row has the first that applies.
REASONS = (
    "bad_encoding",
    "malformed",
    "missing_field",
    "text_too_long",
    "too_many_results",
    "bad_user_id",
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
    "conflicting_id",
)
# Rows that are neither valid nor rejected: a second copy of an event, and the same action again at once. Events of visitors that the shop
# does not know are left out as well: nobody can be mailed because of them.
DUPLICATE, NEAR_DUPLICATE, CONFLICT, ANONYMOUS = "duplicate", "near_duplicate", "conflicting_id", "anonymous"
# What is counted among the valid rows: values left out because they do not belong to the row's action, and paid placements.
MARKS = ("misplaced", "sponsored")
# What a row says by itself; beside it the table has the row's place.
COLUMNS = tuple(name for name in table_spec("interactions").struct.names if name != "arrival_number")
_RAW_COLUMNS = (*(name for name in COLUMNS if name not in ("event_date", "arrival_date")), "sponsored_results")
# More than any page of a shop shows: a crawler's, or a whole catalogue.
MOST_RESULTS = 1000
# Longest text of a rejected row that is kept.
_LONGEST_TEXT = 10_000
# Names of fields that may hold the user in the place of `user_id`.
_LIKE_USER = "(?i)id$|user|customer|client|visitor|member|account|shopper"
# Between results that are looked at as one text.
_BETWEEN = "\n"
# Of such a text: an object or a list, of which a reader made a text.
_NESTED = r"(?m)^\s*+[{\[]"
# The clocks farthest ahead of UTC.
_HOURS_EAST = 14


def judge_interactions(raw: DataFrame, *, key: bytes, lookback_days: int, max_text_length: int) -> DataFrame:
    """Return every raw row with the columns of the table `interactions` and a verdict on the row by itself.

    The other verdicts come from `verdicts_among`. Users and devices are pseudonyms from here on. Added are `row` (a number), `reason`
    (null for a valid row, otherwise one of REASONS or ANONYMOUS), `raw` (the row as text, where it is rejected, or its user may stand in
    a field that the contract does not know), `file`, `unknown` (such fields) and `misplaced` (whether a value that does not belong to the
    row's action was left out, such as the query on a click).

    Args:
        raw: rows of `sources.source.read_days`.
        key: secret key of the pseudonyms.
        lookback_days: days after which an event is too late.
        max_text_length: longest ID or query, in characters.
    """
    is_search = f.col("action") == "search"
    rows = with_key(raw, key).withColumns(
        {
            "arrival_date": f.col("_arrival_date"),
            "_event_at": instant(f.col("event_at")),
            "_query": clean_text(f.col("query")),
            "_item": f.when(~is_blank("item_id"), f.trim("item_id")),
            "_paid": f.coalesce(f.col("sponsored"), f.lit(False)),
            "_shown": f.array_join(f.concat("results", f.coalesce("sponsored_results", f.array().cast("array<string>"))), _BETWEEN, " "),
        }
    )
    rows = rows.withColumn("reason", _reason(is_search, lookback_days, max_text_length))
    organic = f.filter("results", lambda item: ~f.coalesce(f.array_contains("sponsored_results", item), f.lit(False)))
    is_placement = ~is_search & f.col("_paid")
    return rows.select(
        f.monotonically_increasing_id().alias("row"),
        "arrival_date",
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
        f.when(~names_nobody(f.col("device_id")), pseudonym_of(f.col("device_id"))).alias("device_id"),
        f.when(~is_blank("marketplace"), f.trim("marketplace")).alias("marketplace"),
        "reason",
        f.when(f.col("reason").isin(*REASONS) | _may_be_renamed(), _raw_text()).alias("raw"),
        f.col("_file").alias("file"),
        f.col("_unknown").alias("unknown"),
        (f.col("reason").isNull() & _out_of_place(is_search)).alias("misplaced"),
    )


def verdicts_among(judged: DataFrame, published: DataFrame, *, near_duplicate_seconds: int, lookback_days: int) -> DataFrame:
    """Return (row, reason) of the rows that only others show to be none: copies, and the same action again at once.

    Copies of an event share its ID and the deed: user, action, and item or query. The first that arrived stays, of one day's the first in
    the order of time and content; a later one with another deed under the same ID is a conflict. An action is a near duplicate within so
    many seconds of the one before by the same user on the same item or query, among those that arrived on the same day: what a day holds
    must not depend on the days that a run happens to read.

    Args:
        judged: rows of `judge_interactions`. Only narrow columns of them are shuffled.
        published: rows of the table `interactions` that arrived on other days, at most `lookback_days` away.
        near_duplicate_seconds: seconds between one action and the next that make them one.
        lookback_days: days between the arrivals of two events with one ID after which the second is another event.
    """
    valid = judged.where(f.col("reason").isNull()).select("row", *_narrow())
    # Few of those that arrived before come again.
    met = published.select(*_narrow()).join(valid.select("event_id"), "event_id", "left_semi").withColumn("row", f.lit(None).cast("long"))
    in_order = Window.partitionBy("event_id").orderBy("arrival_date", "event_at", "content", "row")
    that_day = Window.partitionBy("event_id", "arrival_date").orderBy("event_at", "content", "row")
    rows = valid.unionByName(met).withColumns(
        {
            "since_last": f.date_diff("arrival_date", f.lag("arrival_date").over(in_order)),
            "first_deed": f.first("deed").over(in_order),
            "again_that_day": f.row_number().over(that_day) > 1,
        }
    )
    deeds = Window.partitionBy("deed", "arrival_date", "again_that_day").orderBy("event_at", "event_id")
    gap = f.unix_micros("event_at") - f.unix_micros(f.lag("event_at").over(deeds))
    is_copy = f.col("since_last") <= lookback_days
    verdict = (
        f.when(is_copy & (f.col("deed") != f.col("first_deed")), CONFLICT)
        .when(is_copy, DUPLICATE)
        .when(gap <= near_duplicate_seconds * 1_000_000, NEAR_DUPLICATE)
    )
    return rows.where("row IS NOT NULL").select("row", verdict.alias("reason")).where(f.col("reason").isNotNull())


def days_to_take_again(kept: DataFrame, published: DataFrame, replaced: DataFrame, *, lookback_days: int) -> DataFrame:
    """Return `arrival_date` of the published days that hold a copy of what arrived before them only now, or may hold the only copy left.

    Args:
        kept: valid rows of the days that are to be written.
        published: rows of the table `interactions` of other days.
        replaced: rows of the table so far of the days that are to be written.
        lookback_days: see `verdicts_among`.
    """
    came = kept.select("event_id", f.col("arrival_date").alias("_came"))
    gone = replaced.select("event_id", f.col("arrival_date").alias("_came")).join(kept.select("event_id"), "event_id", "left_anti")
    after = f.date_diff("arrival_date", "_came").between(1, lookback_days)
    copies = published.join(came, "event_id").where(after).select("arrival_date")
    # What a copy was of is not kept, so where an event has gone every later day may have left out another copy of it.
    days_gone = f.broadcast(gone.select("_came").distinct())
    return copies.union(published.select("arrival_date").distinct().join(days_gone, after).select("arrival_date")).distinct()


def unknown_items(valid: DataFrame, known_items: DataFrame) -> DataFrame:
    """Return `arrival_date` and `count` of the clicks and purchases of items that no catalogue so far has held.

    They are kept: a catalogue that comes late describes them.
    """
    named = valid.where(f.col("item_id").isNotNull()).groupBy("arrival_date", "item_id").count()
    strange = named.join(known_items, "item_id", "left_anti")
    return strange.groupBy("arrival_date").agg(f.sum("count").alias("count"))


def _narrow() -> tuple[Column, ...]:
    """Return what tells copies: `deed` is who did what, two alike by chance within a day are not in the life of any shop."""
    return (
        f.col("event_id"),
        f.col("event_at"),
        f.col("arrival_date"),
        f.xxhash64("user_id", "action", f.coalesce("item_id", f.lower("query"))).alias("deed"),
        f.xxhash64(*(name for name in COLUMNS if name != "arrival_date")).alias("content"),
    )


def valid_interactions(judged: DataFrame, first_numbers: DataFrame) -> DataFrame:
    """Return the rows of the table `interactions`, laid out so that each day is written as one file unless it is large.

    Args:
        judged: rows of `judge_interactions` with all verdicts.
        first_numbers: (file, part, first_row, first_number), see `arrivals.first_numbers`; a handful.
    """
    valid = judged.where(f.col("reason").isNull()).withColumn("part", part_of("row"))
    placed = valid.join(f.broadcast(first_numbers), ["file", "part"], "left")
    number = f.col("row") - f.col("first_row") + f.col("first_number")
    return placed.select(*COLUMNS, number.alias("arrival_number")).hint("rebalance", "arrival_date")


def part_of(row: str) -> Column:
    """Return which part of the files a row was read in: a task's rows are numbered on from its number times 2**33."""
    return f.shiftright(row, 33)


def _reason(is_search: Column, lookback_days: int, max_text_length: int) -> Column:
    """Return the first reason that applies to a row by itself, null where none does."""
    at, day = f.col("_event_at"), f.to_date("_event_at")
    end_of_arrival = f.date_add("arrival_date", 1).cast("timestamp")
    texts = (*(f.col(name) for name in ("event_id", "user_id", "item_id", "device_id", "marketplace")), f.col("_query"))
    shown = f.col("_shown")
    nested = f.startswith("event_id", f.lit("{")) | f.startswith("event_id", f.lit("["))
    nested |= (f.contains(shown, f.lit("{")) | f.contains(shown, f.lit("["))) & shown.rlike(_NESTED)
    long_result = (f.length(shown) > max_text_length) & shown.rlike(f"[^{_BETWEEN}]{{{max_text_length + 1}}}")
    return first_reason(
        {
            "bad_encoding": f.col("_bad_encoding"),
            "malformed": f.col("_malformed") | nested,
            "missing_field": is_blank("event_id") | is_blank("event_at") | is_blank("action"),
            "text_too_long": (f.greatest(*(f.length(text) for text in texts)) > max_text_length) | long_result,
            "too_many_results": f.greatest(f.size("results"), f.size("sponsored_results")) > MOST_RESULTS,
            ANONYMOUS: is_blank("user_id"),
            "bad_user_id": names_nobody(f.col("user_id")),
            "unknown_action": ~f.col("action").isin("search", "click", "purchase"),
            "no_time_zone": at.isNull() & lacks_zone(f.col("event_at")),
            "bad_time": at.isNull(),
            # The first day of 1970 is what a clock shows that was never set.
            "before_epoch": at < f.lit("1970-01-02").cast("timestamp"),
            "future": at >= end_of_arrival + f.expr(f"INTERVAL {_HOURS_EAST} HOURS"),
            # Clocks east of UTC are ahead of it: read as UTC, their times lie after the row's own arrival.
            "local_time": at >= end_of_arrival,
            "too_late": day < f.date_sub("arrival_date", lookback_days),
            "search_without_query": is_search & f.col("_query").isNull(),
            "item_action_without_item": ~is_search & f.col("_item").isNull(),
            "bad_position": ~is_search & ~f.col("_paid") & (f.col("position") < 1),
        }
    )


def _may_be_renamed() -> Column:
    """Return whether a row without a user has a field that may be the user's under another name."""
    return (f.col("reason") == ANONYMOUS) & f.exists("_unknown", lambda name: name.rlike(_LIKE_USER))


def _raw_text() -> Column:
    """Return the row as it came, or where only its columns are known as their JSON, with pseudonyms for the IDs in it; long ones cut."""
    as_json = f.to_json(f.struct(*(f.col(name) for name in _RAW_COLUMNS)))
    # Cut when its IDs are hidden: half of one could not be told any more.
    return f.substring(hide_names(f.coalesce("_text", as_json), "user_id", "device_id"), 1, _LONGEST_TEXT)


def _out_of_place(is_search: Column) -> Column:
    on_search = f.col("_item").isNotNull() | f.col("position").isNotNull() | f.col("_paid")
    on_item = f.col("_query").isNotNull() | f.col("results").isNotNull() | f.col("sponsored_results").isNotNull()
    return f.when(is_search, on_search).otherwise(on_item)
