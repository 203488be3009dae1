"""Raw folders: which days there are, and their files as rows that still know what they looked like."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import reduce
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.columns import RawError, check_columns

_LINES = re.compile(r"\.(jsonl|json)(\.gz|\.zst)?$")
_CSV = re.compile(r"\.csv(\.gz|\.zst)?$")
_KINDS = ".jsonl, .json, .csv (each plain, .gz or .zst) or .parquet"
# What a reader puts in the place of bytes that are no UTF-8.
_REPLACED = "\ufffd"


class RawRows(NamedTuple):
    """Rows as they came.

    `frame` has the contract's columns, null where a file lacks an optional one, and `_text` (the line or record; null where the columns
    tell it all), `_file`, `_malformed`, `_bad_encoding`, `_unknown` (JSON fields that the contract does not know). `unknown_columns` are
    those of CSV and Parquet files.
    """

    frame: DataFrame
    unknown_columns: frozenset[str]


def raw_days(spark: SparkSession, root: str) -> list[date]:
    """Return the dates of the folders below `root`, oldest first.

    Raises:
        RawError: `root` does not exist.
    """
    return sorted(day for name, _ in _listing(spark, root) if (day := _as_date(name)))


def raw_files(spark: SparkSession, root: str, days: Iterable[date]) -> list[str]:
    """Return the files of some days' folders; hidden ones (`_`, `.`) are no data.

    Raises:
        RawError: a file is of an unknown kind, or holds no byte at all where even one without rows has some; all are listed.
    """
    folders = [f"{root}/{day}" for day in days]
    files = [(f"{folder}/{name}", size) for folder in folders for name, size in _listing(spark, folder) if not name.startswith(("_", "."))]
    odd = [path for path, _ in files if not (_LINES.search(path) or _CSV.search(path) or path.endswith(".parquet"))]
    if odd:
        raise RawError(f"{', '.join(odd)}: neither {_KINDS}; take it out of the folder or rename it")
    cut = [path for path, size in files if size == 0 and not path.endswith((".jsonl", ".json"))]
    if cut:
        raise RawError(f"{', '.join(cut)}: 0 bytes, so its upload did not finish; deliver it again or remove it")
    return [path for path, _ in files]


def read_raw(spark: SparkSession, files: Sequence[str], spec: TableSpec) -> RawRows:
    """Return the rows of JSON-lines, CSV and Parquet files together.

    Raises:
        RawError: CSV or Parquet files lack columns of the contract, have them in another type or cannot be opened; all are listed.
    """
    schema = t.StructType([t.StructField(field.name, field.dataType, True) for field in spec.struct])
    csvs = [path for path in files if _CSV.search(path)]
    parquet = [path for path in files if path.endswith(".parquet")]
    found = check_columns(spark, parquet, csvs, spec)
    frames = [_read_lines(spark, [path for path in files if _LINES.search(path)], schema)]
    for header in sorted(set(found.headers.values())):
        frames.append(_read_csv(spark, [path for path in csvs if found.headers[path] == header], header, schema))
    if parquet:
        rows = spark.read.schema(schema).parquet(*parquet)
        frames.append(_shape(rows.withColumns({"_text": f.lit(None).cast("string"), "_file": _file(), "_malformed": f.lit(False)}), schema))
    return RawRows(reduce(DataFrame.unionByName, frames), found.unknown)


@contextmanager
def readable_files() -> Iterator[None]:
    """Turn Spark's error about a file that it could not read to its end into one line that names the file."""
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        found = re.search(r"FAILED_READ_FILE[^\n]*?reading file (\S+?)\.?\s", str(error))
        if not found:
            raise
        causes = re.findall(r"Caused by: [\w.$]+: ([^\n]+)", str(error))
        why = f" ({causes[-1]})" if causes else ""
        raise RawError(f"{found[1]}: truncated or corrupt{why}; nothing was written. Deliver the file again or remove it") from None


def is_blank(column: str) -> Column:
    """Return whether a text is null, empty or only white space."""
    return f.coalesce(f.length(f.trim(column)), f.lit(0)) == 0


def arrival_date() -> Column:
    """Return the date of the folder that a row's file lies in."""
    return f.regexp_extract("_file", r"/(\d{4}-\d{2}-\d{2})/[^/]+$", 1).cast("date")


