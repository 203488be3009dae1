"""Parquet files as rows, as many tools write them."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.columns import missing_columns
from fashionrec.sources.conversions import Nanoseconds
from fashionrec.sources.folders import READ_AS_NAMED, as_path, fewest_paths, shown
from fashionrec.sources.headers import footer, parquet_footers
from fashionrec.sources.rows import faults_of_types, file_of_row, rows_of_table


class _Alike(NamedTuple):
    """Files whose columns of the contract have the same types; `schema` is how Spark reads them."""

    schema: t.StructType
    types: Mapping[str, t.DataType]
    paths: list[str]


def read_parquet(
    spark: SparkSession,
    parquet: Mapping[str, int],
    files: Collection[str],
    root: str,
    spec: TableSpec,
    problems: list[str],
    *,
    is_epoch: bool,
) -> tuple[list[DataFrame], set[str]]:
    """Return the rows of the Parquet files among `files`, one frame for all that have the contract's columns in the same types, and the
    columns that the contract does not know. What lacks a column or has one in a type that cannot say it is noted in `problems`."""
    footers = parquet_footers(spark, parquet, fewest_paths(parquet, files, root), problems)
    paths_of: dict[str, list[str]] = {}
    for path, text in sorted(footers.items()):
        paths_of.setdefault(text, []).append(path)
    unknown: set[str] = set()
    alike: dict[str, _Alike] = {}
    # One question to Spark per kind of file, not per file: asking costs 20 times what a footer costs.
    for paths in paths_of.values():
        try:
            columns = spark.read.options(**READ_AS_NAMED).parquet(paths[0]).schema
        except PySparkException as error:
            problems += [f"{shown(path)}: {' '.join(str(error).split())}" for path in paths]
            continue
        unknown |= set(columns.names) - set(spec.struct.names)
        if wrong := missing_columns(columns.names, spec):
            problems += [f"{shown(path)}: {', '.join(wrong)}" for path in paths]
            continue
        found = {field.name: field.dataType for field in columns}
        schema = t.StructType([t.StructField(field.name, found.get(field.name, field.dataType), True) for field in spec.struct])
        types = {field.name: field.dataType for field in schema}
        types |= _nanoseconds(footer(spark, paths[0]), spec)
        key = ", ".join(kind.simpleString() for kind in types.values())
        alike.setdefault(key, _Alike(schema, types, [])).paths.extend(paths)
    frames = []
    for same in alike.values():
        rows = spark.read.options(**READ_AS_NAMED).schema(same.schema).parquet(*fewest_paths(same.paths, files, root))
        rows = rows.withColumn("_file", file_of_row())
        if wrong_types := faults_of_types(same.types, spec, is_epoch=is_epoch):
            problems += _files_with_values(rows, wrong_types)
        frames.append(rows_of_table(rows, same.types, spec, is_epoch=is_epoch))
    return frames, unknown


def _files_with_values(rows: DataFrame, wrong: Mapping[str, str]) -> list[str]:
    """Return a line for each file in which a column of a wrong type has a value; a column without any loses nothing."""
    found = rows.groupBy("_file").agg(*(f.count(name).alias(name) for name in wrong)).collect()
    faults = {row["_file"]: [wrong[name] for name in wrong if row[name]] for row in found}
    return [f"{shown(as_path(file))}: {', '.join(of_file)}" for file, of_file in faults.items() if of_file]


def _nanoseconds(footer: str, spec: TableSpec) -> dict[str, t.DataType]:
    """Return the contract's columns that a Parquet file's schema calls nanoseconds; Spark gives their numbers."""
    found = re.findall(r"(\w+) \(TIMESTAMP\(NANOS,(true|false)\)\)", footer)
    return {name: Nanoseconds(has_zone=is_utc == "true") for name, is_utc in found if name in spec.struct.names}
