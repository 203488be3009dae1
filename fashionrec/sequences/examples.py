"""Examples: the path of one user in one category before each purchase, and as it stands today.

Everything happens within one array per user and category, so that a user's events are shuffled once.
"""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.sequences.sessions import ITEM_COLUMNS

_ACTION_COLUMNS = ("action", "event_at", "session_id", "query", "item_id", "position", *ITEM_COLUMNS)


def build_examples(events: DataFrame, *, run_date: date, max_actions: int, max_train_examples: int, min_actions: int) -> DataFrame:
    """Return the rows of the table `sequences` (without run_date) from the events of `attribute_searches`.

    Per user and category the last purchase is the test example, the one before validation, earlier ones train (the newest
    `max_train_examples`): a single purchase is a test example, two are validation and test. A purchase with fewer than
    `min_actions` cleaned actions before it makes no example, and its split stays empty. Every path also makes one score example.

    The answer is never in the input: no action on the target item, and nothing from the target on, is among the actions.
    """
    examples = events.where("category IS NOT NULL").transform(_paths).transform(_targets, kept=max_train_examples + 2)
    # An earlier event on the target item would give the answer away; the score example has no target and keeps all.
    others = f.filter(
        f.slice("path", f.lit(1), f.col("at") - 1), lambda step: ~step.item_id.eqNullSafe(f.col("target.item_id")) | step.item_id.isNull()
    )
    examples = examples.select("user_id", "category", "split", "target", others.alias("path"))
    examples = examples.withColumn("path", _without_repeats("path"))
    enough = f.size("path") >= f.when(f.col("split") == "score", f.lit(1)).otherwise(f.lit(min_actions))
    return examples.where(enough).select(
        _example_id().alias("example_id"),
        "user_id",
        "category",
        "split",
        f.coalesce(f.date_sub(f.to_date("target.event_at"), 1), f.lit(run_date)).alias("as_of_date"),
        f.transform(_newest("path", max_actions), _action).alias("actions"),
        f.col("target.item_id").alias("target_item_id"),
        f.col("target.title").alias("target_title"),
        f.col("target.event_at").alias("target_at"),
    )


def _paths(events: DataFrame) -> DataFrame:
    """Return one row per user and category: `path`, its steps in order of time and event, immediate repeats collapsed."""
    # Two pieces of one article in one basket are two rows of the same second: one action, else each would give the other away.
    alike = Window.partitionBy("user_id", "category", "event_at", "action", f.coalesce("item_id", "query")).orderBy("event_id")
    once = events.withColumn("_copy", f.row_number().over(alike)).where("_copy = 1")
    # sort_array compares event_at, then event_id, which is unique; maps cannot be compared at all, hence entries.
    attributes = f.map_entries("attributes").alias("attributes")
    others = [name for name in _ACTION_COLUMNS if name not in ("event_at", "attributes")]
    steps = f.sort_array(f.collect_list(f.struct("event_at", "event_id", *others, attributes)))
    return once.groupBy("user_id", "category").agg(steps.alias("path")).withColumn("path", _without_repeats("path"))


def _targets(paths: DataFrame, *, kept: int) -> DataFrame:
    """Return one row per example: `target` (a step of `path`, none for score), its place `at` (from 1) and its `split`."""
    purchases = f.filter(f.sequence(f.lit(1), f.size("path")), lambda at: f.get("path", at - 1).action == "purchase")
    ends = f.concat(_newest("purchases", kept), f.array(f.size("path") + 1))
    from_end = f.size("ends") - 1 - f.col("place")
    split = f.when(from_end == 0, "score").when(from_end == 1, "test").when(from_end == 2, "validation").otherwise("train")
    return (
        paths.withColumn("purchases", purchases)
        .withColumn("ends", ends)
        .select("user_id", "category", "path", "ends", f.posexplode("ends").alias("place", "at"))
        .select("user_id", "category", "path", "at", split.alias("split"), f.get("path", f.col("at") - 1).alias("target"))
    )


def _without_repeats(path: str) -> Column:
    """Return the steps of a path that do not repeat the step before them: the same action on the same item or query."""

    def is_new(step: Column, place: Column) -> Column:
        before = f.get(path, place - 1)
        same = (step.action == before.action) & step.item_id.eqNullSafe(before.item_id) & step.query.eqNullSafe(before.query)
        return (place == 0) | ~same

    return f.filter(path, is_new)


def _newest(array: str, count: int) -> Column:
    return f.slice(array, f.greatest(f.size(array) - (count - 1), f.lit(1)), f.lit(count))


def _action(step: Column) -> Column:
    columns = [step.getField(name).alias(name) for name in _ACTION_COLUMNS if name != "attributes"]
    return f.struct(*columns, f.map_from_entries(step.attributes).alias("attributes"))


def _example_id() -> Column:
    # A separator that no ID contains: ("ab", "c") and ("a", "bc") are two examples.
    parts = f.concat_ws("\x1f", "user_id", "category", f.coalesce("target.event_id", f.lit("score")))
    return f.substring(f.sha2(parts, 256), 1, 16)
