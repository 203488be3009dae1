"""Raw logs and catalogues become tables, day of arrival by day; what is rejected goes to quarantine, too much of it stops the run."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from statistics import median
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.ingest import catalog, interactions
from fashionrec.ingest.arrivals import first_numbers, listed, missing_days
from fashionrec.ingest.pseudonyms import KeyMissingError, is_demo_key, key_fingerprint, load_key
from fashionrec.ingest.tally import Tally, tally_of
from fashionrec.ingest.verdicts import with_verdicts
from fashionrec.ingest.versions import DESCRIPTION, item_versions, listed_on, touched_days
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.settings.model import Quality
from fashionrec.sources.columns import RawError, common_faults
from fashionrec.sources.files import Folder
from fashionrec.sources.folders import as_path, shown
from fashionrec.sources.queries import Query
from fashionrec.sources.rows import RawRows
from fashionrec.sources.source import Delivered, Source, delivered_days, named, read_days, readable

# Why the rows of a file fail whose producer has changed its fields; the fewest rows that tell so; the most files that are looked at.
_FILE_REASONS = ("malformed", "missing_field", "bad_time", interactions.ANONYMOUS)
_FEWEST_ROWS, _MOST_FILES = 10, 20


class _Contract(NamedTuple):
    """What differs between the two sources of raw rows: the name in `quarantine` and `arrivals`, and what the ingest stage says of it."""

    name: str
    reasons: Collection[str]
    copies: Sequence[str]
    columns: Sequence[str]
    marks: Sequence[str] = ()


_INTERACTIONS = _Contract(
    "interactions",
    interactions.REASONS,
    (interactions.DUPLICATE, interactions.NEAR_DUPLICATE),
    interactions.COLUMNS,
    interactions.MARKS,
)
_CATALOG = _Contract("catalog", catalog.REASONS, (catalog.DUPLICATE,), catalog.COLUMNS)


def ingest_interactions(run: StepRun) -> None:
    """Take in the run date's arrivals and those of earlier days that the lake lacks; what arrived on other days stays as it is."""
    key, options = _key(run), run.settings.ingest
    source = _source(run, _INTERACTIONS, options.interactions.query, options.interactions.time)
    found = _delivered(run, source)
    if run.run_date in found.not_ready:
        raise RawError(f"{named(source, run.run_date)}: not complete, {options.ready_marker} is not in it yet; run again when it is")
    if not found.any_day and run.run_date not in found.days:
        newest = max(found.days, default="none")
        raise RawError(f"{named(source, run.run_date)}: no such folder (newest: {newest}); deliver it or run another --run-date")
    taken = _taken(run, _INTERACTIONS, key_fingerprint(key))
    # A query cannot say which days it has something of: those without arrivals so far are asked for.
    earlier = missing_days({*taken, run.run_date}, until=run.run_date, back=options.lookback_days) if found.any_day else found.days
    days = {run.run_date, *(day for day in earlier if day not in taken)}
    held: dict[date, str] = {}
    while True:
        unfit, again = _take_interactions(run, source, sorted(days), taken, key)
        if not unfit and not again:
            break
        # Nothing was published. A day that is not fit holds no first copy of an event; a copy gives way to what arrived before it.
        held |= unfit
        if not found.any_day and (gone := again - set(delivered_days(run.spark, source, up_to=max(again, default=run.run_date)).days)):
            raise RawError(f"{listed(gone)}: no such folders any more; bring them back, they hold copies of what arrived before only now")
        days = (days | again) - held.keys()
    run.warnings += [f"what arrived on {day} was not taken in and will be tried again: {why}" for day, why in sorted(held.items())]
    run.figures |= {"days_taken": len(days), "days_held_back": len(held)}
    if missing := missing_days(taken.keys() | days, until=run.run_date, back=options.lookback_days):
        run.figures["days_missing"] = len(missing)
        run.warnings.append(f"nothing has arrived of {listed(missing)}; deliver it, and the next run takes it in")


