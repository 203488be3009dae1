"""What is popular in a category: the declared fallback."""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f


def popular_items(items: DataFrame, interactions: DataFrame, *, run_date: date, history_days: int, count: int) -> DataFrame:
    """Return the `count` items in stock of each category with the most purchases in the days up to and including the run date.

    Ties go to the lower item_id. Items nobody bought fill the end, so a category with `count` items in stock always gives `count` rows.
    Columns: category, rank (from 1), item_id, title, purchase_count.
    """
    age_days = f.date_diff(f.lit(run_date), f.col("event_date"))
    bought = interactions.where(f.col("action") == "purchase").where((age_days >= 0) & (age_days < history_days))
    counts = bought.groupBy("item_id").agg(f.count("*").alias("purchase_count"))
    order = Window.partitionBy("category").orderBy(f.desc("purchase_count"), "item_id")
    return (
        items.where("in_stock")
        .join(counts, "item_id", "left")
        .fillna(0, ["purchase_count"])
        .withColumn("rank", f.row_number().over(order))
        .where(f.col("rank") <= count)
        .select("category", "rank", "item_id", "title", "purchase_count")
    )
