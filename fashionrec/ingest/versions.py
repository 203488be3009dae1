"""The history of the catalogue: which description of an item held when."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

# What makes a description; price and stock change daily and belong to the run date.
DESCRIPTION = ("title", "category", "brand", "colour", "size", "first_available_date", "attributes")
# No event is older than the epoch.
_BEGINNING, _END = date(1970, 1, 1), date(9999, 12, 31)


def item_versions(snapshots: DataFrame, known: DataFrame, *, days: Sequence[date]) -> DataFrame:
    """Return the rows of the table `item_versions` after some days' catalogues: each item's unlike descriptions, one interval each.

    An item that a catalogue lacks ends its interval there, and begins another if it returns. The same catalogues give the same rows,
    whether they come one by one or all at once.

    Args:
        snapshots: valid items with `arrival_date`, the day of their catalogue.
        known: rows of the table so far; what they say of the first of `days` and later is derived anew.
        days: the days of the catalogues, also of those that hold nothing.
    """
    first = f.lit(min(days))
    before = known.where(f.col("valid_from") < first).select(
        "item_id",
        f.col("valid_from").alias("since"),
        # What was still on sale is so up to the first of the days, which then tells anew.
        f.when(f.col("valid_to") < first, f.col("valid_to")).otherwise(first).alias("until"),
        *DESCRIPTION,
    )
    seen = snapshots.select("item_id", f.col("arrival_date").alias("since"), _next_day(days).alias("until"), *DESCRIPTION)
    return before.unionByName(seen).transform(_merge_neighbours)


def _next_day(days: Sequence[date]) -> Column:
    """Return the day of the catalogue after that of the row, null after the last."""
    ordered = sorted(set(days))
    pairs = [f.lit(part) for pair in pairwise(ordered) for part in pair]
    return f.create_map(*pairs)[f.col("arrival_date")] if pairs else f.lit(None).cast("date")


def _merge_neighbours(stretches: DataFrame) -> DataFrame:
    """Return one row per longest stretch of time in which an item kept a description."""
    of_item = Window.partitionBy("item_id")
    in_order = of_item.orderBy("since")
    content = f.xxhash64(*(_sorted_map(name) if name == "attributes" else f.col(name) for name in DESCRIPTION))
    marked = (
        stretches.withColumn("content", content)
        .withColumn("before", f.lag("until").over(in_order))
        .withColumn("goes_on", (f.col("before") == f.col("since")) & (f.lag("content").over(in_order) == f.col("content")))
        .withColumn("last_until", f.last("until").over(in_order.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)))
        .where(~f.coalesce("goes_on", f.lit(False)))
    )
    following = f.lead("since").over(in_order)
    return marked.select(
        "item_id",
        f.col("since").alias("valid_from"),
        f.when(following.isNull(), f.col("last_until")).otherwise(f.lead("before").over(in_order)).alias("valid_to"),
        f.when(f.lag("since").over(in_order).isNull(), f.lit(_BEGINNING)).otherwise(f.col("since")).alias("describes_from"),
        f.coalesce(following, f.lit(_END)).alias("describes_to"),
        *DESCRIPTION,
    )


def _sorted_map(name: str) -> Column:
    # Two maps with the same entries in another order are the same description.
    return f.array_sort(f.map_entries(name))
