"""A raw catalogue snapshot becomes items; every other row gets the reason why it is none."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.ingest.text import plain_list, plain_text, with_plain_texts
from fashionrec.ingest.verdicts import first_reason
from fashionrec.lake.spec import table_spec
from fashionrec.sources.rows import is_blank

# Why a row may go to quarantine, in the order in which they are looked for.
REASONS = (
    "bad_encoding",
    "malformed",
    "missing_field",
    "text_too_long",
    "too_many_attributes",
    "bad_item_id",
    "blank_title",
    "bad_price",
    "bad_currency",
    "bad_date",
    "bad_image_url",
)
# A second row of one item in the catalogues of one day.
DUPLICATE = "duplicate"
# IDs that the answer's format can spell (fashionrec.prompts.answer): an item with another one could never be recommended by its ID.
_ANSWERABLE = r"^[A-Za-z0-9_./:-]{1,48}$"
COLUMNS = tuple(name for name in table_spec("items").struct.names if name != "run_date")
# What a catalogue may give as a JSON list.
_MAYBE_LISTS = ("brand", "colour", "size")
# A sign that no text has, and what shows that one of the texts that it joins is not clean, or blank.
_BETWEEN = "\ue000"
_UNCLEAN = rf"[\p{{Cc}}\p{{Cf}}|&<]|[\p{{Z}}&&[^ ]]|  |(^|{_BETWEEN})[ \[]| ({_BETWEEN}|$)|(^|{_BETWEEN})({_BETWEEN}|$)"
# No URL that mail clients open is longer; RFC 3986 has no other signs, so that HTML and CSV take it as one.
_LONGEST_URL = 2000
_URL = r"(?i)^https?://[a-z0-9\[](?:[a-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9a-f]{2})*+$"
# More than any template reads.
_MOST_ATTRIBUTES = 100


def judge_catalog(raw: DataFrame, *, max_text_length: int) -> DataFrame:
    """Return every raw row with the columns of the table `items` and a verdict on the row by itself (`verdicts_among` gives the rest).

    Texts that become part of prompts and answers (title, category, brand, colour, size, attributes) are cleaned to one line without '|'
    and without HTML's markup; of a JSON list its entries are left. Added are `row` (a number of its own), `reason` (null for a valid row,
    otherwise one of REASONS), `raw` (the row as text, where it is rejected), `file`, `arrival_date` and `unknown` (fields that the
    contract does not know).

    Args:
        raw: rows of `sources.source.read_days`; the day of their arrival is that of the catalogue.
        max_text_length: longest title, name or attribute, in characters.
    """
    texts = {"title": f.col("title"), "category": f.col("category"), **{name: plain_list(f.col(name)) for name in _MAYBE_LISTS}}
    rows = with_plain_texts(raw, {f"_{name}": text for name, text in texts.items()})
    rows = rows.withColumn("_date", f.col("first_available_date").try_cast("date"))
    rows = rows.withColumn("reason", _reason(max_text_length))
    return rows.select(
        f.monotonically_increasing_id().alias("row"),
        f.trim("item_id").alias("item_id"),
        *(f.col(f"_{name}").alias(name) for name in texts),
        "price",
        f.when(~is_blank("currency"), f.trim("currency")).alias("currency"),
        f.coalesce("in_stock", f.lit(True)).alias("in_stock"),
        f.col("_date").alias("first_available_date"),
        f.when(~is_blank("image_url"), f.trim("image_url")).alias("image_url"),
        _clean_attributes().alias("attributes"),
        "reason",
        f.when(f.col("reason").isNotNull(), f.coalesce("_text", f.to_json(f.struct(*COLUMNS)))).alias("raw"),
        f.col("_file").alias("file"),
        f.col("_arrival_date").alias("arrival_date"),
        f.col("_unknown").alias("unknown"),
    )


def verdicts_among(judged: DataFrame) -> DataFrame:
    """Return (row, reason) of the second and further rows of an item in one day's catalogue; of these the cheapest stays."""
    # Maps have no order; their sorted entries do.
    content = f.xxhash64(*(f.array_sort(f.map_entries(name)) if name == "attributes" else f.col(name) for name in COLUMNS))
    valid = judged.where(f.col("reason").isNull()).select("row", "item_id", "arrival_date", "price", content.alias("content"))
    copies = Window.partitionBy("item_id", "arrival_date").orderBy(f.asc_nulls_last("price"), "content", "row")
    again = valid.withColumn("place", f.row_number().over(copies)).where(f.col("place") > 1)
    return again.select("row", f.lit(DUPLICATE).alias("reason"))


