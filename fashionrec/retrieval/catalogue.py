"""What Spark prepares for the indexes: the items that may be ranked, their days on sale, and the purchases of each category."""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

_FIRST, _LAST = date(1970, 1, 1), date(9999, 12, 31)


def rankable_items(
    items: DataFrame,
    versions: DataFrame,
    snapshots: DataFrame,
    purchases: DataFrame,
    *,
    run_date: date,
    history_days: int,
    family: str,
    attributes: Sequence[str],
) -> DataFrame:
    """Return one row per item of the run date, and per item withdrawn before it, as it was last described.

    Columns: item_id, title, category, in_stock (on the run date), family, tastes (values of `attributes`, in their order), price (of the
    run date), on_sale_from, on_sale_to, sold_out (evenings on which the catalogue had it out of stock). Days count from 1970-01-01.

    An item is on sale from its first available date; where that is unknown, from its first catalogue, or for ever back where that is the
    first of all. It is so up to the first catalogue that lacks it. On a day on which it was bought it was on sale.

    Args:
        items: rows of the table `items` of the run date.
        versions: rows of the table `item_versions`.
        snapshots: rows of the table `items` of the run dates whose stock is known.
        purchases: item_id and event_date of purchases.
        history_days: how far back paths reach.
        family: the attribute whose value variants of one product share; empty: the title up to its first comma.
        attributes: names of attributes, or of the columns brand, colour and size.
    """
    first_catalogue = f.broadcast(versions.agg(f.min("valid_from").alias("first_catalogue")))
    since = f.when(f.col("valid_from") > f.col("first_catalogue"), f.col("valid_from")).otherwise(f.lit(_FIRST))
    described = ("title", "category", "brand", "colour", "size", "attributes")
    newest = f.max_by(f.struct(*described, "valid_to"), "valid_from")
    last = (
        versions.crossJoin(first_catalogue)
        .groupBy("item_id")
        .agg(newest.alias("was"), f.coalesce(f.min("first_available_date"), f.min(since)).alias("since"))
    )
    today = items.select("item_id", "in_stock", "price", f.struct(*described).alias("now"))
    bought = purchases.groupBy("item_id").agg(f.min("event_date").alias("first_bought"), f.max("event_date").alias("last_bought"))
    sold_out = (
        snapshots.where("NOT in_stock").groupBy("item_id").agg(f.sort_array(f.collect_list(f.unix_date("run_date"))).alias("sold_out"))
    )
    gone = f.when(f.col("now").isNull(), f.coalesce("was.valid_to", f.lit(_LAST))).otherwise(f.lit(_LAST))
    known = (
        today.join(last, "item_id", "full")
        .join(bought, "item_id", "left")
        .join(sold_out, "item_id", "left")
        .withColumns({name: f.coalesce(f"now.{name}", f"was.{name}") for name in described})
        .withColumn("on_sale_to", f.greatest(gone, f.date_add("last_bought", 1)))
    )
    # What left the catalogue before any path begins is in nobody's evaluation.
    return known.where(f.col("on_sale_to") > f.lit(run_date - timedelta(days=history_days))).select(
        "item_id",
        "title",
        "category",
        f.coalesce("in_stock", f.lit(False)).alias("in_stock"),
        _family(family).alias("family"),
        f.array(*(attribute_of(None, name) for name in attributes)).cast("array<string>").alias("tastes"),
        f.col("price").cast("float").alias("price"),
        f.unix_date(f.least(f.coalesce("since", f.lit(_FIRST)), "first_bought")).alias("on_sale_from"),
        f.unix_date("on_sale_to").alias("on_sale_to"),
        f.coalesce("sold_out", f.array().cast("array<int>")).alias("sold_out"),
    )


def purchases_by_category(interactions: DataFrame, rankable: DataFrame) -> DataFrame:
    """Return category, user_id, item_id and day (from 1970-01-01) of every purchase of an item that may be ranked."""
    bought = interactions.where("action = 'purchase'").select("user_id", "item_id", f.unix_date("event_date").alias("day"))
    # A name of its own: the items are grouped by the very same column beside this frame.
    of_item = rankable.select("item_id", f.col("category").alias("category"))
    return bought.join(of_item, "item_id").select("category", "user_id", "item_id", "day")


def attribute_of(item: Column | None, name: str) -> Column:
    """Return an attribute of an item, a struct or the row itself: one of the columns brand, colour and size, else of `attributes`."""
    field = name if name in ("brand", "colour", "size") else "attributes"
    column = f.col(field) if item is None else item[field]
    return column if field == name else column[name]


def _family(name: str) -> Column:
    return attribute_of(None, name) if name else f.lower(f.trim(f.substring_index("title", ",", 1)))
