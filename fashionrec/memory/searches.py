"""Which query each event of a session belongs to."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.lake.order import EVENT_ORDER, event_order
from fashionrec.memory.normalise import normalise_query


def attribute_queries(events: DataFrame) -> DataFrame:
    """Return sessionized events with `query` normalised, its `wording` as typed, and `is_prefix`.

    A search whose query begins the one that the very next event of the session searches for, on the same day, was on the way to it: it
    gets the longer query and `is_prefix`, and is no search of its own. (The next day's search is the future of this day's memory.)
    An item event has the query of the latest search before it in the session and no wording. Item events without such a search, and
    searches without a letter or digit, are left out.
    """
    in_order = Window.partitionBy("user_id", "session_id").orderBy(*event_order())
    typed = f.when(f.col("action") == "search", f.nullif(normalise_query(f.col("query")), f.lit("")))
    following = f.lead("_typed").over(in_order)
    longer = f.startswith(following, f.col("_typed")) & (f.length(following) > f.length("_typed"))
    is_prefix = f.coalesce(longer & (f.lead("event_date").over(in_order) == f.col("event_date")), f.lit(False))
    settled = f.when(~f.col("is_prefix"), f.col("_typed"))
    before = f.last("_settled", ignorenulls=True).over(in_order)
    after = f.expr(f"lead(_settled, 1) IGNORE NULLS OVER (PARTITION BY user_id, session_id ORDER BY {', '.join(EVENT_ORDER)})")
    query = f.when(f.col("is_prefix"), after).when(f.col("action") == "search", f.col("_settled")).otherwise(before)
    return (
        events.withColumn("_typed", typed)
        .withColumn("is_prefix", is_prefix)
        .withColumn("_settled", settled)
        .withColumns({"wording": f.when(f.col("action") == "search", f.trim("query")), "query": query})
        .where("query IS NOT NULL")
        .drop("_typed", "_settled")
    )
