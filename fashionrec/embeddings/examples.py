"""What the training processes read: examples of sequences and items, as Spark exports them."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f


def core_examples(sequences: DataFrame, *, max_actions: int) -> DataFrame:
    """Return what CORE learns from and is validated on: the train and validation examples, and each shopper's path up to the training cut.

    The path of a shopper and category ends before the first purchase that is held out (validation, else test, else the end of the run date);
    its next clicks and purchases are learnt one by one, so that items that nobody bought yet are learnt too.
    Columns: example_id, split (train, validation, or path), category, item_ids (clicks and purchases oldest to newest, the newest
    `max_actions`, at least one), target_item_id (of a path: its last item).
    """
    items = f.transform(f.filter("actions", lambda a: a["item_id"].isNotNull()), lambda a: a["item_id"])
    held_out = f.array_position(f.array(f.lit("validation"), f.lit("test"), f.lit("score")), f.col("split"))
    first = f.row_number().over(Window.partitionBy("user_id", "category").orderBy(held_out))
    paths = (
        sequences.where("split <> 'train'")
        .withColumn("place", first)
        .where("place = 1")
        .select("example_id", f.lit("path").alias("split"), "category", items.alias("all_items"))
        .where("size(all_items) > 1")
        .select(
            "example_id",
            "split",
            "category",
            f.expr("slice(all_items, 1, greatest(size(all_items) - 1, 0))").alias("item_ids"),
            f.element_at("all_items", -1),
        )
    )
    examples = sequences.where("split IN ('train', 'validation')").select(
        "example_id", "split", "category", items.alias("item_ids"), "target_item_id"
    )
    newest = f.slice("item_ids", f.greatest(f.size("item_ids") - max_actions + 1, f.lit(1)), max_actions)
    return examples.union(paths).withColumn("item_ids", newest).where(f.size("item_ids") > 0)


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
    """Return item_id, title, category, phrase and values of each item.

    The phrase stands in for a query where a shop logs none: the colour and three short attributes (at most three words each), the
    one named `type` first and the others in the order of their names; none where an item has neither.
    The values are all attributes as an array of name and value, brand, colour and size before the others.
    """
    columns = f.array(*(f.struct(f.lit(name).alias("key"), f.col(name).alias("value")) for name in ("brand", "colour", "size")))
    every = f.concat(columns, f.coalesce(f.map_entries("attributes"), f.array().cast("array<struct<key: string, value: string>>")))
    values = f.transform(
        f.filter(every, lambda e: e["value"].isNotNull()), lambda e: f.struct(e["key"].alias("name"), e["value"].alias("value"))
    )
    named = f.transform(f.map_entries("attributes"), lambda e: f.struct((e["key"] != "type").alias("later"), e["key"], e["value"]))
    short = f.filter(f.array_sort(named), lambda e: f.size(f.split(f.trim(e["value"]), r"\s+")) <= 3)
    words = f.slice(f.transform(short, lambda e: f.trim(e["value"])), 1, 3)
    phrase = f.nullif(f.lower(f.trim(f.concat_ws(" ", f.col("colour"), f.array_distinct(words)))), f.lit(""))
    return items.select("item_id", "title", "category", phrase.alias("phrase"), values.alias("values"))
