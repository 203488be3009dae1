"""A shop's raw rows, wherever they lie: the days that there are, and the rows of some of them."""

import csv
import json
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import NamedTuple

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.columns import RawError
from fashionrec.sources.csv_files import OPEN_QUOTE
from fashionrec.sources.files import Folder, read_folder
from fashionrec.sources.folders import as_path, day_folders, holds, shown
from fashionrec.sources.headers import text_lines
from fashionrec.sources.queries import Query, first_line, read_query
from fashionrec.sources.rows import RawRows

Source = Folder | Query
# Folders asked for their marker at once.
_AT_ONCE = 8


class Delivered(NamedTuple):
    """The days that a source holds, oldest first: `days` can be read, `not_ready` lack their marker. `others` names entries beside the
    days' folders that name no day. A source of `any_day` cannot list its days: it can be asked for each."""

    days: Sequence[date] = ()
    not_ready: Sequence[date] = ()
    others: Sequence[str] = ()
    any_day: bool = False


def delivered_days(spark: SparkSession, source: Source, *, up_to: date) -> Delivered:
    """Return the arrival days that a source holds up to a date.

    Raises:
        RawError: its folder does not exist, or an entry in it cannot be read.
    """
    if isinstance(source, Query):
        return Delivered(any_day=True)
    below = day_folders(spark, source.path)
    found = [day for day in sorted(below.days) if day <= up_to]

    def is_ready(day: date) -> bool:
        return not source.ready_marker or all(holds(spark, folder, source.ready_marker) for folder in below.days[day])

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ready = dict(zip(found, pool.map(is_ready, found), strict=True))
    return Delivered([day for day in found if ready[day]], [day for day in found if not ready[day]], below.others)


def read_days(spark: SparkSession, source: Source, days: Collection[date], spec: TableSpec) -> RawRows:
    """Return the rows of some arrival days.

    Raises:
        RawError: a file, a query or a column of theirs cannot be read as the contract says; see `read_folder` and `read_query`.
    """
    with readable(spark, source):
        if isinstance(source, Query):
            return read_query(spark, source, days, spec)
        return read_folder(spark, source, days, spec)


def named(source: Source, day: date) -> str:
    """Return what a day of a source is called in messages."""
    return f"{source.name} of {day}" if isinstance(source, Query) else f"{shown(source.path)}/{day}"


@contextmanager
def readable(spark: SparkSession, source: Source) -> Iterator[None]:
    """Turn Spark's error about rows that it could not read to their end into one line that names the file or the query."""
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        if found := re.search(rf"{OPEN_QUOTE} \((\{{.*?\}})\)", str(error)):
            place = json.loads(found[1])
            raise RawError(_swallowed(spark, as_path(place["_file"]), place["separator"])) from None
        if found := re.search(r"FAILED_READ_FILE[^\n]*?reading file (\S+?)\.?\s", str(error)):
            causes = re.findall(r"Caused by: [\w.$]+: ([^\n]+)", str(error))
            why = f" ({causes[-1]})" if causes else ""
            raise RawError(f"{found[1]}: truncated or corrupt{why}; nothing was written. Deliver the file again or remove it") from None
        if isinstance(source, Query):
            raise RawError(f"{source.name}: {first_line(error)}; nothing was written") from None
        raise


def _swallowed(spark: SparkSession, path: str, separator: str) -> str:
    """Return the line about the first record of a CSV file that holds others."""
    records = csv.reader(text_lines(spark, path), delimiter=separator)
    columns, before, where = len(next(records)), records.line_num, ""
    for record in records:
        lines = records.line_num - before
        if lines > 1 and (len(record) != columns or any("\n" in cell and cell.count(separator) >= columns - 1 for cell in record)):
            where = f", line {before + 1}: a record over {lines:,} lines"
            break
        before = records.line_num
    found = f"{shown(path)}{where or ': a record over many lines'}"
    return f"{found}, as {OPEN_QUOTE} makes one; nothing was written. Mend it and deliver the file again"
