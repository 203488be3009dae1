"""Raw logs and catalogues become tables; what is rejected goes to quarantine, and too much of it stops the run."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.ingest import catalog, interactions
from fashionrec.ingest.raw import RawError, RawRows, raw_days, raw_files, read_raw, readable_files
from fashionrec.ingest.versions import item_versions
from fashionrec.lake import tables
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.step import Run, Step


def ingest_interactions(run: Run) -> None:
    """Rebuild the days of the lookback window from all arrival folders of that window, so that late events reach their own day."""
    lookback_days = run.settings.ingest.lookback_days
    first_day = run.run_date - timedelta(days=lookback_days)
    root = run.path("raw_interactions")
    there = raw_days(run.spark, root)
    if run.run_date not in there:
        raise RawError(
            f"{root}/{run.run_date}: no such folder (newest: {max(there, default='none')}); deliver it or run another --run-date"
        )
    folders = [day for day in there if first_day <= day <= run.run_date]
    raw = read_raw(run.spark, raw_files(run.spark, root, folders), table_spec("raw_interactions"))
    judged = interactions.judge_interactions(raw.frame, first_day=first_day, lookback_days=lookback_days).persist()
    try:
        tally = _tally(judged)
        _report(run, raw, tally)
        _quarantine(run, judged, tally, source="interactions", reasons=interactions.REASONS)
        _publish_interactions(run, judged, tally, folders)
    finally:
        judged.unpersist()


def ingest_catalog(run: Run) -> None:
    """Read the newest catalogue on or before the run date as the items of that date, and put those of the lookback into their history."""
    root = run.path("raw_catalog")
    there = [day for day in raw_days(run.spark, root) if day <= run.run_date]
    if not there:
        raise RawError(f"{root}: no catalogue on or before {run.run_date}; deliver one")
    first_day = run.run_date - timedelta(days=run.settings.ingest.lookback_days)
    # With the one that held when the window began, so that days run one by one and all at once tell the same history.
    folders = [day for day in there if day >= max((day for day in there if day <= first_day), default=first_day)]
    day = max(folders)
    raw = read_raw(run.spark, raw_files(run.spark, root, folders), table_spec("raw_catalog"))
    judged = catalog.judge_catalog(raw.frame).persist()
    try:
        tally = _tally(judged)
        _report(run, raw, tally)
        _quarantine(run, judged, tally, source="catalog", reasons=catalog.REASONS)
        run.figures["catalog_age_days"] = (run.run_date - day).days
        snapshots = catalog.valid_items(judged)
        run.write("items", snapshots.where(f.col("arrival_date") == f.lit(day)).drop("arrival_date"))
        days = [row["arrival_date"] for row in snapshots.select("arrival_date").distinct().collect()]
        run.write("item_versions", item_versions(snapshots, _known_versions(run), days=days))
    finally:
        judged.unpersist()


def _known_versions(run: Run) -> DataFrame:
    """Return the history so far. The table is what the step itself writes, so this is not a read that orders it after another one."""
    path, spec = run.path("lake", "item_versions"), table_spec("item_versions")
    if not tables.table_exists(run.spark, path):
        return run.spark.createDataFrame([], spec.struct)
    return run.spark.read.format("delta").load(path)


class Tally(NamedTuple):
    """How many rows got which verdict ("" for valid), the valid ones by day, and what else was seen."""

    verdicts: Mapping[str, int]
    valid_days: Collection[date]
    misplaced_count: int
    unknown_fields: Collection[str]


def _tally(judged: DataFrame) -> Tally:
    """Count the verdicts; this reads the files, so a broken one shows here, before anything is written."""
    is_valid = f.col("reason").isNull()
    day = f.when(is_valid, f.col("event_date")) if "event_date" in judged.columns else f.lit(None).cast("date")
    misplaced = f.col("misplaced").cast("int") if "misplaced" in judged.columns else f.lit(0)
    groups = judged.groupBy(f.coalesce("reason", f.lit("")).alias("verdict"), day.alias("day")).agg(
        f.count(f.lit(1)).alias("rows"),
        f.sum(misplaced).alias("misplaced"),
        # Enough names to find the cause; a producer that puts values into names must not fill the driver.
        f.slice(f.array_sort(f.flatten(f.collect_set("unknown"))), 1, 20).alias("unknown"),
    )
    with readable_files():
        found = groups.collect()
    verdicts: Counter[str] = Counter()
    for group in found:
        verdicts[group["verdict"]] += group["rows"]
    return Tally(
        verdicts,
        {group["day"] for group in found if group["day"]},
        sum(group["misplaced"] for group in found),
        {name for group in found for name in group["unknown"]},
    )


def _report(run: Run, raw: RawRows, tally: Tally) -> None:
    """Put the figures and warnings into the run; raise RawError where rows were lost or doubled on the way."""
    verdicts = tally.verdicts
    # A count of its own: it only splits the files into lines, and it would see what the verdicts lost.
    rows_in = raw.frame.count()
    rejected = {reason: count for reason, count in verdicts.items() if reason in {*interactions.REASONS, *catalog.REASONS}}
    run.figures |= {"rows_in": rows_in, "quarantined": sum(rejected.values()), "duplicate_count": verdicts[interactions.DUPLICATE]}
    if verdicts[interactions.BEFORE_WINDOW]:
        run.figures["before_window_count"] = verdicts[interactions.BEFORE_WINDOW]
    if tally.misplaced_count:
        run.figures["misplaced_count"] = tally.misplaced_count
    run.warnings += [f"quarantine: {reason} {count:,}" for reason, count in sorted(rejected.items())]
    unknown = sorted({*raw.unknown_columns, *tally.unknown_fields})
    if unknown:
        run.warnings.append(f"columns that the contract does not know were left out: {', '.join(unknown[:20])}")
    if sum(verdicts.values()) != rows_in:
        raise RawError(f"{rows_in:,} rows were read but {sum(verdicts.values()):,} judged; files changed during the run, run it again")


def _quarantine(run: Run, judged: DataFrame, tally: Tally, *, source: str, reasons: Collection[str]) -> None:
    """Write the rejected rows, then raise RawError where their share is above the limit: nothing else was written yet."""
    rejected = judged.where(f.col("reason").isin(*reasons)).select(f.lit(source).alias("source"), "reason", "raw", "file")
    run.write("quarantine", rejected, scope={"source": source})
    share = run.figures["quarantined"] / max(run.figures["rows_in"], 1)
    limit = run.settings.ingest.max_quarantine_rate
    if share > limit:
        counts = ", ".join(f"{reason} {tally.verdicts[reason]:,}" for reason in reasons if tally.verdicts.get(reason))
        raise RawError(
            f"{source}: {share:.1%} of {run.figures['rows_in']:,.0f} rows rejected, more than ingest.max_quarantine_rate {limit:.1%}: "
            f"{counts}. The table quarantine of {run.run_date} holds the rows and their files; nothing was published"
        )


def _publish_interactions(run: Run, judged: DataFrame, tally: Tally, folders: Collection[date]) -> None:
    """Replace the days that have valid rows; the run date must be one of them."""
    if run.run_date not in tally.valid_days:
        raise RawError(
            f"{run.path('raw_interactions')}/{run.run_date}: empty day, no valid event of that date in it; deliver it and run again. "
            "The table interactions is as it was"
        )
    silent = sorted(set(folders) - set(tally.valid_days))
    if silent:
        run.warnings.append(f"no valid event in {', '.join(map(str, silent))}: these days of the table are as they were")
    orphans = sorted(set(tally.valid_days) - set(folders))
    valid = interactions.valid_interactions(_with_rows_already_there(run, judged, orphans) if orphans else judged)
    run.write("interactions", valid, days=sorted(tally.valid_days))


def _with_rows_already_there(run: Run, judged: DataFrame, orphans: Collection[date]) -> DataFrame:
    """Add the table's own rows of days whose folder is gone: late events alone would otherwise take the place of the whole day.

    The table is no input of the step, so this is not a read that orders it after another one.
    """
    path, spec = run.path("lake", "interactions"), table_spec("interactions")
    if not tables.table_exists(run.spark, path):
        return judged
    rows, _ = tables.read_table(run.spark, path, spec, run.run_date)
    there = rows.where(f.col("event_date").isin(*orphans))
    new = judged.where(f.col("reason").isNull()).select("event_id")
    return judged.unionByName(there.join(new, "event_id", "left_anti"), allowMissingColumns=True)


STEPS: tuple[Step, ...] = (
    Step(
        "ingest_interactions",
        reads=("raw/interactions",),
        writes=("interactions", "quarantine"),
        run=ingest_interactions,
        about="Check raw interaction logs and put every valid event in the day on which it happened.",
    ),
    Step(
        "ingest_catalog",
        reads=("raw/catalog",),
        writes=("items", "item_versions", "quarantine"),
        run=ingest_catalog,
        about="Check the newest raw catalogue and publish it as the items of the run date.",
    ),
)
