"""Raw logs and catalogues become tables; what is rejected goes to quarantine, and too much of it stops the run."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import NamedTuple
from urllib.parse import unquote

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.ingest import catalog, interactions
from fashionrec.ingest.pseudonyms import is_demo_key, load_key
from fashionrec.ingest.verdicts import with_verdicts
from fashionrec.ingest.versions import item_versions
from fashionrec.lake.spec import TableSpec, table_spec
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.sources.columns import RawError, common_faults
from fashionrec.sources.files import RawRows, raw_days, raw_files, read_raw, readable_files

# Why the rows of a file fail whose producer has changed its fields; the fewest rows that tell so; the most files that are looked at.
_FILE_REASONS = ("malformed", "missing_field", "bad_time", interactions.ANONYMOUS)
_FEWEST_ROWS, _MOST_FILES = 10, 20


def ingest_interactions(run: StepRun) -> None:
    """Rebuild the days of the lookback window from all arrival folders of that window, so that late events reach their own day."""
    key = _key(run)
    options = run.settings.ingest
    first_day = run.run_date - timedelta(days=options.lookback_days)
    root = run.workspace.path("raw_interactions")
    delivered = raw_days(run.spark, root)
    if run.run_date not in delivered:
        raise RawError(
            f"{root}/{run.run_date}: no such folder (newest: {max(delivered, default='none')}); deliver it or run another --run-date"
        )
    folders = [day for day in delivered if first_day <= day <= run.run_date]
    known_items = run.read("item_versions").select("item_id")
    spec = table_spec("raw_interactions")
    files = raw_files(run.spark, root, folders)
    raw = read_raw(run.spark, files, spec)
    judged = interactions.judge_interactions(
        raw.frame, key=key, first_day=first_day, lookback_days=options.lookback_days, max_text_length=options.max_text_length
    )

    def verdicts_among(rows: DataFrame) -> DataFrame:
        return interactions.verdicts_among(rows, known_items, near_duplicate_seconds=options.near_duplicate_seconds)

    with _judged(judged, verdicts_among, interactions.REASONS, interactions.COLUMNS) as rows:
        tally = _tally(rows, marks=interactions.MARKS)
        _report(run, raw, tally, files=files, reasons=interactions.REASONS, copies=(interactions.DUPLICATE, interactions.NEAR_DUPLICATE))
        _whole_files(rows, tally, spec)
        _quarantine(run, rows, tally, folders, source="interactions", reasons=interactions.REASONS)
        _publish_interactions(run, rows, tally, folders)


def ingest_catalog(run: StepRun) -> None:
    """Read the newest catalogue on or before the run date as the items of that date, and put those of the lookback into their history."""
    root = run.workspace.path("raw_catalog")
    delivered = [day for day in raw_days(run.spark, root) if day <= run.run_date]
    if not delivered:
        raise RawError(f"{root}: no catalogue on or before {run.run_date}; deliver one")
    first_day = run.run_date - timedelta(days=run.settings.ingest.lookback_days)
    # With the one that held when the window began, so that days run one by one and all at once tell the same history.
    folders = [day for day in delivered if day >= max((day for day in delivered if day <= first_day), default=first_day)]
    day = max(folders)
    spec = table_spec("raw_catalog")
    files = raw_files(run.spark, root, folders)
    raw = read_raw(run.spark, files, spec)
    judged = catalog.judge_catalog(raw.frame, max_text_length=run.settings.ingest.max_text_length)
    with _judged(judged, catalog.verdicts_among, catalog.REASONS, catalog.COLUMNS) as rows:
        tally = _tally(rows)
        _report(run, raw, tally, files=files, reasons=catalog.REASONS, copies=(catalog.DUPLICATE,))
        _whole_files(rows, tally, spec)
        _quarantine(run, rows, tally, folders, source="catalog", reasons=catalog.REASONS)
        run.figures["catalog_age_days"] = (run.run_date - day).days
        snapshots = catalog.valid_items(rows)
        run.write("items", snapshots.where(f.col("arrival_date") == f.lit(day)).drop("arrival_date"))
        run.write("item_versions", item_versions(snapshots, run.so_far("item_versions"), days=sorted(tally.valid_arrivals)))


def _key(run: StepRun) -> bytes:
    key = load_key(run.settings.ingest.user_key_file)
    if is_demo_key(key):
        run.warnings.append("pseudonyms are made with the demo's key, which everybody knows: set ingest.user_key_file for real users")
    return key


@contextmanager
def _judged(
    judged: DataFrame, verdicts_among: Callable[[DataFrame], DataFrame], reasons: Collection[str], columns: Sequence[str]
) -> Iterator[DataFrame]:
    """Yield the rows with all verdicts. Files are read and rows compared once, whatever looks at them afterwards."""
    judged = judged.persist()
    compared = verdicts_among(judged).persist()
    try:
        with readable_files():
            # From here on Spark knows how few rows these are, and sends them to the others instead of shuffling all.
            compared.count()
        yield with_verdicts(judged, compared, reasons=reasons, columns=columns)
    finally:
        compared.unpersist()
        judged.unpersist()


class Tally(NamedTuple):
    """How many rows got which verdict ("" for valid), in all and by file; the days of the valid ones; what else was seen."""

    verdicts: Mapping[str, int]
    by_file: Mapping[str, Mapping[str, int]]
    valid_days: Collection[date]
    valid_arrivals: Collection[date]
    marks: Mapping[str, int]
    unknown_fields: Collection[str]


def _tally(judged: DataFrame, marks: Sequence[str] = ()) -> Tally:
    """Count the verdicts; what comes to the driver grows with the files and their days, not with the rows."""
    is_valid = f.col("reason").isNull()
    day = f.when(is_valid, f.col("event_date")) if "event_date" in judged.columns else f.lit(None).cast("date")
    found = (
        judged.groupBy(f.coalesce("reason", f.lit("")).alias("verdict"), "file", "arrival_date", day.alias("day"))
        .agg(
            f.count(f.lit(1)).alias("rows"),
            *(f.count_if(is_valid & f.col(mark)).alias(mark) for mark in marks),
            # Enough names to find the cause; a producer that puts values into names must not fill the driver.
            f.slice(f.array_sort(f.flatten(f.collect_set("unknown"))), 1, 20).alias("unknown"),
        )
        .collect()
    )
    verdicts: Counter[str] = Counter()
    by_file: dict[str, Counter[str]] = {}
    for group in found:
        verdicts[group["verdict"]] += group["rows"]
        by_file.setdefault(group["file"], Counter())[group["verdict"]] += group["rows"]
    return Tally(
        verdicts,
        by_file,
        {group["day"] for group in found if group["day"]},
        {group["arrival_date"] for group in found if not group["verdict"]},
        {mark: sum(group[mark] for group in found) for mark in marks},
        {name for group in found for name in group["unknown"]},
    )


def _report(run: StepRun, raw: RawRows, tally: Tally, *, files: Sequence[str], reasons: Collection[str], copies: Sequence[str]) -> None:
    """Put the figures and warnings into the run; raise RawError where rows were lost or doubled on the way."""
    verdicts = tally.verdicts
    # A count of its own: it only splits the files into rows, and it would see what the verdicts lost.
    rows_in = raw.frame.count()
    rejected = {reason: verdicts[reason] for reason in reasons if verdicts.get(reason)}
    run.figures |= {"rows_in": rows_in, "quarantined": sum(rejected.values())}
    others = {name: verdicts[name] for name in verdicts if name and name not in rejected}
    run.figures |= {f"{name}_count": verdicts.get(name, 0) for name in copies}
    run.figures |= {f"{name}_count": count for name, count in sorted({**others, **tally.marks}.items()) if count}
    run.warnings += [f"quarantine: {reason} {count:,}" for reason, count in rejected.items()]
    unknown = sorted({*raw.unknown_columns, *tally.unknown_fields})
    if unknown:
        run.warnings.append(f"columns that the contract does not know were left out: {', '.join(unknown[:20])}")
    # Spark writes a file's path as a URI; day and name tell it from the others.
    seen = {_day_and_name(unquote(path)) for path in tally.by_file}
    empty = sorted(path for path in files if _day_and_name(path) not in seen)
    if empty:
        run.warnings.append(f"{len(empty)} files without a row: {', '.join(empty[:5])}")
    judged = verdicts.get("", 0) + sum(rejected.values()) + sum(others.values())
    if judged != rows_in:
        raise RawError(f"{rows_in:,} rows were read but {judged:,} judged; files changed during the run, run it again")


def _day_and_name(path: str) -> str:
    return "/".join(path.rsplit("/", 2)[-2:])


def _whole_files(judged: DataFrame, tally: Tally, spec: TableSpec) -> None:
    """Raise RawError naming every file in which no row is in the contract, with what its rows have alike."""
    broken = {
        path: sum(counts.values())
        for path, counts in tally.by_file.items()
        if counts.keys() <= set(_FILE_REASONS) and sum(counts.values()) >= _FEWEST_ROWS
    }
    faults = {}
    for path in sorted(broken)[:_MOST_FILES]:
        sample = judged.where((f.col("file") == path) & f.col("raw").isNotNull()).select("raw").limit(_FEWEST_ROWS).collect()
        faults[path] = common_faults([row["raw"] for row in sample], spec)
    problems = [f"{path}: {', '.join(faults[path])} (all {broken[path]:,} rows)" for path in faults if faults[path]]
    if problems:
        raise RawError(f"{'; '.join(problems)}. The columns are declared in schemas/{spec.table}.yaml; nothing was written")


def _quarantine(run: StepRun, judged: DataFrame, tally: Tally, folders: Sequence[date], *, source: str, reasons: Collection[str]) -> None:
    """Write the rejected rows, then raise RawError where their share is above the limit: nothing else was written yet."""
    rejected = judged.where(f.col("reason").isin(*reasons)).select("arrival_date", f.lit(source).alias("source"), "reason", "raw", "file")
    run.write("quarantine", rejected, days=folders, scope={"source": source})
    share = run.figures["quarantined"] / max(run.figures["rows_in"], 1)
    limit = run.settings.ingest.max_quarantine_rate
    if share > limit:
        counts = ", ".join(f"{reason} {tally.verdicts[reason]:,}" for reason in reasons if tally.verdicts.get(reason))
        unknown = (
            f" Fields that the contract does not know: {', '.join(sorted(tally.unknown_fields)[:20])}." if tally.unknown_fields else ""
        )
        raise RawError(
            f"{source}: {share:.1%} of {run.figures['rows_in']:,.0f} rows rejected, more than ingest.max_quarantine_rate {limit:.1%}: "
            f"{counts}.{unknown} The table quarantine holds the rows and their files (arrival dates {min(folders)} to {max(folders)}); "
            "nothing was published"
        )


def _publish_interactions(run: StepRun, judged: DataFrame, tally: Tally, folders: Collection[date]) -> None:
    """Replace the days that have valid rows; the run date must be one of them."""
    if run.run_date not in tally.valid_days:
        raise RawError(
            f"{run.workspace.path('raw_interactions')}/{run.run_date}: empty day, no valid event of that date in it; deliver it and run "
            "again. The table interactions is as it was"
        )
    silent = sorted(set(folders) - set(tally.valid_days))
    if silent:
        run.warnings.append(f"no valid event in {', '.join(map(str, silent))}: these days of the table are as they were")
    orphans = sorted(set(tally.valid_days) - set(folders))
    valid = interactions.valid_interactions(_with_published_rows(run, judged, orphans) if orphans else judged)
    run.write("interactions", valid, days=sorted(tally.valid_days))


def _with_published_rows(run: StepRun, judged: DataFrame, orphans: Collection[date]) -> DataFrame:
    """Add the published rows of days whose folder is gone: late events alone would otherwise take the place of the whole day."""
    published = run.so_far("interactions").where(f.col("event_date").isin(*orphans))
    new = judged.where(f.col("reason").isNull()).select("event_id")
    return judged.unionByName(published.join(new, "event_id", "left_anti"), allowMissingColumns=True)


STEPS: tuple[Step, ...] = (
    Step(
        "ingest_catalog",
        reads=("raw/catalog",),
        writes=("items", "item_versions", "quarantine"),
        run=ingest_catalog,
        about="Check the newest raw catalogue and publish it as the items of the run date.",
    ),
    Step(
        "ingest_interactions",
        reads=("raw/interactions", "item_versions"),
        writes=("interactions", "quarantine"),
        run=ingest_interactions,
        about="Check raw interaction logs and put every valid event in the day on which it happened.",
    ),
)
