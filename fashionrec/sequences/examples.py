"""Examples: the path of one user in one category before each purchase, and as it stands today.

The events come from `sessions`, shuffled by user; sorted once more within each user, by category, they need no other shuffle. No lambda
below refers to an array that is computed on the way: Spark would compute it again for every element.
"""

from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.sequences.sessions import ITEM_COLUMNS

_STEP_COLUMNS = ("action", "event_at", "session_id", "query", "item_id", "position", *(f"item.{name}" for name in ITEM_COLUMNS))
_TARGET_COLUMNS = ("at", "event_id", "event_at", "item_id", "item.title")


def build_examples(
    events: DataFrame, *, run_date: date, max_actions: int, max_train_examples: int, min_actions: int, validation_days: int, test_days: int
) -> DataFrame:
    """Return the rows of the table `sequences` (without run_date) from the events of `attribute_searches`.

    Per user and category the last purchase is the test example, the one before validation, earlier ones train (the newest
    `max_train_examples`): a single purchase is a test example, two are validation and test. A purchase with fewer than
    `min_actions` cleaned actions before it makes no example, and its split stays empty. Every path also makes one score example.
    `split_by_time` tells the same examples apart by the day of their purchase: the newest `test_days` up to the run date are test, the
    `validation_days` before them validation.

    The answer is never in the input: no action on the target item, and nothing from the target on, is among the actions.
    """
    paths = events.where("category IS NOT NULL").transform(_paths)
    examples = _examples(paths, kept=max_train_examples + 2).withColumn("steps", _newest(_without_repeats_if_cut(), max_actions))
    bought_on, first_test_day = f.to_date("target.event_at"), run_date - timedelta(days=test_days - 1)
    by_time = (
        f.when(bought_on.isNull(), "score")
        .when(bought_on >= f.lit(first_test_day), "test")
        .when(bought_on >= f.lit(first_test_day - timedelta(days=validation_days)), "validation")
        .otherwise("train")
    )
    enough = f.size("kept") >= f.when(f.col("split") == "score", f.lit(1)).otherwise(f.lit(min_actions))
    return examples.where(enough).select(
        _example_id().alias("example_id"),
        "user_id",
        "category",
        "split",
        by_time.alias("split_by_time"),
        f.coalesce(f.date_sub(bought_on, 1), f.lit(run_date)).alias("as_of_date"),
        f.transform("steps", lambda step: step.step).alias("actions"),
        f.col("target.item_id").alias("target_item_id"),
        f.col("target.title").alias("target_title"),
        f.col("target.event_at").alias("target_at"),
    )


def _paths(events: DataFrame) -> DataFrame:
    """Return one row per user and category: `path`, its steps in order of time and event, and `purchases`, what to predict."""
    about = f.coalesce("item_id", "query")
    in_order = Window.partitionBy("user_id", "category").orderBy("event_at", "event_id")
    repeats = (f.lag("action").over(in_order) == f.col("action")) & (f.lag(about).over(in_order) == about)
    # The place counts repeats, too: a second pass over the events would only close its gaps.
    steps = events.withColumns({"_repeats": f.coalesce(repeats, f.lit(False)), "at": f.row_number().over(in_order)}).where("NOT _repeats")
    step = f.struct("at", f.struct(*_STEP_COLUMNS).alias("step"))
    target = f.when(f.col("action") == "purchase", f.struct(*_TARGET_COLUMNS))
    paths = steps.groupBy("user_id", "category").agg(f.collect_list(step).alias("path"), f.collect_list(target).alias("purchases"))
    # They were collected in order, which Spark does not promise; sorting what is sorted is one pass.
    return paths.withColumns({name: f.array_sort(name, lambda a, b: a["at"] - b["at"]) for name in ("path", "purchases")})


def _examples(paths: DataFrame, *, kept: int) -> DataFrame:
    """Return one row per example: user, category, `split`, `target`, the steps `kept` before it, and whether some were `cut` out.

    What is cut are the earlier events on the target item, which would give the answer away; score has no target and keeps all.
    """
    nothing = [f.lit(None).alias(name.removeprefix("item.")) for name in _TARGET_COLUMNS if name != "at"]
    today = f.struct(f.lit(2**31 - 1).alias("at"), *nothing)
    targets = paths.withColumn("targets", f.concat(_newest("purchases", kept), f.array(today)))

    def example(target: Column) -> Column:
        def before(step: Column) -> Column:
            return step["at"] < target["at"]

        def on_target(step: Column) -> Column:
            return f.coalesce(step["step"]["item_id"] == target["item_id"], f.lit(False))

        return f.struct(
            target.alias("target"),
            f.filter("path", lambda step: before(step) & ~on_target(step)).alias("kept"),
            f.exists("path", lambda step: before(step) & on_target(step)).alias("cut"),
        )

    exploded = targets.select("user_id", "category", f.size("targets").alias("count"), f.posexplode(f.transform("targets", example)))
    from_end = f.col("count") - 1 - f.col("pos")
    split = f.when(from_end == 0, "score").when(from_end == 1, "test").when(from_end == 2, "validation").otherwise("train")
    return exploded.select("user_id", "category", split.alias("split"), "col.*")


def _without_repeats_if_cut() -> Column:
    """Return the steps kept; where some were cut out between them, without those that now repeat the step before them."""

    def unless_repeated(step: Column, before: Column) -> Column:
        now, then = step["step"], before["step"]
        same = (now["action"] == then["action"]) & now["item_id"].eqNullSafe(then["item_id"]) & now["query"].eqNullSafe(then["query"])
        return f.when(~f.coalesce(same, f.lit(False)), step)

    shifted = f.concat(f.array(f.lit(None)), f.col("kept"))
    collapsed = f.filter(f.zip_with("kept", shifted, unless_repeated), lambda step: step.isNotNull())
    return f.when(f.col("cut"), collapsed).otherwise(f.col("kept"))


def _newest(array: str | Column, count: int) -> Column:
    return f.slice(array, f.greatest(f.size(array) - (count - 1), f.lit(1)), f.lit(count))


def _example_id() -> Column:
    # A separator that no ID contains: ("ab", "c") and ("a", "bc") are two examples.
    parts = f.concat_ws("\x1f", "user_id", "category", f.coalesce("target.event_id", f.lit("score")))
    return f.substring(f.sha2(parts, 256), 1, 16)
