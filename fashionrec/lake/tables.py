"""Delta tables: created from their specification, read as of a date, written one day at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

from delta import exceptions as conflicts
from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.errors import UserError
from fashionrec.lake.spec import TableSpec

_METADATA = "spark.databricks.delta.commitInfo.userMetadata"

# Delta's words for "another commit came between"; they have no common parent.
CONFLICTS = (
    conflicts.ConcurrentAppendException,
    conflicts.ConcurrentDeleteDeleteException,
    conflicts.ConcurrentDeleteReadException,
    conflicts.ConcurrentTransactionException,
    conflicts.ConcurrentWriteException,
    conflicts.DeltaConcurrentModificationException,
    conflicts.MetadataChangedException,
    conflicts.ProtocolChangedException,
)


class LakeError(UserError):
    """A table cannot be read or written; the text says which, why and what to do."""


class SchemaError(LakeError):
    """Columns differ from the specification; the text lists every difference."""


def check_schema(found: t.StructType, spec: TableSpec) -> None:
    """Raise SchemaError listing every missing, unknown and retyped column at once; nullability is left to the table's constraints."""
    expected = {field.name: field.dataType for field in spec.struct}
    got = {field.name: field.dataType for field in found}
    problems = [f"{name} is missing" for name in expected if name not in got]
    problems += [f"{name} is unknown" for name in got if name not in expected]
    problems += [
        f"{name} is {got[name].simpleString()} instead of {expected[name].simpleString()}"
        for name in expected
        if name in got and got[name].simpleString() != expected[name].simpleString()
    ]
    if problems:
        raise SchemaError(f"{spec.table}: {'; '.join(problems)}. The columns are declared in schemas/{spec.table}.yaml.")


def is_name(table: str) -> bool:
    """Return whether a table is addressed by its name in a catalogue: what holds a slash is a path."""
    return "/" not in table


def delta_table(spark: SparkSession, table: str) -> DeltaTable:
    """Return a table by its path or its name."""
    return DeltaTable.forName(spark, table) if is_name(table) else DeltaTable.forPath(spark, table)


def sql_name(table: str) -> str:
    """Return a table's path or name as SQL writes it."""
    return table if is_name(table) else f"delta.`{table.replace('`', '``')}`"


def load_table(spark: SparkSession, table: str, version: int | None = None) -> DataFrame:
    """Return all rows of a table by its path or its name, as of a version where one is given."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.table(table) if is_name(table) else reader.load(table)


def create_table(spark: SparkSession, path: str, spec: TableSpec) -> None:
    """Create the table with its constraints where it does not exist yet."""
    if is_name(path):
        _create_named(spark, path, spec)
        return
    table = DeltaTable.createIfNotExists(spark).location(path).addColumns(spec.struct).comment(spec.grain)
    if spec.partitioned_by:
        table = table.partitionedBy(*spec.partitioned_by)
    for name, value in spec.properties.items():
        table = table.property(name, value)
    table.execute()


def _create_named(spark: SparkSession, name: str, spec: TableSpec) -> None:
    """Create a table in a catalogue by SQL: Delta's builder takes no name of three parts."""
    if table_exists(spark, name):
        return
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {name.rpartition('.')[0]}")
    partitioned = f"PARTITIONED BY ({', '.join(spec.partitioned_by)})" if spec.partitioned_by else ""
    listed = ", ".join(f"{sql_text(key)} = {sql_text(value)}" for key, value in spec.properties.items())
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS {name} ({spec.struct.toDDL()}) USING delta {partitioned} COMMENT {sql_text(spec.grain)} "
        f"TBLPROPERTIES ({listed})"
    )


def sql_text(value: str) -> str:
    """Return a text as SQL writes it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def table_exists(spark: SparkSession, path: str) -> bool:
    return spark.catalog.tableExists(path) if is_name(path) else bool(DeltaTable.isDeltaTable(spark, path))


def table_version(spark: SparkSession, path: str) -> int:
    """Return the number of the table's newest commit."""
    return int(delta_table(spark, path).history(1).first()["version"])


def read_table(spark: SparkSession, path: str, spec: TableSpec, day: date, version: int | None = None) -> tuple[DataFrame, int]:
    """Return what a run of `day` may see of a table, and its number of rows: what had arrived and happened by then, or its snapshot.

    Raises:
        LakeError: the table does not exist, or a daily table that must not be empty has no rows for that day.
    """
    if not table_exists(spark, path):
        raise LakeError(f"{spec.table}: no such table at {path}; run the step that writes it first (fashionrec run --run-date {day})")
    rows = rows_as_of(spark, path, spec, day, version)
    row_count = rows.count()
    if spec.kind == "daily" and not spec.may_be_empty and not row_count:
        frame = load_table(spark, path)
        newest = frame.agg(f.max("run_date")).collect()[0][0]
        raise LakeError(
            f"{spec.table}: no rows for run date {day} (newest: {newest or 'none'}); run the step that writes it: "
            f"fashionrec run --run-date {day}"
        )
    return rows, row_count


