"""Examples: the path of one user in one category before each purchase, and as it stands today.

The events come from `sessions`, shuffled by user; sorted once more within each user, by category, they need no other shuffle. Lambdas over
arrays are kept for the few paths that need them: Spark 4.2 interprets them, and every field that one reads costs a look at the settings.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.lake.order import event_order
from fashionrec.sequences.sessions import ITEM_COLUMNS

_STEP_COLUMNS = ("action", "event_at", "session_id", "query", "item_id", "position", *(f"item.{name}" for name in ITEM_COLUMNS))
_TARGET_COLUMNS = ("place", "event_id", "event_at", "item_id", "item.title")


def build_examples(
    events: DataFrame,
    *,
    run_date: date,
    max_actions: int,
    max_train_examples: int,
    min_actions: int,
    overnight_rate: float,
    bought_again: Sequence[str],
    validation_days: int,
    test_days: int,
) -> DataFrame:
    """Return the rows of the table `sequences` (without run_date) from the events of `attribute_searches`.

    Per user and category the last purchase is the test example, the one before validation, earlier ones train (the newest
    `max_train_examples`): a single purchase is a test example, two are validation and test. A purchase with fewer than
    `min_actions` cleaned actions before it makes no example, and its split stays empty. Every path also makes one score example.
    `split_by_time` tells the same examples apart by the day of their purchase: the newest `test_days` up to the run date are test, the
    `validation_days` before them validation.

    What a nightly e-mail can know ends at midnight. So validation and test examples have two rows, by `horizon`: in_session, the whole path
    before the purchase (paper section 5.1), and overnight, the path up to the end of the day before it, which may be empty. A share
    `overnight_rate` of the train examples has its overnight row, too, where it holds `min_actions`. Score is overnight by nature.

    The answer is never in the input: no action on the target item, and nothing from the target on, is among the actions; in the categories
    `bought_again`, earlier purchases of it stay, and so does the question which of them comes again. `target_bought_before` says whether
    there were any.
    """
    paths = events.where("category IS NOT NULL").transform(_paths)
    examples = _examples(paths, kept=max_train_examples + 2, bought_again=bought_again)
    bought_on, first_test_day = f.to_date("target.event_at"), run_date - timedelta(days=test_days - 1)
    by_time = (
        f.when(bought_on.isNull(), "score")
        .when(bought_on >= f.lit(first_test_day), "test")
        .when(bought_on >= f.lit(first_test_day - timedelta(days=validation_days)), "validation")
        .otherwise("train")
    )
    enough = f.size("steps") >= f.when(f.col("split") == "score", f.lit(1)).otherwise(f.lit(min_actions))
    examples = examples.where(enough).transform(_at_horizons, overnight_rate=overnight_rate, min_actions=min_actions)
    return examples.select(
        _example_id().alias("example_id"),
        "user_id",
        "category",
        "split",
        by_time.alias("split_by_time"),
        "horizon",
        "target_bought_before",
        f.coalesce(f.date_sub(bought_on, 1), f.lit(run_date)).alias("as_of_date"),
        "marketplace",
        _newest("steps", max_actions).alias("actions"),
        f.col("target.item_id").alias("target_item_id"),
        f.col("target.title").alias("target_title"),
        f.col("target.event_at").alias("target_at"),
    )


def _paths(events: DataFrame) -> DataFrame:
    """Return one row per user and category: `path`, its steps in order, and `purchases`, what to predict.

    Beside them, an entry per step: its place, its day, its item, and the newest marketplace up to it ("" where there is none).
    """
    about = f.coalesce("item_id", "query")
    in_order = Window.partitionBy("user_id", "category").orderBy(*event_order())
    repeats = (f.lag("action").over(in_order) == f.col("action")) & (f.lag(about).over(in_order) == about)
    # The place counts repeats, too: a second pass over the events would only close its gaps.
    placed = events.withColumns(
        {
            "_repeats": f.coalesce(repeats, f.lit(False)),
            "place": f.row_number().over(in_order),
            "_market": f.last("marketplace", ignorenulls=True).over(in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)),
        }
    )
    collected = {
        "path": f.struct(*_STEP_COLUMNS),
        "places": f.col("place"),
        "days": f.to_date("event_at"),
        "items": f.coalesce("item_id", f.lit("")),
        "markets": f.coalesce("_market", f.lit("")),
        "purchases": f.when(f.col("action") == "purchase", f.struct(*_TARGET_COLUMNS)),
    }
    steps = placed.where("NOT _repeats").groupBy("user_id", "category")
    return steps.agg(*(f.collect_list(column).alias(name) for name, column in collected.items())).transform(_in_order)


def _in_order(paths: DataFrame) -> DataFrame:
    """Return the paths with their arrays in the order of the places.

    They are collected in that order, which Spark does not promise; so it is checked, and put right where it is not.
    """
    ordered = f.array_sort("places")

    def sorted_by_place(name: str) -> Column:
        return f.transform(ordered, lambda place: f.element_at(name, f.array_position("places", place).cast("int")))

    right = f.col("places") == ordered
    arrays = {name: f.when(right, f.col(name)).otherwise(sorted_by_place(name)) for name in ("path", "days", "items", "markets")}
    by_place = f.array_sort("purchases", lambda a, b: a["place"] - b["place"])
    arrays |= {"purchases": f.when(right, f.col("purchases")).otherwise(by_place), "places": ordered}
    return paths.select("user_id", "category", *(column.alias(name) for name, column in arrays.items()))


def _examples(paths: DataFrame, *, kept: int, bought_again: Sequence[str]) -> DataFrame:
    """Return one row per example: user, category, `split`, `target`, `marketplace`, and `steps`, what comes before it.

    Earlier events on the target item are left out, all but purchases where things are bought again: they would give the answer away.
    Score has no target and keeps all. `marketplace` is the newest before the target, `marketplace_overnight` the newest before its day.
    """
    nothing = [f.lit(None).alias(name.removeprefix("item.")) for name in _TARGET_COLUMNS]
    targets = f.concat(_newest("purchases", kept), f.array(f.struct(*nothing)))
    examples = paths.withColumn("targets", targets).select(
        "*", f.size("targets").alias("count"), f.posexplode("targets").alias("number", "target")
    )
    from_end = f.col("count") - 1 - f.col("number")
    split = f.when(from_end == 0, "score").when(from_end == 1, "test").when(from_end == 2, "validation").otherwise("train")
    end = f.coalesce(f.array_position("places", f.col("target.place")).cast("int"), f.size("path") + 1)
    before, items = f.slice("path", f.lit(1), end - 1), f.slice("items", f.lit(1), end - 1)
    day_begins = f.array_position("days", f.to_date("target.event_at")).cast("int")
    markets = {"marketplace": end, "marketplace_overnight": day_begins}
    markets = {name: f.nullif(f.get("markets", first - 2), f.lit("")) for name, first in markets.items()}
    examples = examples.withColumns({"split": split, "before": before, "items_before": items, **markets})
    examples = examples.drop("path", "places", "days", "items", "markets", "purchases")
    seen = f.coalesce(f.array_contains("items_before", f.col("target.item_id")), f.lit(False))
    comes_again = f.col("category").isin(*bought_again)
    steps = f.when(seen, _without_target(comes_again)).otherwise(f.col("before"))
    bought = f.exists("before", lambda step: (step["action"] == "purchase") & (step["item_id"] == f.col("target.item_id")))
    # What a generator makes is computed once; of a plain column, Spark would compute a filter's part again.
    return examples.select(
        *("user_id", "category", "split", "target", "marketplace", "marketplace_overnight"),
        (seen & bought).alias("target_bought_before"),
        f.explode(f.array(steps)).alias("steps"),
    )


def _at_horizons(examples: DataFrame, *, overnight_rate: float, min_actions: int) -> DataFrame:
    """Return the examples with `horizon`: one row for each that they are asked at, with the steps and the marketplace that it knows."""
    # A fixed draw of the train examples, the same in every run.
    drawn = f.pmod(f.xxhash64("user_id", "category", "target.event_id"), f.lit(1_000_000)) < int(overnight_rate * 1_000_000)
    both = f.array(f.lit("in_session"), f.lit("overnight"))
    horizons = (
        f.when(f.col("split") == "score", f.array(f.lit("overnight")))
        .when((f.col("split") == "train") & ~drawn, f.array(f.lit("in_session")))
        .otherwise(both)
    )
    is_cut = (f.col("horizon") == "overnight") & (f.col("split") != "score")
    midnight = f.date_trunc("day", "target.event_at")
    known = f.when(is_cut, f.filter("steps", lambda step: step["event_at"] < midnight)).otherwise(f.col("steps"))
    market = f.when(is_cut, f.col("marketplace_overnight")).otherwise(f.col("marketplace"))
    asked = examples.withColumn("horizon", f.explode(horizons)).withColumns({"steps": known, "marketplace": market})
    return asked.where(~is_cut | (f.col("split") != "train") | (f.size("steps") >= min_actions))


def _without_target(comes_again: Column) -> Column:
    """Return the steps before the target without those on its item, and without those that then repeat the step before them.

    Where things are bought again, purchases of it stay.
    """
    others = f.filter(
        "before",
        lambda step: ~step["item_id"].eqNullSafe(f.col("target.item_id")) | (comes_again & (step["action"] == "purchase")),
    )

    def unless_repeated(step: Column, before: Column) -> Column:
        same = (
            (step["action"] == before["action"]) & step["item_id"].eqNullSafe(before["item_id"]) & step["query"].eqNullSafe(before["query"])
        )
        return f.when(~f.coalesce(same, f.lit(False)), step)

    return f.array_compact(f.zip_with(others, f.concat(f.array(f.lit(None)), others), unless_repeated))


def _newest(array: str | Column, count: int) -> Column:
    return f.slice(array, f.greatest(f.size(array) - (count - 1), f.lit(1)), f.lit(count))


def _example_id() -> Column:
    # A separator that no ID contains: ("ab", "c") and ("a", "bc") are two examples.
    is_cut = (f.col("horizon") == "overnight") & f.col("target.event_id").isNotNull()
    parts = f.concat_ws("\x1f", "user_id", "category", f.coalesce("target.event_id", f.lit("score")), f.when(is_cut, f.col("horizon")))
    return f.substring(f.sha2(parts, 256), 1, 16)
