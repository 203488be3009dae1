"""Raw rows by a SQL query over whatever the session can read: Delta, Iceberg, Hive, files by their path."""

import re
from collections.abc import Collection
from datetime import date
from functools import reduce
from typing import NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.columns import RawError, missing_columns, require_none
from fashionrec.sources.rows import RawRows, faults_of_types, rows_of_table, types_of


class Query(NamedTuple):
    """A query that gives the rows which arrived on the day `:date`, in the contract's columns; `name` is the setting that holds it."""

    name: str
    text: str


def read_query(spark: SparkSession, query: Query, days: Collection[date], spec: TableSpec) -> RawRows:
    """Return the query's rows of some days; `_file` is the query's name.

    Raises:
        RawError: Spark does not understand the query, or its columns are not the contract's.
    """
    frames = []
    unknown: set[str] = set()
    for day in sorted(days):
        try:
            rows = spark.sql(query.text, args={"date": day})
        except PySparkException as error:
            raise RawError(f"{query.name}: {first_line(error)}; nothing was written") from None
        wrong = [*missing_columns(rows.columns, spec), *faults_of_types(types_of(rows), spec).values()]
        require_none([f"{query.name}: {', '.join(wrong)}"] if wrong else [], spec)
        unknown |= set(rows.columns) - set(spec.struct.names)
        shaped = rows_of_table(rows.withColumn("_file", f.lit(query.name)), types_of(rows), spec)
        frames.append(shaped.withColumn("_arrival_date", f.lit(day)))
    return RawRows(reduce(DataFrame.unionByName, frames), frozenset(unknown))


def first_line(error: Exception) -> str:
    """Return what an error of Spark says, without the query and the plan below it."""
    text = str(error).strip()
    named = re.search(r"\[[A-Z][A-Z_.]{4,}\] [^\n]*", text)
    return named[0] if named else text.partition("\n")[0]
