"""Verdicts on raw rows: the first reason of each, and those that only a comparison with other rows gives."""

from collections.abc import Collection, Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f


def first_reason(tests: Mapping[str, Column]) -> Column:
    """Return the name of the first test that holds for a row, null where none does."""
    return f.coalesce(*(f.when(test, f.lit(reason)) for reason, test in tests.items()))


def with_verdicts(judged: DataFrame, compared: DataFrame, *, reasons: Collection[str], columns: Sequence[str]) -> DataFrame:
    """Return judged rows with the reasons of `compared` (row, reason) in place of their own.

    Rows that get one of `reasons` this way, so go to quarantine, get the JSON of `columns` as their text `raw`.
    """
    rows = judged.join(compared.select("row", f.col("reason").alias("_reason")), "row", "left")
    text = f.when(f.col("_reason").isin(*reasons), f.to_json(f.struct(*columns))).otherwise(f.col("raw"))
    return rows.withColumns({"reason": f.coalesce("_reason", "reason"), "raw": text}).drop("_reason")