def rows_as_of(spark: SparkSession, path: str, spec: TableSpec, day: date, version: int | None = None) -> DataFrame:
    """Return the same of a table that is there, uncounted."""
    frame = load_table(spark, path, version)
    return frame.where(f.col(spec.day_column) <= f.lit(day) if spec.kind == "events" else f.col("run_date") == f.lit(day))


class Digest(NamedTuple):
    """A day's rows in whatever order: how many, and the sum of their hashes."""

    row_count: int
    hashes: int


def digests(rows: DataFrame, spec: TableSpec) -> dict[date, Digest]:
    """Return the digest of each day that has rows."""
    # A decimal: the sum of 64-bit hashes would overflow.
    hashes = f.sum(f.xxhash64(*(column.name for column in spec.columns)).cast("decimal(20,0)"))
    found = rows.groupBy(spec.day_column).agg(f.count("*"), hashes).collect()
    return {row[0]: Digest(row[1], int(row[2])) for row in found}


def published_days(
    spark: SparkSession, path: str, spec: TableSpec, days: Sequence[date], scope: Mapping[str, str]
) -> dict[date, Digest] | None:
    """Return the digests of what a write of `days` (within `scope`) would replace; None where there is no table."""
    if not table_exists(spark, path):
        return None
    rows = load_table(spark, path)
    return digests(rows.where(f.col(spec.day_column).isin(*days) & _within(scope)), spec)


def changed_days(new: Mapping[date, Digest], published: Mapping[date, Digest] | None, spec: TableSpec, days: Sequence[date]) -> list[date]:
    """Return those of `days` on which new rows are others than the published ones; all where there is no table yet.

    Raises:
        LakeError: there are rows of other days, which would be lost.
    """
    stray = sorted(str(day) for day in new.keys() - set(days))
    if stray:
        raise LakeError(
            f"{spec.table}: rows of {', '.join(stray)} were to be written by a run that replaces {min(days)} to {max(days)} only"
        )
    return sorted(day for day in set(days) if published is None or published.get(day) != new.get(day))


def _within(scope: Mapping[str, str]) -> Column:
    condition = f.lit(True)
    for column, value in scope.items():
        condition &= f.col(column) == value
    return condition


@contextmanager
def commits_of(spark: SparkSession, commit: Mapping[str, object]) -> Iterator[None]:
    """Keep `commit` as JSON in the history of what is changed meanwhile by a merge, a DELETE or the like: they take no option for it."""
    spark.conf.set(_METADATA, _as_json(commit))
    try:
        yield
    finally:
        spark.conf.unset(_METADATA)


@contextmanager
def sole_writer(spec: TableSpec) -> Iterator[None]:
    """Turn Delta's refusal of a commit, because another run committed to the same rows meanwhile, into LakeError."""
    try:
        yield
    except CONFLICTS as error:
        raise LakeError(
            f"{spec.table}: another run wrote the same days while this one did ({type(error).__name__}); its rows stand, none of this "
            "run's were written. Run again once the other has ended"
        ) from None


def replace_days(
    frame: DataFrame, path: str, spec: TableSpec, days: Sequence[date], scope: Mapping[str, str], commit: Mapping[str, object]
) -> None:
    """Replace exactly `days` of a table (and within them the rows of `scope`) by `frame`, in one atomic commit.

    Rows outside of the days or the scope are refused by Delta. `commit` is kept as JSON in the table's history. There is no
    txnVersion: with one, Delta would skip the backfill of an older day and call it done.

    Raises:
        LakeError: another run wrote the same days meanwhile.
    """
    check_schema(frame.schema, spec)
    listed = ", ".join(f"DATE'{day}'" for day in sorted(set(days)))
    where = " AND ".join([f"{spec.day_column} IN ({listed})", *(f"{column} = '{value}'" for column, value in scope.items())])
    with sole_writer(spec):
        create_table(frame.sparkSession, path, spec)
        writer = (
            frame.select(*(column.name for column in spec.columns))
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", where)
            .option("userMetadata", _as_json(commit))
        )
        if is_name(path):
            writer.saveAsTable(path)
        else:
            writer.save(path)


def _as_json(commit: Mapping[str, object]) -> str:
    return json.dumps(dict(commit), sort_keys=True, default=str)
