"""Files of raw rows as rows that still know what they looked like."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import reduce
from itertools import chain
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec
from fashionrec.sources.columns import RawError, require_none
from fashionrec.sources.conversions import epoch_as_time, times_of
from fashionrec.sources.csv_files import faults_of_header, read_csv
from fashionrec.sources.folders import READ_AS_NAMED, arrival_date, day_folders, fewest_paths, files_below, names_below, shown
from fashionrec.sources.headers import csv_headers
from fashionrec.sources.parquet_files import read_parquet
from fashionrec.sources.rows import RawRows, file_of_row, is_blank, is_one_json, nullable, rows_of_table, shaped, types_of

_KINDS = {
    "lines": re.compile(r"\.(jsonl|json)(\.gz|\.zst)?$"),
    "csv": re.compile(r"\.(csv|tsv)(\.gz|\.zst)?$"),
    "parquet": re.compile(r"\.parquet$"),
}
_NAMES = ".jsonl, .json, .csv, .tsv (each plain, .gz or .zst) or .parquet"


class Folder(NamedTuple):
    """A folder of days.

    `ready_marker` is the name of the file that says that its day is complete ("": every day is), `time` what times are: `iso`,
    `epoch_seconds` or `epoch_millis`.
    """

    path: str
    ready_marker: str = ""
    time: str = "iso"


def read_folder(spark: SparkSession, folder: Folder, days: Collection[date], spec: TableSpec) -> RawRows:
    """Return the rows of all JSON-lines, CSV and Parquet files of some days.

    Raises:
        RawError: there is no folder of a day; a file is of an unknown kind, cannot be opened, or holds no byte where even one without rows
            has some; CSV or Parquet files lack columns of the contract or have them in a type that cannot say it. All are listed.
    """
    below = day_folders(spark, folder.path)
    if absent := sorted(set(days) - below.days.keys()):
        raise RawError(f"{shown(below.root)}: no folder of {', '.join(map(str, absent))}")
    files = files_below(spark, [path for day in days for path in below.days[day]])
    found = _files(files, below.root, folder.ready_marker)
    problems: list[str] = []
    frames: list[DataFrame] = []
    if found["lines"]:
        frames.append(_read_lines(spark, fewest_paths(found["lines"], files, below.root), nullable(spec)))
    headers = csv_headers(spark, found["csv"], fewest_paths(found["csv"], files, below.root), set(spec.struct.names), problems)
    for header in sorted(set(headers.values())):
        alike = [path for path in found["csv"] if headers.get(path) == header]
        wrong = faults_of_header(header.names, spec)
        problems += [f"{shown(path)}: {', '.join(wrong)}" for path in alike if wrong]
        if not wrong:
            frames.append(read_csv(spark, fewest_paths(alike, files, below.root), header, spec))
    is_epoch = folder.time != "iso"
    tables, unknown = read_parquet(spark, found["parquet"], files, below.root, spec, problems, is_epoch=is_epoch)
    require_none(sorted(problems), spec)
    rows = reduce(DataFrame.unionByName, [*frames, *tables] or [_none(spark, spec)])
    if is_epoch:
        rows = rows.withColumns({name: epoch_as_time(f.col(name), folder.time) for name in times_of(spec)})
    unknown |= {name for header in headers.values() for name in header.names} - set(spec.struct.names)
    read = sorted(shown(path) for path in chain.from_iterable(found.values()))
    return RawRows(rows.withColumn("_arrival_date", arrival_date(below.depth)), frozenset(unknown), read)


def _files(files: Mapping[str, int], root: str, marker: str) -> dict[str, dict[str, int]]:
    """Return the files of each kind; raise RawError naming those of none, and those whose upload did not finish."""
    found: dict[str, dict[str, int]] = {kind: {} for kind in _KINDS}
    odd, cut = [], []
    for path, size in files.items():
        names = names_below(path, root)
        # Tools write a folder of parts where people think of one file: events.jsonl/part-00000.
        kind = next((kind for name in reversed(names) for kind, ending in _KINDS.items() if ending.search(name)), None)
        if names[-1] == marker:
            continue
        if kind is None:
            odd.append(shown(path))
        elif size == 0 and (kind != "lines" or path.endswith((".gz", ".zst"))):
            cut.append(shown(path))
        else:
            found[kind][path] = size
    if odd:
        raise RawError(f"{', '.join(odd)}: neither {_NAMES}; take it out of the folder or rename it")
    if cut:
        raise RawError(f"{', '.join(cut)}: 0 bytes, so its upload did not finish; deliver it again or remove it")
    return found


def _none(spark: SparkSession, spec: TableSpec) -> DataFrame:
    rows = spark.createDataFrame([], t.StructType([*nullable(spec), t.StructField("_file", t.StringType())]))
    return rows_of_table(rows, types_of(rows), spec)


def _read_lines(spark: SparkSession, paths: Sequence[str], schema: t.StructType) -> DataFrame:
    lines = spark.read.options(**READ_AS_NAMED).text(list(paths))
    lines = lines.select(f.col("value").alias("_text"), file_of_row().alias("_file")).where(~is_blank("_text"))
    with_corrupt = t.StructType([*schema.fields, t.StructField("_corrupt", t.StringType())])
    parsed = f.from_json("_text", with_corrupt, {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": "_corrupt"})
    rows = lines.withColumn("_row", parsed).select(*(f.col(f"_row.{name}").alias(name) for name in schema.names), "*")
    texts = [field.name for field in schema if isinstance(field.dataType, t.StringType)]
    # from_json puts an object or a list into a text column as its JSON: a retyped field, not a text.
    nested = [f.col(name).startswith(start) for name in texts for start in ('{"', '["', "[{")]
    keys = f.array_except(f.coalesce(f.json_object_keys("_text"), f.array().cast("array<string>")), f.lit(schema.names))
    malformed = f.col("_row._corrupt").isNotNull() | ~is_one_json("_text") | f.coalesce(reduce(Column.__or__, nested), f.lit(False))
    return shaped(rows.withColumns({"_malformed": malformed, "_unknown": keys}), schema)
