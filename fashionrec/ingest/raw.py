"""Raw folders: which days there are, and their files as rows that still know what they looked like."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.errors import UserError
from fashionrec.lake.spec import TableSpec

_JSON = re.compile(r"\.(jsonl|json)(\.gz|\.zst)?$")
_KINDS = ".jsonl, .json (each plain, .gz or .zst) or .parquet"


class RawError(UserError):
    """Raw input is missing, unreadable or not in the contract; the text says which folder or file and what to do."""


class RawRows(NamedTuple):
    """Rows as they came.

    `frame` has the contract's columns and `_text` (the line; null for Parquet), `_file`, `_malformed`, `_unknown` (JSON fields that the
    contract does not know). `unknown_columns` are those of Parquet files.
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
        RawError: a file is of an unknown kind, or is compressed or Parquet and holds no byte at all.
    """
    folders = [f"{root}/{day}" for day in days]
    files = [(f"{folder}/{name}", size) for folder in folders for name, size in _listing(spark, folder) if not name.startswith(("_", "."))]
    for path, size in files:
        if not _JSON.search(path) and not path.endswith(".parquet"):
            raise RawError(f"{path}: neither {_KINDS}; take it out of the folder or rename it")
        if size == 0 and path.endswith((".gz", ".zst", ".parquet")):
            raise RawError(f"{path}: 0 bytes, so its upload did not finish; deliver it again or remove it")
    return [path for path, _ in files]


def read_raw(spark: SparkSession, files: Sequence[str], spec: TableSpec) -> RawRows:
    """Return the rows of JSON-lines and Parquet files together.

    Raises:
        RawError: a Parquet file is unreadable, or lacks columns of the contract or has them in another type; all are listed.
    """
    schema = t.StructType([t.StructField(field.name, field.dataType, True) for field in spec.struct])
    parquet = [path for path in files if path.endswith(".parquet")]
    unknown = _check_parquet(spark, parquet, spec)
    frame = _read_lines(spark, [path for path in files if path not in set(parquet)], schema)
    if parquet:
        rows = spark.read.schema(schema).parquet(*parquet)
        nothing = f.array().cast("array<string>")
        extra = {"_text": f.lit(None).cast("string"), "_file": _file(), "_malformed": f.lit(False), "_unknown": nothing}
        frame = frame.unionByName(rows.withColumns(extra))
    return RawRows(frame, unknown)


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


def clean_text(column: str | Column) -> Column:
    """Return a text fit for one line of a prompt: control characters and '|' become spaces, white space is collapsed, blank is null."""
    text = f.trim(f.regexp_replace(column, r"[\p{Cc}\p{Z}|]+", " "))
    return f.when(f.length(text) > 0, text)


def _read_lines(spark: SparkSession, files: Sequence[str], schema: t.StructType) -> DataFrame:
    lines = spark.read.text(list(files)) if files else spark.createDataFrame([], "value string, _metadata struct<file_path: string>")
    lines = lines.select(f.col("value").alias("_text"), _file().alias("_file")).where(~is_blank("_text"))
    with_corrupt = t.StructType([*schema.fields, t.StructField("_corrupt", t.StringType())])
    parsed = f.from_json("_text", with_corrupt, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt"})
    # from_json reads the first object of a line and forgets the rest without a word; as one array, a line of two objects counts 2 or fails.
    alone = f.json_array_length(f.concat(f.lit("["), f.col("_text"), f.lit("]"))) == 1
    keys = f.array_except(f.coalesce(f.json_object_keys("_text"), f.array().cast("array<string>")), f.lit(schema.names))
    return lines.withColumn("_row", parsed).select(
        *(f.col(f"_row.{name}").alias(name) for name in schema.names),
        "_text",
        "_file",
        (f.col("_row._corrupt").isNotNull() | ~f.coalesce(alone, f.lit(False))).alias("_malformed"),
        keys.alias("_unknown"),
    )


def _check_parquet(spark: SparkSession, files: Sequence[str], spec: TableSpec) -> frozenset[str]:
    """Check each file's own columns, since Spark would fill those that one file lacks with nulls. Return the unknown ones."""
    expected = {field.name: field.dataType.simpleString() for field in spec.struct}
    problems: list[str] = []
    unknown: set[str] = set()
    for path in files:
        with readable_files():
            found = {field.name: field.dataType.simpleString() for field in spark.read.parquet(path).schema}
        wrong = [f"{name} is missing" for name in expected if name not in found]
        wrong += [f"{name} is {found[name]} instead of {kind}" for name, kind in expected.items() if found.get(name, kind) != kind]
        problems += [f"{path}: {', '.join(wrong)}"] if wrong else []
        unknown |= found.keys() - expected.keys()
    if problems:
        raise RawError(f"{'; '.join(problems)}. The columns are declared in schemas/{spec.table}.yaml")
    return frozenset(unknown)


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
