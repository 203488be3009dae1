"""A few shoppers' ways from their journey to their products, for the report."""

from typing import Any

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as f

# Newest actions and best products shown of one path.
_ACTIONS, _PRODUCTS = 10, 6


def example_paths(sequences: DataFrame, generations: DataFrame, recommendations: DataFrame, *, count: int) -> list[dict[str, Any]]:
    """Return `count` of today's paths with their answer and products, in the shape that `report.write_report` takes.

    They are chosen by what there is to see in the journey, never by the result: the most kinds of actions, then the most actions; the first
    of each category before any second one. No shopper is named or shown twice.
    """
    kinds = f.size(f.array_distinct(f.transform("actions", lambda action: action["action"])))
    seen = [kinds.desc(), f.least(f.size("actions"), f.lit(_ACTIONS)).desc(), f.col("example_id")]
    place = f.row_number().over(Window.partitionBy("category").orderBy(*seen))
    first = f.row_number().over(Window.partitionBy("user_id").orderBy(f.col("place"), f.col("category")))
    paths = sequences.where("split = 'score'").withColumn("place", place).where(f.col("place") <= count).withColumn("first", first)
    chosen = with_shown_times(paths.where("first = 1").orderBy("place", "category").limit(count), "d MMM yyyy, HH:mm").collect()
    return [_path(path, generations, recommendations) for path in chosen]


def with_shown_times(paths: DataFrame, pattern: str) -> DataFrame:
    """Return paths with `shown_times`, each action's time as text in UTC: Python's rows would have it in the zone of the machine."""
    return paths.withColumn("shown_times", f.transform("actions.event_at", lambda at: f.date_format(at, pattern)))


def _path(path: Row, generations: DataFrame, recommendations: DataFrame) -> dict[str, Any]:
    answer = generations.where(f.col("example_id") == path["example_id"]).select("answer", "parse_error").first()
    of_path = (f.col("user_id") == path["user_id"]) & (f.col("category") == path["category"]) & (f.col("rank") <= _PRODUCTS)
    products = recommendations.where(of_path).orderBy("rank").select("rank", "item_id", "title", "source", "reason").collect()
    return {
        "category": path["category"],
        "earlier_count": max(0, len(path["actions"]) - _ACTIONS),
        "actions": [
            {"at": at, "action": action["action"], "words": _words(action)}
            for at, action in list(zip(path["shown_times"], path["actions"], strict=True))[-_ACTIONS:]
        ],
        "answer": answer["answer"] if answer else "",
        "parse_error": answer["parse_error"] if answer else "no answer was generated",
        "products": [product.asDict() for product in products],
    }


def _words(action: Row) -> str:
    return f"“{action['query']}”" if action["query"] is not None else str(action["title"] or action["item_id"])