def valid_items(judged: DataFrame) -> DataFrame:
    """Return the rows of the table `items`, but for its run date, with `arrival_date`, the day of their catalogue.

    Categories that differ in nothing but capital letters are one, spelt as most rows spell it.
    """
    valid = judged.where(f.col("reason").isNull()).select(*COLUMNS, "arrival_date")
    counted = valid.groupBy("category").agg(f.count(f.lit(1)).alias("rows"))
    # Of equally common spellings always the same.
    most = f.max_by("category", f.struct("rows", "category")).alias("spelling")
    spellings = counted.groupBy(f.lower("category").alias("_folded")).agg(most, f.count(f.lit(1)).alias("spellings"))
    several = f.broadcast(spellings.where("spellings > 1").drop("spellings"))
    respelt = valid.join(several, f.lower("category") == f.col("_folded"), "left")
    return respelt.withColumn("category", f.coalesce("spelling", "category")).select(*COLUMNS, "arrival_date")


def _clean_attributes() -> Column:
    """Return the attributes with their values cleaned, without those of which nothing is left."""
    cleaned = f.transform_values("attributes", lambda _, value: plain_text(plain_list(value)))
    # Lambdas are interpreted: one look at all values together tells the many items that need none.
    values = f.array_join(f.map_values("attributes"), _BETWEEN, "")
    return f.when(values.rlike(_UNCLEAN), f.map_filter(cleaned, lambda _, value: value.isNotNull())).otherwise(f.col("attributes"))


def _reason(max_text_length: int) -> Column:
    """Return the first reason that applies to a row by itself, null where none does."""
    price = f.col("price")
    texts = (f.col("_title"), *(f.col(name) for name in ("item_id", "_category", "brand", "colour", "size")))
    lengths = f.transform(f.map_entries("attributes"), lambda one: f.greatest(f.length(one["key"]), f.length(one["value"])))
    together = f.length(f.array_join(f.map_keys("attributes"), "")) + f.length(f.array_join(f.map_values("attributes"), ""))
    longest_attribute = f.when(together > max_text_length, f.array_max(lengths))
    return first_reason(
        {
            "bad_encoding": f.col("_bad_encoding"),
            "malformed": f.col("_malformed"),
            "missing_field": is_blank("item_id") | f.col("_category").isNull(),
            "text_too_long": (f.greatest(*(f.length(text) for text in texts), longest_attribute) > max_text_length)
            | (f.length("image_url") > _LONGEST_URL),
            "too_many_attributes": f.size("attributes") > _MOST_ATTRIBUTES,
            "bad_item_id": ~f.trim("item_id").rlike(_ANSWERABLE),
            "blank_title": f.col("_title").isNull(),
            "bad_price": (price < 0) | f.isnan(price) | (price == float("inf")),
            "bad_currency": ~is_blank("currency") & ~f.trim("currency").rlike("^[A-Z]{3}$"),
            "bad_date": ~is_blank("first_available_date") & f.col("_date").isNull(),
            # The picture goes into e-mails: a script or a file there would be worse than no item.
            "bad_image_url": ~is_blank("image_url") & ~f.trim("image_url").rlike(_URL),
        }
    )
