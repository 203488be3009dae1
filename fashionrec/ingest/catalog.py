"""A raw catalogue snapshot becomes items; every other row gets the reason why it is none."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.ingest.raw import clean_text, is_blank

# Why a row may go to quarantine, in the order in which they are looked for.
REASONS = ("malformed", "missing_field", "bad_item_id", "blank_title", "bad_price", "bad_date")
DUPLICATE = "duplicate"
# IDs that the answer's format can spell (fashionrec.prompts.answer): an item with another one could never be recommended by its ID.
_ANSWERABLE = r"^[A-Za-z0-9_-]{1,24}$"
_COLUMNS = (
    "item_id",
    "title",
    "category",
    "brand",
    "colour",
    "size",
    "price",
    "currency",
    "in_stock",
    "first_available_date",
    "image_url",
    "attributes",
)


def judge_catalog(raw: DataFrame) -> DataFrame:
    """Return every raw row with the columns of the table `items` and a verdict.

    Texts that become part of prompts and answers (title, brand, colour, size, attributes) are cleaned to one line without '|'. Added are
    `reason` (null for a valid row, otherwise one of REASONS or DUPLICATE), `raw` (the row as text, where it is rejected), `file` and
    `unknown` (fields that the contract does not know).
    """
    price = f.col("price")
    rows = raw.withColumns({"_title": clean_text("title"), "_date": f.col("first_available_date").try_cast("date")})
    tests = {
        "malformed": f.col("_malformed"),
        "missing_field": is_blank("item_id") | is_blank("category"),
        "bad_item_id": ~f.trim("item_id").rlike(_ANSWERABLE),
        "blank_title": f.col("_title").isNull(),
        "bad_price": (price < 0) | f.isnan(price) | (price == float("inf")),
        "bad_date": ~is_blank("first_available_date") & f.col("_date").isNull(),
    }
    rows = rows.withColumn("reason", f.coalesce(*(f.when(test, f.lit(reason)) for reason, test in tests.items())))
    judged = rows.select(
        f.trim("item_id").alias("item_id"),
        f.col("_title").alias("title"),
        f.trim("category").alias("category"),
        *(clean_text(name).alias(name) for name in ("brand", "colour", "size")),
        "price",
        "currency",
        f.coalesce("in_stock", f.lit(True)).alias("in_stock"),
        f.col("_date").alias("first_available_date"),
        "image_url",
        f.map_filter(f.transform_values("attributes", lambda _, value: clean_text(value)), lambda _, value: value.isNotNull()).alias(
            "attributes"
        ),
        "reason",
        f.when(f.col("reason").isNotNull(), f.coalesce("_text", f.to_json(f.struct(*_COLUMNS)))).alias("raw"),
        f.col("_file").alias("file"),
        f.regexp_extract("_file", r"/(\d{4}-\d{2}-\d{2})/[^/]+$", 1).cast("date").alias("arrival_date"),
        f.col("_unknown").alias("unknown"),
    )
    # Maps have no order; their sorted entries do.
    order = [f.array_sort(f.map_entries(name)) if name == "attributes" else f.col(name) for name in _COLUMNS[1:]]
    copies = Window.partitionBy("item_id", "reason", "arrival_date").orderBy(*order, "file")
    later_copy = f.col("reason").isNull() & (f.row_number().over(copies) > 1)
    return judged.withColumn("reason", f.when(later_copy, DUPLICATE).otherwise(f.col("reason")))


def valid_items(judged: DataFrame) -> DataFrame:
    """Return the rows of the table `items`, but for its run date, with `arrival_date`, the day of their catalogue."""
    return judged.where(f.col("reason").isNull()).select(*_COLUMNS, "arrival_date")