def _take_interactions(
    run: StepRun, source: Source, days: Sequence[date], taken: Mapping[date, int], key: bytes
) -> tuple[dict[date, str], set[date]]:
    """Write what arrived on some days; or where that cannot stand, write the rejected rows only and return why.

    Returns:
        The days that are not fit to be taken in, with the reason of each, and further ones of those `taken` before that have to be taken in
        again with them, because their copies of events depend on these days.

    Raises:
        RawError: the run date is not fit.
    """
    options = run.settings.ingest
    raw = read_days(run.spark, source, days, table_spec("raw_interactions"))
    judged = interactions.judge_interactions(
        raw.frame, key=key, lookback_days=options.lookback_days, max_text_length=options.max_text_length
    )
    reach = timedelta(days=options.lookback_days)
    so_far, of_days = run.so_far("interactions"), f.col("arrival_date").isin(*days)
    published = so_far.where(f.col("arrival_date").between(days[0] - reach, days[-1] + reach) & ~of_days)

    def verdicts_among(rows: DataFrame) -> DataFrame:
        return interactions.verdicts_among(
            rows, published, near_duplicate_seconds=options.near_duplicate_seconds, lookback_days=options.lookback_days
        )

    with _judged(source, judged, verdicts_among, _INTERACTIONS) as rows:
        tally = tally_of(rows, marks=_INTERACTIONS.marks)
        valid = rows.where(f.col("reason").isNull())
        known_items = run.read("item_versions").select("item_id").distinct()
        strange = {row["arrival_date"]: row["count"] for row in interactions.unknown_items(valid, known_items).collect()}
        _quarantine(run, rows, days, _INTERACTIONS)
        # What was accepted once is not judged again because of another day.
        new = [day for day in days if day == run.run_date or day not in taken]
        if unfit := _unfit(run, rows, tally, new, _INTERACTIONS, must=run.run_date, taken=taken, strange=strange):
            return unfit, set()
        if any(day > days[0] for day in set(taken) - set(days)):
            again = interactions.days_to_take_again(valid, published, so_far.where(of_days), lookback_days=options.lookback_days)
            if days_again := {row["arrival_date"] for row in again.collect()}:
                return {}, days_again
        _report(run, raw, tally, _INTERACTIONS)
        run.figures["unknown_item_count"] = unknown = sum(strange.values())
        if unknown:
            run.warnings.append(
                f"{unknown:,} clicks and purchases of items that no catalogue has held are kept: one that comes late describes them"
            )
        # A query's rows come in no order.
        numbers = first_numbers(tally.parts) if isinstance(source, Folder) else []
        starts = run.spark.createDataFrame(numbers, "file string, part long, first_row long, first_number long")
        run.write("interactions", interactions.valid_interactions(rows, starts), days=days)
        _note_arrivals(run, tally, days, _INTERACTIONS, key_fingerprint(key))
    return {}, set()


