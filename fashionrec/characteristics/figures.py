"""C1, C2 and C4: turnover, comparison and queries, by vertical, category and month. Pure DataFrame functions.

A vertical is a group of categories (`evaluate.verticals`; what stands in none is fashion). Each function returns rows of the table
`characteristics` without run_date, and no row where the data does not hold what the figure is made of.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.lake.order import event_order

ALL, WHOLE, LAST_MONTHS = "all", "whole", "last_3_months"
FASHION = "fashion"
# The paper's ratios of fashion to other verticals (section 3).
PAPER = {
    "c1_turnover": {"electronics": 3.6, "toys": 6.7},
    "c2_comparison": {"electronics": 1.55, "toys": 1.81},
    "c4_queries": {"electronics": 2.63, "toys": 2.38},
}
COLUMNS = ("characteristic", "metric", "vertical", "category", "attribute", "attribute_value", "period", "value")
SCHEMA = ", ".join(f"{name} string" for name in COLUMNS[:-1]) + ", value double"


def with_vertical(rows: DataFrame, verticals: Mapping[str, Sequence[str]]) -> DataFrame:
    """Return rows that have a `category` with their `vertical`."""
    named = {category: vertical for vertical, categories in verticals.items() for category in categories}
    pairs = [f.lit(part) for pair in named.items() for part in pair]
    vertical = f.coalesce(f.create_map(*pairs)[f.col("category")], f.lit(FASHION)) if pairs else f.lit(FASHION)
    return rows.withColumn("vertical", vertical)


def turnover(versions: DataFrame, *, until: date) -> DataFrame:
    """C1: items new in a month, by the day that the catalogue names, else by the first catalogue that held them.

    Only full months since the first catalogue are counted, and their mean is that of the period "whole": of earlier months a catalogue
    knows what had not left by then. Where there is no full month, all are returned, as `new_items_still_on_sale`.

    Args:
        versions: rows of `item_versions` with `vertical`.
        until: the run date.
    """
    items = versions.groupBy("vertical", "category", "item_id").agg(
        f.min("first_available_date").alias("named"),
        f.min("valid_from").alias("listed"),
        f.bool_or(f.col("valid_to").isNull()).alias("there"),
    )
    items = items.transform(_with_whole_vertical)
    opened = (items.agg(f.min("listed")).first() or [until])[0] or until
    # What the first catalogue held was there before it.
    new = f.coalesce("named", f.when(f.col("listed") > f.lit(opened), f.col("listed")))
    known = items.withColumn("new", new).where(f.col("new") <= f.lit(until)).withColumn("period", f.date_format("new", "yyyy-MM"))
    months = full_months(opened, until)
    name = "new_items" if months else "new_items_still_on_sale"
    counted = known.where(f.col("period").isin(months)) if months else known
    monthly = counted.groupBy("vertical", "category", "period").agg(f.count("*").alias("value"))
    on_sale = items.where("there").groupBy("vertical", "category").agg(f.count("*").alias("value"))
    rows = _rows(monthly, "c1_turnover", name).union(_rows(on_sale.withColumn("period", f.lit(WHOLE)), "c1_turnover", "items_on_sale"))
    if months:
        mean = monthly.groupBy("vertical", "category").agg((f.sum("value") / len(months)).alias("value"))
        rows = rows.union(_rows(mean.withColumn("period", f.lit(WHOLE)), "c1_turnover", name))
    return rows


def full_months(first: date, last: date) -> list[str]:
    """Return the months (YYYY-MM) all of whose days are from `first` to `last`."""
    months = []
    day = first if first.day == 1 else _next_month(first)
    while _next_month(day) <= last + timedelta(days=1):
        months.append(f"{day:%Y-%m}")
        day = _next_month(day)
    return months


def comparison(events: DataFrame) -> DataFrame:
    """C2: searches and clicks between a purchase and the same shopper's purchase before it in the category, as a mean over purchases.

    Args:
        events: attributed events with `vertical` and `category`; nothing comes of purchases alone.
    """
    so_far = Window.partitionBy("user_id", "vertical", "category").orderBy(*event_order()).rowsBetween(Window.unboundedPreceding, -1)
    block = f.count_if(f.col("action") == "purchase").over(so_far)
    purchases = (
        events.where("category IS NOT NULL")
        .withColumn("block", block)
        .groupBy("user_id", "vertical", "category", "block")
        .agg(
            f.count_if(f.col("action") != "purchase").alias("actions"),
            f.max(f.when(f.col("action") == "purchase", f.col("event_at"))).alias("at"),
        )
        .where("at IS NOT NULL")
    )
    periods = purchases.transform(_with_whole_vertical).withColumn(
        "period", f.explode(f.array(f.date_format("at", "yyyy-MM"), f.lit(WHOLE)))
    )
    means = periods.groupBy("vertical", "category", "period").agg(f.avg("actions").alias("value"))
    return _rows(means.where("value > 0"), "c2_comparison", "actions_before_purchase")


def queries(events: DataFrame, *, until: date) -> DataFrame:
    """C4: different queries a day, as a mean over the days of a month (and of the three months up to `until`) on which anybody acted.

    Args:
        events: attributed events with `vertical` and `category`, and `query` normalised.
        until: the run date.
    """
    recent = f.col("day") > f.add_months(f.lit(until), -3)
    period = f.explode(f.array_compact(f.array(f.date_format("day", "yyyy-MM"), f.when(recent, f.lit(LAST_MONTHS)))))
    dated = events.withColumn("day", f.to_date("event_at"))
    days = dated.select("day").distinct().withColumn("period", period).groupBy("period").agg(f.count("*").alias("day_count"))
    typed = dated.where("action = 'search' AND category IS NOT NULL AND query <> ''").transform(_with_whole_vertical)
    different = typed.select("day", "vertical", "category", "query").distinct().withColumn("period", period)
    counts = different.groupBy("vertical", "category", "period").agg(f.count("*").alias("query_count"))
    means = counts.join(f.broadcast(days), "period").withColumn("value", f.col("query_count") / f.col("day_count"))
    return _rows(means, "c4_queries", "unique_queries_per_day")


def _rows(figures: DataFrame, characteristic: str, metric: str) -> DataFrame:
    """Return figures of vertical, category, period and value as rows of the table."""
    named = {"characteristic": characteristic, "metric": metric, "attribute": "", "attribute_value": ""}
    return (
        figures.withColumns({name: f.lit(value) for name, value in named.items()})
        .withColumn("value", f.col("value").cast("double"))
        .select(*COLUMNS)
    )


def _with_whole_vertical(rows: DataFrame) -> DataFrame:
    """Return every row twice: for its category, and for all of its vertical."""
    return rows.withColumn("category", f.explode(f.array("category", f.lit(ALL))))


def _next_month(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)
