"""Recommendations -> the feed of an e-mail campaign, one row per user that may be mailed."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as f

from fashionrec.errors import UserError

_PRODUCT = ("item_id", "title", "category", "price", "currency", "image_url", "reason")


class SuppressionError(UserError):
    """The list of users that must not be mailed cannot be read: nobody is mailed."""


def campaign_feed(
    recommendations: DataFrame,
    items: DataFrame,
    interactions: DataFrame,
    *,
    run_date: date,
    max_items: int,
    valid_days: int,
    bought_again: Sequence[str],
) -> DataFrame:
    """Return one row per user with at most `max_items` products that are in stock and that the user never bought, but for categories in
    which things are `bought_again`.

    The categories take turns by rank, the one with the user's newest activity first. Users left without a product have no row.
    Columns: user_id, products (array of the table's struct, in order), valid_until.
    """
    bought = interactions.where("action = 'purchase'").select("user_id", "item_id").distinct().withColumn("bought", f.lit(True))
    is_new = f.col("bought").isNull() | f.col("category").isin(*bought_again)
    newest = (
        interactions.join(items.select("item_id", "category"), "item_id")
        .groupBy("user_id", "category")
        .agg(f.max("event_at").alias("active_at"))
    )
    offered = items.where("in_stock").select("item_id", "price", "currency", "image_url")
    by_rank = Window.partitionBy("user_id", "category").orderBy("rank")
    by_turn = Window.partitionBy("user_id").orderBy("turn", f.col("active_at").desc_nulls_last(), "category")
    return (
        recommendations.select("user_id", "category", "rank", "item_id", "title", "reason")
        .join(bought, ["user_id", "item_id"], "left")
        .where(is_new)
        .join(offered, "item_id")
        .join(newest, ["user_id", "category"], "left")
        .withColumn("turn", f.row_number().over(by_rank))
        .withColumn("place", f.row_number().over(by_turn))
        .where(f.col("place") <= max_items)
        .groupBy("user_id")
        .agg(f.array_sort(f.collect_list(f.struct("place", f.struct(*_PRODUCT).alias("product")))).alias("placed"))
        .select(
            "user_id",
            f.col("placed.product").alias("products"),
            f.date_add(f.lit(run_date), valid_days).alias("valid_until"),
        )
    )


def suppressed_users(spark: SparkSession, path: str) -> DataFrame:
    """Return the distinct user_id of a CSV (with a header) or JSON-lines file; no rows for an empty path.

    Raises:
        SuppressionError: the file is missing or unreadable, or has no column user_id.
    """
    if not path:
        return spark.createDataFrame([], "user_id string")
    if "://" not in path and not Path(path).exists():
        raise SuppressionError(f"campaign.suppression: {path} does not exist; mailing without it would reach users who opted out")
    strict = spark.read.option("mode", "FAILFAST")
    try:
        # Everything is read as text: an ID such as 007 is no number.
        is_csv = path.removesuffix(".gz").endswith(".csv")
        frame = strict.csv(path, header=True) if is_csv else strict.option("primitivesAsString", True).json(path)
        if "user_id" not in frame.columns:
            raise SuppressionError(f"campaign.suppression: {path} has no column user_id (found: {', '.join(frame.columns) or 'nothing'})")
        users = frame.select(f.trim("user_id").alias("user_id")).where("user_id <> ''").distinct()
        # Broken rows show only when they are read, and must stop the run before anything is written.
        users.count()
    except (PySparkException, Py4JJavaError) as error:
        kind = "CSV" if is_csv else "JSON lines"
        why = next((line for line in str(error).splitlines() if "[" in line), str(error))
        raise SuppressionError(f"campaign.suppression: {path} cannot be read as {kind}: {why[:300]}") from None
    return users