def ingest_catalog(run: StepRun) -> None:
    """Read the newest catalogue on or before the run date as the items of that date; it and those that the lake lacks make history."""
    options = run.settings.ingest
    source = _source(run, _CATALOG, options.catalog.query)
    found = _delivered(run, source)
    delivered = [run.run_date] if found.any_day else found.days
    if not delivered:
        waiting = f", and {found.not_ready[-1]} is not complete" if found.not_ready else ""
        raise RawError(f"{run.workspace.path('raw_catalog')}: no catalogue on or before {run.run_date}{waiting}; deliver one")
    newest = max(delivered)
    _check_age(run, source, newest)
    taken = _taken(run, _CATALOG)
    days = sorted({newest, *(day for day in delivered if day not in taken)})
    raw = read_days(run.spark, source, days, table_spec("raw_catalog"))
    judged = catalog.judge_catalog(raw.frame, max_text_length=options.max_text_length)
    with _judged(source, judged, catalog.verdicts_among, _CATALOG) as rows:
        tally = tally_of(rows)
        _report(run, raw, tally, _CATALOG)
        _quarantine(run, rows, days, _CATALOG)
        unfit = _unfit(run, rows, tally, days, _CATALOG, must=newest, taken=taken)
        # An empty catalogue came to nothing; it does not say that everything was withdrawn.
        unfit |= {day: "no item in it" for day in days if not tally.by_day[day][""]}
        run.warnings += [f"the catalogue of {day} was not taken in and will be tried again: {why}" for day, why in sorted(unfit.items())]
        new = [day for day in days if day not in unfit]
        snapshots = catalog.valid_items(rows).where(f.col("arrival_date").isin(*new))
        run.write("items", snapshots.where(f.col("arrival_date") == f.lit(newest)).drop("arrival_date"))
        _write_versions(run, snapshots, new, taken)
        _note_arrivals(run, tally, new, _CATALOG)


def _check_age(run: StepRun, source: Source, newest: date) -> None:
    options, age = run.settings.ingest, (run.run_date - newest).days
    run.figures["catalog_age_days"] = age
    words = f"{named(source, newest)}: the newest catalogue is {age} days older than {run.run_date}"
    if age > options.max_catalog_age_days:
        raise RawError(f"{words}, more than ingest.max_catalog_age_days {options.max_catalog_age_days}; deliver one")
    if age > options.catalog_warning_days:
        run.warnings.append(f"{words}; after {options.max_catalog_age_days} the run stops")


def _write_versions(run: StepRun, snapshots: DataFrame, new: Sequence[date], known: Collection[date]) -> None:
    """Write what each new catalogue changed against the one before it, and what the one after it changed against the new one."""
    so_far = run.so_far("item_versions")
    anew, places = touched_days(new, known)
    states = snapshots.select("item_id", *DESCRIPTION, "arrival_date")
    for day in sorted(places.keys() - set(new)):
        states = states.unionByName(listed_on(so_far, day))
    run.write("item_versions", item_versions(states, anew=anew, places=places), days=anew)


def _source(run: StepRun, contract: _Contract, query: str, time: str = "iso") -> Source:
    if query:
        return Query(f"ingest.{contract.name}.query", query)
    return Folder(run.workspace.path(f"raw_{contract.name}"), run.settings.ingest.ready_marker, time)


def _delivered(run: StepRun, source: Source) -> Delivered:
    """Return the days that a source holds up to the run date, with warnings of what is there and cannot be taken."""
    found = delivered_days(run.spark, source, up_to=run.run_date)
    if found.not_ready:
        marker = run.settings.ingest.ready_marker
        run.warnings.append(f"{len(found.not_ready)} days are not complete, {marker} is not in them: {listed(found.not_ready)}")
    if found.others:
        run.warnings.append(f"names that are no day were left out: {', '.join(found.others[:5])}")
    return found


def _key(run: StepRun) -> bytes:
    key = load_key(run.settings.ingest.user_key_file)
    if is_demo_key(key):
        run.warnings.append("pseudonyms are made with the demo's key, which everybody knows: set ingest.user_key_file for real users")
    return key


def _taken(run: StepRun, contract: _Contract, fingerprint: str | None = None) -> dict[date, int]:
    """Return the days that the lake holds with their valid rows; raise KeyMissingError where they were taken in with another key."""
    held = run.so_far("arrivals").where(f.col("source") == contract.name)
    rows = held.select("arrival_date", "valid_count", "key_fingerprint").collect()
    strange = [row["arrival_date"] for row in rows if row["key_fingerprint"] != fingerprint]
    if strange:
        raise KeyMissingError(
            f"interactions: what arrived on {min(strange)} has pseudonyms of another key, with this one every shopper would be somebody "
            "else; set ingest.user_key_file to the key of those days, or begin with an empty lake"
        )
    return {row["arrival_date"]: row["valid_count"] for row in rows}


