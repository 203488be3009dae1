"""What came of raw rows, in numbers."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import date
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.ingest.arrivals import Extent, Part
from fashionrec.ingest.interactions import part_of


class Tally(NamedTuple):
    """How many rows got which verdict ("" for valid), in all, by day and by the day's file; where they stood; what else was seen."""

    verdicts: Counter[str]
    by_day: Mapping[date, Counter[str]]
    by_file: Mapping[tuple[date, str], Counter[str]]
    parts: Mapping[Part, Extent]
    marks: Mapping[str, int]
    unknown_fields: Collection[str]


def tally_of(judged: DataFrame, *, marks: Collection[str] = ()) -> Tally:
    """Count the verdicts on rows, and the valid ones with each of `marks`; what comes to the driver grows with the files alone."""
    is_valid = f.col("reason").isNull()
    found = (
        judged.groupBy(f.coalesce("reason", f.lit("")).alias("verdict"), "file", "arrival_date", part_of("row").alias("part"))
        .agg(
            f.count(f.lit(1)).alias("rows"),
            f.min("row").alias("first_row"),
            *(f.count_if(is_valid & f.col(mark)).alias(mark) for mark in marks),
            # Enough names to find the cause; a producer that puts values into names must not fill the driver.
            f.slice(f.array_sort(f.flatten(f.collect_set("unknown"))), 1, 20).alias("unknown"),
        )
        .collect()
    )
    verdicts: Counter[str] = Counter()
    by_day: defaultdict[date, Counter[str]] = defaultdict(Counter)
    by_file: defaultdict[tuple[date, str], Counter[str]] = defaultdict(Counter)
    parts: dict[Part, Extent] = {}
    for group in found:
        part = Part(group["arrival_date"], group["file"], group["part"])
        first_row, rows = parts.get(part, (group["first_row"], 0))
        parts[part] = Extent(min(first_row, group["first_row"]), rows + group["rows"])
        for counts in (verdicts, by_day[group["arrival_date"]], by_file[group["arrival_date"], group["file"]]):
            counts[group["verdict"]] += group["rows"]
    counted = {mark: sum(group[mark] for group in found) for mark in marks}
    return Tally(verdicts, by_day, by_file, parts, counted, {name for group in found for name in group["unknown"]})
