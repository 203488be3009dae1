"""Examples: the path of one user in one category before each purchase, and as it stands today.

A user's events are shuffled once: windows by user and category, then one array per path. No lambda below refers to an array that
is computed on the way: Spark would compute it again for every element (the H&M sample took 63 s of CPU that way).
"""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.sequences.sessions import ITEM_COLUMNS

_ACTION_COLUMNS = ("action", "event_at", "session_id", "query", "item_id", "position", *ITEM_COLUMNS)
_TARGET_COLUMNS = ("at", "event_id", "event_at", "item_id", "title")


def build_examples(events: DataFrame, *, run_date: date, max_actions: int, max_train_examples: int, min_actions: int) -> DataFrame:
    """Return the rows of the table `sequences` (without run_date) from the events of `attribute_searches`.

    Per user and category the last purchase is the test example, the one before validation, earlier ones train (the newest
    `max_train_examples`): a single purchase is a test example, two are validation and test. A purchase with fewer than
    `min_actions` cleaned actions before it makes no example, and its split stays empty. Every path also makes one score example.

    The answer is never in the input: no action on the target item, and nothing from the target on, is among the actions.
    """
    examples = events.where("category IS NOT NULL").transform(_paths).transform(_targets, kept=max_train_examples + 2)
    # An earlier event on the target item would give the answer away; the score example has no target and keeps all.
    before = f.slice("path", f.lit(1), f.col("target.at") - 1)
    others = f.filter(before, lambda step: step.item_id.isNull() | ~step.item_id.eqNullSafe(f.col("target.item_id")))
    examples = examples.withColumn("path", others).withColumn("path", _without_repeats("path"))
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
    """Return one row per user and category: `path`, its steps in order of time and event, and `purchases`, what to predict."""
    about = f.coalesce("item_id", "query")
    # Two pieces of one article in one basket may be two rows of one second: one action, else each would give the other away.
    alike = Window.partitionBy("user_id", "category", "event_at", "action", about).orderBy("event_id")
    in_order = Window.partitionBy("user_id", "category").orderBy("event_at", "event_id")
    repeats = (f.lag("action").over(in_order) == f.col("action")) & (f.lag(about).over(in_order) == about)
    steps = (
        events.withColumn("_copy", f.row_number().over(alike))
        .where("_copy = 1")
        .withColumn("_repeats", f.coalesce(repeats, f.lit(False)))
        .where("NOT _repeats")
        .withColumn("at", f.row_number().over(in_order))
    )
    # Maps cannot be compared, and sort_array wants to be able to: entries until the end.
    columns = [f.col(name) for name in _ACTION_COLUMNS if name != "attributes"]
    step = f.struct("at", *columns, f.map_entries("attributes").alias("attributes"))
    target = f.when(f.col("action") == "purchase", f.struct(*_TARGET_COLUMNS))
    return steps.groupBy("user_id", "category").agg(
        f.sort_array(f.collect_list(step)).alias("path"), f.sort_array(f.collect_list(target)).alias("purchases")
    )


def _targets(paths: DataFrame, *, kept: int) -> DataFrame:
    """Return one row per example: its path, its `split`, and its `target`, of which score knows nothing but where it would be."""
    nothing = [f.lit(None).alias(name) for name in _TARGET_COLUMNS if name != "at"]
    today = f.struct((f.size("path") + 1).alias("at"), *nothing)
    newest = paths.withColumn("targets", f.concat(_newest("purchases", kept), f.array(today)))
    from_end = f.size("targets") - 1 - f.col("place")
    split = f.when(from_end == 0, "score").when(from_end == 1, "test").when(from_end == 2, "validation").otherwise("train")
    return newest.select("*", f.posexplode("targets").alias("place", "target")).withColumn("split", split)


def _without_repeats(path: str) -> Column:
    """Return the steps of a path that do not repeat the step before them: the same action on the same item or query."""

    def unless_repeated(step: Column, before: Column) -> Column:
        same = (step.action == before.action) & step.item_id.eqNullSafe(before.item_id) & step.query.eqNullSafe(before.query)
        return f.when(~f.coalesce(same, f.lit(False)), step)

    shifted = f.concat(f.array(f.lit(None)), path)
    return f.filter(f.zip_with(path, shifted, unless_repeated), lambda step: step.isNotNull())


def _newest(array: str, count: int) -> Column:
    return f.slice(array, f.greatest(f.size(array) - (count - 1), f.lit(1)), f.lit(count))


def _action(step: Column) -> Column:
    columns = [step.getField(name).alias(name) for name in _ACTION_COLUMNS if name != "attributes"]
    return f.struct(*columns, f.map_from_entries(step.attributes).alias("attributes"))


def _example_id() -> Column:
    # A separator that no ID contains: ("ab", "c") and ("a", "bc") are two examples.
    parts = f.concat_ws("\x1f", "user_id", "category", f.coalesce("target.event_id", f.lit("score")))
    return f.substring(f.sha2(parts, 256), 1, 16)