@contextmanager
def _judged(
    source: Source, judged: DataFrame, verdicts_among: Callable[[DataFrame], DataFrame], contract: _Contract
) -> Iterator[DataFrame]:
    """Yield the rows with all verdicts. Files are read and rows compared once, whatever looks at them afterwards."""
    judged = judged.persist()
    compared = verdicts_among(judged).persist()
    try:
        with readable(judged.sparkSession, source):
            # From here on Spark knows how few rows these are, and sends them to the others instead of shuffling all.
            compared.count()
        yield with_verdicts(judged, compared, reasons=contract.reasons, columns=contract.columns)
    finally:
        compared.unpersist()
        judged.unpersist()


def _report(run: StepRun, raw: RawRows, tally: Tally, contract: _Contract) -> None:
    """Put the figures and warnings into the run; raise RawError where rows were lost or doubled on the way."""
    verdicts = tally.verdicts
    # A count of its own: it only splits the files into rows, and it would see what the verdicts lost.
    rows_in = raw.frame.count()
    rejected = {reason: verdicts[reason] for reason in contract.reasons if verdicts[reason]}
    run.figures |= {"rows_in": rows_in, "quarantined": sum(rejected.values())}
    others = {name: count for name, count in verdicts.items() if name and name not in rejected}
    run.figures |= {f"{name}_count": verdicts[name] for name in contract.copies}
    run.figures |= {f"{name}_count": count for name, count in sorted({**others, **tally.marks}.items()) if count}
    run.warnings += [f"quarantine: {reason} {count:,}" for reason, count in rejected.items()]
    unknown = sorted({*raw.unknown_columns, *tally.unknown_fields})
    if unknown:
        run.warnings.append(f"columns that the contract does not know were left out: {', '.join(unknown[:20])}")
    seen = {shown(as_path(path)) for _, path in tally.by_file}
    if raw.files and (late := sorted(seen - set(raw.files))):
        raise RawError(f"{', '.join(late[:5])}: arrived while the run was reading its folder; run it again")
    empty = [path for path in raw.files if path not in seen]
    if empty:
        run.warnings.append(f"{len(empty)} files without a row: {', '.join(empty[:5])}")
    if verdicts.total() != rows_in:
        raise RawError(f"{rows_in:,} rows were read but {verdicts.total():,} judged; files changed during the run, run it again")


def _unfit(
    run: StepRun,
    judged: DataFrame,
    tally: Tally,
    days: Sequence[date],
    contract: _Contract,
    *,
    must: date,
    taken: Mapping[date, int],
    strange: Mapping[date, int] | None = None,
) -> dict[date, str]:
    """Return those of `days` that are not fit to be taken in, with the reason of each; their rejected rows are in quarantine already.

    Args:
        must: the day without which there is no run; the gate of its table looks at how many rows it has.
        taken: valid rows of the days that were taken in before.
        strange: clicks and purchases of items that no catalogue has held, by day; they count against the day like rejected rows.

    Raises:
        RawError: `must` is one of them.
    """
    unfit = {day: why for day, why in _broken_files(judged, tally, contract).items() if day in days}
    for day in days:
        counts = tally.by_day[day]
        before = [taken[one] for one in sorted(taken) if one < day]
        if day != must and (few := _too_few(counts[""], before, run.settings.quality)):
            unfit.setdefault(day, few)
        faults = {reason: counts[reason] for reason in contract.reasons if counts[reason]}
        if unknown := (strange or {}).get(day, 0):
            faults["unknown_item"] = unknown
        judged_count, limit = counts.total() - counts[interactions.ANONYMOUS], run.settings.ingest.max_quarantine_rate
        share = sum(faults.values()) / max(judged_count, 1)
        if share > limit:
            told = ", ".join(f"{reason} {count:,}" for reason, count in faults.items())
            fields = (
                f". Fields that the contract does not know: {', '.join(sorted(tally.unknown_fields)[:20])}" if tally.unknown_fields else ""
            )
            unfit.setdefault(
                day,
                f"{share:.1%} of {judged_count:,} rows rejected, more than ingest.max_quarantine_rate {limit:.1%}: {told}{fields}. The "
                "table quarantine holds the rejected rows and their files",
            )
    if not tally.by_day[must][""]:
        unfit.setdefault(must, "empty day, no valid row in it; deliver it and run again")
    if must in unfit:
        raise RawError(f"{contract.name} of {must}: {unfit[must]}. Nothing was published, the tables are as they were")
    return unfit


