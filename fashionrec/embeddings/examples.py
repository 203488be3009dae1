"""What the training processes read: examples of sequences and items, as Spark exports them."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f


def training_inputs(sequences: DataFrame, items: DataFrame, *, max_actions: int, session_gap_minutes: int) -> dict[str, DataFrame]:
    """Return what the training processes read, by the name of its Parquet folder."""
    # The row of an example that ends the evening before holds nothing that its whole path lacks.
    sequences = sequences.where("horizon = 'in_session' OR split = 'score'")
    return {
        "examples": core_examples(sequences, max_actions=max_actions),
        "pairs": title_pairs(sequences, session_gap_minutes=session_gap_minutes),
        "items": catalogue_titles(items),
    }


def with_all_purchases(sequences: DataFrame) -> DataFrame:
    """Return the paths with what was held out among the training examples: what serves has learnt every purchase."""
    return sequences.withColumn("split", f.when(f.col("split").isin("validation", "test"), "train").otherwise(f.col("split")))


def core_examples(sequences: DataFrame, *, max_actions: int) -> DataFrame:
    """Return what CORE learns from and is validated on: train and validation examples, and each shopper's path up to the training cut.

    The path of a shopper and category ends before the first purchase that is held out (validation, else test; without any, with the run
    date); its next clicks and purchases are learnt one by one, so that items that nobody bought yet are learnt too. Earlier clicks on what
    the shopper's held-out purchases are of are in nothing that is learnt, as they are not in the evaluation's inputs.
    Columns: example_id, split (train, validation, or path), category, item_ids (clicks and purchases oldest to newest, the newest
    `max_actions`, at least one), target_item_id (of a path: its last item).
    """
    shopper = Window.partitionBy("user_id", "category")
    first = f.array_position(f.array(*map(f.lit, ("validation", "test", "score", "train"))), f.col("split"))
    held_out = f.when(f.col("split").isin("validation", "test"), f.col("target_item_id"))
    rows = sequences.select(
        "example_id",
        "split",
        "category",
        "target_item_id",
        f.transform(f.filter("actions", lambda a: a["item_id"].isNotNull()), lambda a: a["item_id"]).alias("item_ids"),
        f.collect_set(held_out).over(shopper).alias("held_out"),
        f.row_number().over(shopper.orderBy(first)).alias("place"),
    )
    known = rows.withColumn("item_ids", f.filter("item_ids", lambda item: ~f.array_contains("held_out", item)))
    paths = (
        known.where("split <> 'train' AND place = 1 AND size(item_ids) > 1")
        .withColumns({"split": f.lit("path"), "target_item_id": f.element_at("item_ids", -1)})
        # Spark may cut before it filters, and a slice of less than nothing is an error.
        .withColumn("item_ids", f.expr("slice(item_ids, 1, greatest(size(item_ids) - 1, 0))"))
    )
    newest = f.slice("item_ids", f.greatest(f.size("item_ids") - max_actions + 1, f.lit(1)), max_actions)
    return (
        known.where("split = 'train'")
        .union(rows.where("split = 'validation'"))
        .union(paths)
        .select("example_id", "split", "category", newest.alias("item_ids"), "target_item_id")
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
