"""What CSV and Parquet files say of their columns, looked at before a row is read."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.sources.folders import READ_AS_NAMED, as_path, shown

# Files opened at once on the driver: a header or footer is a matter of waiting for the store.
_AT_ONCE = 8
# More small files than these are looked at by Spark's tasks, which read them whole; of large ones no day has many.
_FEW, _SMALL_BYTES = 64, 1 << 20
_SEPARATORS = ",;\t|"
_CHUNK = 1 << 16
# Where a quote is never closed, a cell is as long as the rest of its file.
csv.field_size_limit((1 << 31) - 1)


class Header(NamedTuple):
    """The columns of a CSV file in their order, and what separates its cells."""

    separator: str
    names: tuple[str, ...]


def csv_headers(
    spark: SparkSession, files: Mapping[str, int], paths: Sequence[str], names: Collection[str], problems: list[str]
) -> dict[str, Header]:
    """Return the header of each CSV file; what is no text or cannot be opened is noted in `problems`.

    Args:
        files: the CSV files with their bytes.
        paths: files and folders that hold these and no others.
        names: the columns of the contract: what separates most of them separates the cells.
    """

    def first_lines(small: DataFrame) -> DataFrame:
        lines = small.where(f.col("_metadata.file_block_start") == 0).withColumn("place", f.monotonically_increasing_id())
        return lines.groupBy("file").agg(f.min_by("value", "place"))

    lines = _look(spark, "text", files, paths, first_lines, lambda path: next(text_lines(spark, path), ""), problems)
    found = {}
    for path in files:
        line = (lines.get(path) or "").removeprefix("\ufeff").rstrip("\r\n")
        if re.search("[\0\ufffd]", line):
            problems.append(f"{shown(path)}: truncated or corrupt (its header is not UTF-8 text)")
        elif path in lines:
            found[path] = _split(line, names)
    return found


def parquet_footers(spark: SparkSession, files: Mapping[str, int], paths: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Return the schema in each Parquet file's footer as text, alike for files that are alike; as `csv_headers` does."""

    def schemas(small: DataFrame) -> DataFrame:
        return small.select("file", "content").mapInArrow(_schemas, "file string, schema string, problem string")

    return _look(spark, "binaryFile", files, paths, schemas, lambda path: footer(spark, path), problems)


def footer(spark: SparkSession, path: str) -> str:
    """Return the schema in a Parquet file's footer; raise Py4JJavaError where there is none."""
    parquet: Any = spark._jvm.org.apache.parquet.hadoop  # type: ignore[union-attr]
    reader = parquet.ParquetFileReader.open(parquet.util.HadoopInputFile.fromPath(*_open(spark, path)))
    try:
        return str(reader.getFileMetaData().getSchema().toString())
    finally:
        reader.close()


def text_lines(spark: SparkSession, path: str) -> Iterator[str]:
    """Yield the lines of a text file, packed or not, with their ends; what is no UTF-8 becomes U+FFFD."""
    location, configuration = _open(spark, path)
    jvm: Any = spark._jvm
    # The way in which Spark itself opens files.
    stream = jvm.org.apache.spark.sql.execution.datasources.CodecStreams.createInputStream(configuration, location)
    try:
        chunks = iter(lambda: bytes(stream.readNBytes(_CHUNK)), b"")
        rest = ""
        for text in codecs.iterdecode(chunks, "utf-8", "replace"):
            *lines, rest = (rest + text).split("\n")
            yield from (f"{line}\n" for line in lines)
        if rest:
            yield rest
    finally:
        stream.close()


def _look(
    spark: SparkSession,
    kind: str,
    files: Mapping[str, int],
    paths: Sequence[str],
    in_tasks: Callable[[DataFrame], DataFrame],
    on_driver: Callable[[str], str],
    problems: list[str],
) -> dict[str, str]:
    """Return what `on_driver` or, where small files are many, the rows (file, text, problem if any) of `in_tasks` say of each file."""
    small = {path for path, size in files.items() if size <= _SMALL_BYTES}
    found: dict[str, str] = {}
    if len(small) > _FEW:
        rows = spark.read.options(**READ_AS_NAMED).format(kind).load(list(paths))
        rows = rows.where(f.col("_metadata.file_size") <= _SMALL_BYTES).withColumn("file", f.col("_metadata.file_path"))
        for file, text, *problem in in_tasks(rows).collect():
            if any(problem):
                problems.append(f"{shown(as_path(file))}: truncated or corrupt ({problem[0]})")
            else:
                found[as_path(file)] = text
    else:
        small = set()

    def look(path: str) -> None:
        try:
            found[path] = on_driver(path)
        except Py4JJavaError as error:
            problems.append(f"{shown(path)}: truncated or corrupt ({' '.join(str(error.java_exception.getMessage()).split())})")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(look, files.keys() - small))
    return found


def _schemas(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """In a task: yield the schemas of Parquet files by (file, content)."""
    from pyarrow import parquet

    for batch in batches:
        rows = []
        for row in batch.to_pylist():
            try:
                schema = str(parquet.read_metadata(io.BytesIO(row["content"])).schema).partition("\n")[2]
                rows.append({"file": row["file"], "schema": schema, "problem": ""})
            except (pa.ArrowException, OSError) as error:
                rows.append({"file": row["file"], "schema": "", "problem": " ".join(str(error).split())})
        yield pa.RecordBatch.from_pylist(rows, pa.schema([(name, pa.string()) for name in ("file", "schema", "problem")]))


def _split(line: str, names: Collection[str]) -> Header:
    readings = [Header(sign, tuple(name.strip() for name in next(csv.reader([line], delimiter=sign), ()))) for sign in _SEPARATORS]
    return max(readings, key=lambda header: len(set(header.names) & set(names)))


def _open(spark: SparkSession, path: str) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    context: Any = spark.sparkContext
    configuration = jvm.org.apache.hadoop.conf.Configuration(context._jsc.hadoopConfiguration())
    for key, value in READ_AS_NAMED.items():
        configuration.set(key, value)
    return jvm.org.apache.hadoop.fs.Path(path), configuration
