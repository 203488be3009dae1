"""The order of one user's events."""

from pyspark.sql import Column
from pyspark.sql import functions as f

# Many logs tell no more than the second: what leads to the other comes first, then what arrived first. Last the ID, so that the
# order is always the same.
EVENT_ORDER = (
    "event_at",
    "CASE action WHEN 'search' THEN 0 WHEN 'click' THEN 1 ELSE 2 END",
    "arrival_date",
    "arrival_number",
    "event_id",
)


def event_order() -> list[Column]:
    """Return the sort keys of EVENT_ORDER."""
    return [f.expr(key) for key in EVENT_ORDER]
