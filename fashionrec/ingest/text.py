"""Text as the tables hold it."""

from pyspark.sql import Column
from pyspark.sql import functions as f


def clean_text(column: str | Column) -> Column:
    """Return a text fit for one line of a prompt: control characters and '|' become spaces, white space is collapsed, blank is null."""
    text = f.trim(f.regexp_replace(column, r"[\p{Cc}\p{Z}|]+", " "))
    return f.when(f.length(text) > 0, text)
