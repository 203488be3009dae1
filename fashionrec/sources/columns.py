"""The columns that Parquet and CSV files say they have, compared with the contract before a row is read."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession
from pyspark.sql import types as t

from fashionrec.errors import UserError
from fashionrec.lake.spec import TableSpec

# Files opened at once: a header or footer is a matter of waiting for the store.
_AT_ONCE = 8


class RawError(UserError):
    """Raw input is missing, unreadable or not in the contract; the text says which folder or file and what to do."""


class FileColumns(NamedTuple):
    """The columns of each CSV file in their order, and all names in any file that the contract does not know."""

    headers: Mapping[str, tuple[str, ...]]
    unknown: frozenset[str]


def check_columns(spark: SparkSession, parquet: Sequence[str], csvs: Sequence[str], spec: TableSpec) -> FileColumns:
    """Compare every file's own columns with the contract: Spark would fill those that a file lacks with nulls.

    Raises:
        RawError: one line with every missing, retyped and doubled column of every file, and every file that cannot be opened.
    """
    problems: list[str] = []
    kinds: dict[str, Mapping[str, str]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        footers = dict(zip(parquet, pool.map(_or_problem(spark, _footer, problems), parquet), strict=True))
        headers = dict(zip(csvs, pool.map(_or_problem(spark, _header, problems), csvs), strict=True))
    # One question to Spark per kind of file, not per file: asking costs 20 times what a footer costs.
    alike = {footer: path for path, footer in footers.items() if footer}
    of_footer = {
        footer: {one.name: one.dataType.simpleString() for one in spark.read.parquet(path).schema} for footer, path in alike.items()
    }
    kinds |= {path: of_footer[footer] for path, footer in footers.items() if footer}
    # The cells of a CSV file are text until they are read as what the contract says.
    expected = _kinds(spec.struct)
    kinds |= {path: {name: expected.get(name, "string") for name in header} for path, header in headers.items() if header}
    problems += [f"{path}: {', '.join(wrong)}" for path, found in sorted(kinds.items()) if (wrong := _differences(found, spec))]
    for path, header in headers.items():
        twice = sorted({name for name in header or () if (header or ()).count(name) > 1})
        problems += [f"{path}: {', '.join(twice)} more than once in the header"] if twice else []
    if problems:
        raise RawError(f"{'; '.join(problems)}. The columns are declared in schemas/{spec.table}.yaml; nothing was written")
    unknown = frozenset(name for found in kinds.values() for name in found) - expected.keys()
    return FileColumns({path: header for path, header in headers.items() if header}, unknown)


def _differences(found: Mapping[str, str], spec: TableSpec) -> list[str]:
    optional = {column.name for column in spec.columns if column.optional}
    expected = _kinds(spec.struct)
    wrong = [f"{name} is missing" for name in expected if name not in found and name not in optional]
    return wrong + [f"{name} is {found[name]} instead of {kind}" for name, kind in expected.items() if found.get(name, kind) != kind]


def _kinds(schema: t.StructType) -> dict[str, str]:
    return {field.name: field.dataType.simpleString() for field in schema}


def _or_problem(spark: SparkSession, read: Callable[[SparkSession, str], Any], problems: list[str]) -> Callable[[str], Any]:
    """Return `read` as a function of a path that notes what it cannot open and goes on."""

    def look(path: str) -> Any:
        try:
            return read(spark, path)
        except (Py4JJavaError, UnicodeError, csv.Error) as error:
            why = str(error.java_exception.getMessage()) if isinstance(error, Py4JJavaError) else str(error)
            problems.append(f"{path}: truncated or corrupt ({' '.join(why.split())})")
        return None

    return look


def _footer(spark: SparkSession, path: str) -> str:
    """Return the schema in a Parquet file's footer, as text; raise Py4JJavaError where there is none."""
    parquet: Any = spark._jvm.org.apache.parquet.hadoop  # type: ignore[union-attr]
    reader = parquet.ParquetFileReader.open(parquet.util.HadoopInputFile.fromPath(*_path(spark, path)))
    try:
        return str(reader.getFileMetaData().getSchema().toString())
    finally:
        reader.close()


def _header(spark: SparkSession, path: str) -> tuple[str, ...]:
    """Return the names in a CSV file's first line; raise UnicodeError where it is no UTF-8, Py4JJavaError where the file is broken."""
    jvm: Any = spark._jvm
    location, configuration = _path(spark, path)
    # The way in which Spark itself opens files, packed or not.
    stream = jvm.org.apache.spark.sql.execution.datasources.CodecStreams.createInputStream(configuration, location)
    reader = jvm.java.io.BufferedReader(jvm.java.io.InputStreamReader(stream, "UTF-8"))
    try:
        line = reader.readLine() or ""
    finally:
        reader.close()
    if re.search("[\0\ufffd]", line):
        raise UnicodeError("its header is not UTF-8 text")
    return tuple(next(csv.reader([line.removeprefix("\ufeff")]), ()))


def _path(spark: SparkSession, path: str) -> tuple[Any, Any]:
    jvm: Any = spark._jvm
    context: Any = spark.sparkContext
    return jvm.org.apache.hadoop.fs.Path(path), context._jsc.hadoopConfiguration()


def common_faults(lines: Sequence[str], spec: TableSpec) -> list[str]:
    """Return what all JSON lines have alike against the contract: fields that are missing or of another type, with what came instead."""
    return sorted(set.intersection(*({*_faults(line, spec)} for line in lines))) if lines else []


def _faults(line: str, spec: TableSpec) -> Iterator[str]:
    """Yield a line's missing and retyped fields; none for a line that is no JSON object, which tells nothing about fields."""
    try:
        row = json.loads(line)
    except ValueError:
        return
    if not isinstance(row, dict):
        return
    for column in spec.columns:
        value = row.get(column.name)
        kind = column.type if isinstance(column.type, str) else next(iter(column.type))
        if value is None or (isinstance(value, str) and not value.strip()):
            if not column.nullable:
                yield f"{column.name} is missing"
        elif not isinstance(value, _PYTHON[kind]) or (isinstance(value, bool) and kind != "boolean"):
            yield f"{column.name} is {_WORDS[type(value)]} instead of {_WORDS[_PYTHON[kind][0]]}"
    unknown = sorted(row.keys() - {column.name for column in spec.columns})
    if unknown:
        yield f"unknown: {', '.join(unknown)}"


# What Python makes of JSON's values, and what people call that.
_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "int": (int,),
    "double": (float, int),
    "array": (list,),
    "map": (dict,),
}
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
