"""What the training processes read: examples of sequences and items, as Spark exports them."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as f


def core_examples(sequences: DataFrame, *, max_actions: int) -> DataFrame:
    """Return the train and validation examples that hold at least one item.

    Columns: example_id, split, category, item_ids (clicks and purchases oldest to newest, the newest `max_actions`), target_item_id.
    """
    items = f.transform(f.filter("actions", lambda a: a["item_id"].isNotNull()), lambda a: a["item_id"])
    newest = f.slice("item_ids", f.greatest(f.size("item_ids") - max_actions + 1, f.lit(1)), max_actions)
    return (
        sequences.where("split IN ('train', 'validation')")
        .select("example_id", "split", "category", items.alias("item_ids"), "target_item_id")
        .withColumn("item_ids", newest)
        .where(f.size("item_ids") > 0)
    )


def title_pairs(sequences: DataFrame, *, session_gap_minutes: int) -> DataFrame:
    """Return the pairs of a query and the title of the item purchased after it in the same session (section 4.4).

    The query is the last search of the session that the purchase ends; a purchase later than the gap after the last action
    began a session of its own.
    Columns: split (train or validation), category, query, title, paired_at (time of the purchase, UTC).
    """
    last = f.element_at("actions", -1)
    seconds = f.unix_timestamp("target_at") - f.unix_timestamp(last["event_at"])
    searches = f.filter("actions", lambda a: (a["action"] == "search") & (a["session_id"] == last["session_id"]))
    return (
        sequences.where("split IN ('train', 'validation')")
        .where(seconds <= session_gap_minutes * 60)
        .withColumn("query", f.trim(f.try_element_at(searches, f.lit(-1))["query"]))
        .where("query <> ''")
        .select("split", "category", "query", f.col("target_title").alias("title"), f.col("target_at").alias("paired_at"))
    )


def catalogue_titles(items: DataFrame) -> DataFrame:
    """Return item_id, title, category and phrase of each item.

    The phrase stands in for a query where a shop logs none: the colour and three short attributes (at most three words each), the
    one named `type` first and the others in the order of their names; none where an item has neither.
    """
    named = f.transform(f.map_entries("attributes"), lambda e: f.struct((e["key"] != "type").alias("later"), e["key"], e["value"]))
    short = f.filter(f.array_sort(named), lambda e: f.size(f.split(f.trim(e["value"]), r"\s+")) <= 3)
    words = f.slice(f.transform(short, lambda e: f.trim(e["value"])), 1, 3)
    phrase = f.nullif(f.lower(f.trim(f.concat_ws(" ", f.col("colour"), f.array_distinct(words)))), f.lit(""))
    return items.select("item_id", "title", "category", phrase.alias("phrase"))