def _read_lines(spark: SparkSession, files: Sequence[str], schema: t.StructType) -> DataFrame:
    lines = spark.read.text(list(files)) if files else spark.createDataFrame([], "value string, _metadata struct<file_path: string>")
    lines = lines.select(f.col("value").alias("_text"), _file().alias("_file")).where(~is_blank("_text"))
    with_corrupt = t.StructType([*schema.fields, t.StructField("_corrupt", t.StringType())])
    parsed = f.from_json("_text", with_corrupt, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt"})
    rows = lines.withColumn("_row", parsed).select(*(f.col(f"_row.{name}").alias(name) for name in schema.names), "*")
    texts = [field.name for field in schema if isinstance(field.dataType, t.StringType)]
    # from_json puts an object or a list into a text column as its JSON: a retyped field, not a text.
    nested = [f.col(name).startswith(start) for name in texts for start in ('{"', '["', "[{")]
    keys = f.array_except(f.coalesce(f.json_object_keys("_text"), f.array().cast("array<string>")), f.lit(schema.names))
    malformed = f.col("_row._corrupt").isNotNull() | ~_is_one_json("_text") | f.coalesce(reduce(Column.__or__, nested), f.lit(False))
    return _shape(rows.withColumns({"_malformed": malformed, "_unknown": keys}), schema)


def _read_csv(spark: SparkSession, files: Sequence[str], header: Sequence[str], schema: t.StructType) -> DataFrame:
    """Return the rows of CSV files with one header: RFC 4180, quoted cells may hold line ends; lists and maps are JSON in their cell."""
    names = [name if name in schema.names else f"_extra_{place}" for place, name in enumerate(header)]
    cells = t.StructType([t.StructField(name, t.StringType()) for name in (*names, "_corrupt")])
    reader = spark.read.schema(cells).option("header", True).option("multiLine", True).option("quote", '"').option("escape", '"')
    rows = reader.option("columnNameOfCorruptRecord", "_corrupt").csv(list(files)).withColumn("_file", _file())
    known = [field for field in schema if field.name in names]
    values = {field.name: _value_of_cell(field) for field in known}
    unread = [~is_blank(field.name) & value.isNull() for field, value in zip(known, values.values(), strict=True)]
    misread = reduce(Column.__or__, unread, f.lit(False))
    # Where a cell could not be read, the cells themselves are the row's text.
    text = f.coalesce("_corrupt", f.when(misread, f.to_json(f.struct(*values))))
    rows = rows.withColumns({"_text": text, "_malformed": f.col("_corrupt").isNotNull() | misread})
    return _shape(rows.withColumns(values), schema)


def _value_of_cell(field: t.StructField) -> Column:
    """Return a cell as the contract's type, null where it is blank or cannot be read as that."""
    kind = field.dataType
    if isinstance(kind, t.StringType):
        return f.col(field.name)
    if isinstance(kind, (t.ArrayType, t.MapType)):
        return f.when(_is_one_json(field.name), f.from_json(field.name, kind.simpleString()))
    return f.trim(field.name).try_cast(kind)


def _is_one_json(column: str) -> Column:
    """Return whether a text is one JSON value: from_json reads the first of a text and forgets the rest without a word."""
    return f.coalesce(f.json_array_length(f.concat(f.lit("["), f.col(column), f.lit("]"))) == 1, f.lit(False))


def _shape(rows: DataFrame, schema: t.StructType) -> DataFrame:
    """Return the columns of `RawRows.frame`: optional ones that the rows lack are null."""
    nothing = {field.name: f.lit(None).cast(field.dataType) for field in schema if field.name not in rows.columns}
    if "_unknown" not in rows.columns:
        nothing["_unknown"] = f.array().cast("array<string>")
    rows = rows.withColumns(nothing)
    texts = [field.name for field in schema if isinstance(field.dataType, t.StringType)]
    # UTF-16 leaves zero bytes in lines that are no JSON; escaped, they are control characters like any other.
    replaced = f.contains(f.concat_ws(" ", *texts), f.lit(_REPLACED)) | (f.col("_malformed") & f.contains("_text", f.lit("\0")))
    broken = f.coalesce(~f.is_valid_utf8("_text"), f.lit(False)) | f.coalesce(replaced, f.lit(False))
    return rows.select(
        *schema.names, f.make_valid_utf8("_text").alias("_text"), "_file", "_malformed", broken.alias("_bad_encoding"), "_unknown"
    )


def _file() -> Column:
    return f.col("_metadata.file_path")


def _listing(spark: SparkSession, folder: str) -> list[tuple[str, int]]:
    """Return (name, bytes) of what lies in a folder, by Hadoop's file system: it knows every URI that Spark can read."""
    context: Any = spark.sparkContext
    path = context._jvm.org.apache.hadoop.fs.Path(folder)
    system = path.getFileSystem(context._jsc.hadoopConfiguration())
    if not system.exists(path):
        raise RawError(f"{folder}: no such folder; put the raw files there or change paths.* in the settings")
    return sorted((status.getPath().getName(), status.getLen()) for status in system.listStatus(path))


def _as_date(name: str) -> date | None:
    try:
        return date.fromisoformat(name) if len(name) == 10 else None
    except ValueError:
        return None