def _too_few(count: int, before: Sequence[int], limits: Quality) -> str:
    """Return why a day's valid rows are too few beside those of the days before it, "" where they are not."""
    usual = round(median(before[-limits.good_days :])) if before else 0
    if count >= limits.min_rows_rate * usual:
        return ""
    shown = f"{count:,} valid rows, fewer than {limits.min_rows_rate:.0%} of the median good day's {usual:,}"
    return f"{shown}; deliver the rest, or take it as it is with --set quality.min_rows_rate=0"


def _broken_files(judged: DataFrame, tally: Tally, contract: _Contract) -> dict[date, str]:
    """Return the days with files in which no row is in the contract, with what the rows of each file have alike."""
    spec = table_spec(f"raw_{contract.name}")
    broken = {
        (day, path): counts.total()
        for (day, path), counts in tally.by_file.items()
        if counts.keys() <= set(_FILE_REASONS) and counts.total() >= _FEWEST_ROWS
    }
    found: defaultdict[date, list[str]] = defaultdict(list)
    for day, path in sorted(broken)[:_MOST_FILES]:
        sample = judged.where((f.col("file") == path) & f.col("raw").isNotNull()).select("raw").limit(_FEWEST_ROWS).collect()
        if faults := common_faults([row["raw"] for row in sample], spec):
            found[day].append(f"{path}: {', '.join(faults)} (all {broken[day, path]:,} rows)")
    return {day: f"{'; '.join(files)}. The columns are declared in schemas/{spec.table}.yaml" for day, files in found.items()}


def _quarantine(run: StepRun, judged: DataFrame, days: Sequence[date], contract: _Contract) -> None:
    rejected = judged.where(f.col("reason").isin(*contract.reasons))
    rows = rejected.select("arrival_date", f.lit(contract.name).alias("source"), "reason", "raw", "file")
    run.write("quarantine", rows, days=days, scope={"source": contract.name})


def _note_arrivals(run: StepRun, tally: Tally, days: Collection[date], contract: _Contract, fingerprint: str | None = None) -> None:
    """Write that the days were taken in. It is the last of a run's writes: what is cut short before is taken in again."""
    rows = []
    for day in days:
        counts = tally.by_day[day]
        rejected = sum(counts[reason] for reason in contract.reasons)
        copies = sum(counts[name] for name in contract.copies)
        rows.append((day, contract.name, counts.total(), counts[""], rejected, copies, fingerprint))
    frame = run.spark.createDataFrame(rows, table_spec("arrivals").struct)
    run.note("arrivals", frame, days=sorted(days), scope={"source": contract.name})


STEPS: tuple[Step, ...] = (
    Step(
        "ingest_catalog",
        reads=("raw/catalog",),
        writes=("items", "item_versions", "quarantine", "arrivals"),
        run=ingest_catalog,
        about="Check the raw catalogues that the lake lacks, and publish the newest as the items of the run date.",
    ),
    Step(
        "ingest_interactions",
        reads=("raw/interactions", "item_versions"),
        writes=("interactions", "quarantine", "arrivals"),
        run=ingest_interactions,
        about="Check the raw interaction logs that the lake lacks, and publish every valid event under the day on which it arrived.",
    ),
)
