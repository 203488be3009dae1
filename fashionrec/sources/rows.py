"""The shape of raw rows, whatever they were read from."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.conversions import as_declared, times_of, unread

# What a reader puts in the place of bytes that are no UTF-8.
_REPLACED = "\ufffd"


class RawRows(NamedTuple):
    """Rows as they came.

    `frame` has the contract's columns, null where a source lacks an optional one, and `_text` (the line or record; null where the columns
    tell it all), `_file` (its URI, or what the source calls itself), `_arrival_date`, `_malformed`, `_bad_encoding`, `_unknown` (JSON
    fields that the contract does not know). `unknown_columns` are those of CSV and Parquet files and of queries, `files` the paths of
    what was read.
    """

    frame: DataFrame
    unknown_columns: frozenset[str]
    files: Sequence[str] = ()


def nullable(spec: TableSpec) -> t.StructType:
    """Return the contract's columns, each of which a row may lack."""
    return t.StructType([t.StructField(field.name, field.dataType, True) for field in spec.struct])


def types_of(table: DataFrame) -> dict[str, t.DataType]:
    """Return the types of a frame's columns."""
    return {field.name: field.dataType for field in table.schema}


def faults_of_types(types: Mapping[str, t.DataType], spec: TableSpec, *, is_epoch: bool = False) -> dict[str, str]:
    """Return the columns whose type cannot say what the contract asks for, each with the fault in words."""
    times, wrong = times_of(spec), {}
    for field in spec.struct:
        is_time = field.name in times
        found = types.get(field.name, field.dataType)
        if as_declared(f.col(field.name), found, field.dataType, is_time=is_time, is_epoch=is_epoch) is None:
            expected = "text or a timestamp with a time zone" if is_time else field.dataType.simpleString()
            wrong[field.name] = f"{field.name} is {found.simpleString()} instead of {expected}"
    return wrong


def rows_of_table(table: DataFrame, types: Mapping[str, t.DataType], spec: TableSpec, *, is_epoch: bool = False) -> DataFrame:
    """Return rows that are columns, of types without `faults_of_types`, in the shape of `RawRows.frame`, but for `_arrival_date`.

    A value that its column's type in the contract cannot hold makes the row malformed.
    """
    times, values, lost = times_of(spec), {}, [f.lit(False)]
    for field in spec.struct:
        found = types.get(field.name, field.dataType)
        if found != field.dataType:
            value = as_declared(f.col(field.name), found, field.dataType, is_time=field.name in times, is_epoch=is_epoch)
            values[field.name] = f.lit(None).cast(field.dataType) if value is None else value
            lost.append(unread(f.col(field.name), found, values[field.name]))
    malformed = reduce(Column.__or__, lost)
    # Where a value could not be read, the columns as they came are the row's text.
    text = f.when(malformed, f.to_json(f.struct(*(name for name in table.columns if name in spec.struct.names))))
    rows = table.withColumns({"_text": text if values else f.lit(None).cast("string"), "_malformed": malformed}).withColumns(values)
    return shaped(rows, nullable(spec))


def shaped(rows: DataFrame, schema: t.StructType) -> DataFrame:
    """Return the columns of `RawRows.frame`: optional ones that the rows lack are null."""
    nothing = {field.name: f.lit(None).cast(field.dataType) for field in schema if field.name not in rows.columns}
    if "_unknown" not in rows.columns:
        nothing["_unknown"] = f.array().cast("array<string>")
    rows = rows.withColumns(nothing)
    texts = f.concat_ws(" ", *(part for field in schema for part in _texts_of(field)))
    # UTF-16 leaves zero bytes in lines that are no JSON; escaped, they are control characters like any other.
    replaced = f.contains(texts, f.lit(_REPLACED)) | (f.col("_malformed") & f.contains("_text", f.lit("\0")))
    broken = ~f.is_valid_utf8(f.coalesce("_text", texts)) | f.coalesce(replaced, f.lit(False))
    return rows.select(
        *schema.names, f.make_valid_utf8("_text").alias("_text"), "_file", "_malformed", broken.alias("_bad_encoding"), "_unknown"
    )


def _texts_of(field: t.StructField) -> list[Column]:
    """Return the texts in a column, each of them a text or a list of texts."""
    column = f.col(field.name)
    if isinstance(field.dataType, t.MapType):
        return [f.map_keys(column), f.map_values(column)]
    return [column] if isinstance(field.dataType, (t.StringType, t.ArrayType)) else []


def is_blank(column: str) -> Column:
    """Return whether a text is null, empty or only white space."""
    return f.coalesce(f.length(f.trim(column)), f.lit(0)) == 0


def is_one_json(column: str) -> Column:
    """Return whether a text is one JSON value: from_json reads the first of a text and forgets the rest without a word."""
    return f.coalesce(f.json_array_length(f.concat(f.lit("["), f.col(column), f.lit("]"))) == 1, f.lit(False))


def file_of_row() -> Column:
    """Return the URI of the file that a row was read from."""
    return f.col("_metadata.file_path")
