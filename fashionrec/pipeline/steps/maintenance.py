"""The weekly upkeep of the lake: what has outlived its days goes, and many small files become few."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from fashionrec.lake import storage
from fashionrec.lake.spec import TableSpec, table_specs
from fashionrec.lake.tables import commits_of, delta_table, load_table, sole_writer, sql_name
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.workspace import Workspace

_LAKE = tuple(spec for spec in table_specs() if spec.kind != "raw")
_NAMES = tuple(spec.table for spec in _LAKE)
# Below this many hours Delta refuses to remove files: readers and writers of that long ago may still be at work.
_SAFE_HOURS = 168


class Work(NamedTuple):
    """A piece of the upkeep: what it is counted as, how much of it, a line about it, and what does it and returns how much that was."""

    figure: str
    amount: int
    about: str
    do: Callable[[], int]


def outlived(workspace: Workspace, commit: Mapping[str, object]) -> Iterator[Work]:
    """Yield what has outlived its days, each piece looked for when those before it are done: rows, files, indexes, staging, models."""
    tables = [spec for spec in _LAKE if workspace.holds(spec.table)]
    for spec in tables:
        yield from _rows(workspace, spec, commit)
    for spec in tables:
        yield from _files(workspace, spec, commit)
    yield from _indexes(workspace)
    yield from _staging(workspace)
    yield from _models(workspace)


def fragments(workspace: Workspace, commit: Mapping[str, object]) -> Iterator[Work]:
    """Yield the tables whose partitions of before the run date hold several files; the date's own may be written just now."""
    for spec in _LAKE:
        if not workspace.holds(spec.table):
            continue
        rows = load_table(workspace.spark, workspace.table(spec.table))
        parts = Counter(file.rpartition("/")[0] for file in rows.inputFiles())
        many = {part: count for part, count in parts.items() if count > 1 and _day_of(part, spec) < str(workspace.run_date)}
        if many:
            count = sum(many.values())
            about = f"{spec.table}: {count:,} files in {len(many):,} parts, each to become one or as few as their size allows"
            yield Work("files", count, about, partial(_compact, workspace, spec, commit))


def _day_of(part: str, spec: TableSpec) -> str:
    """Return the day of a partition's folder; nothing of one that is of all days."""
    found = re.search(rf"/{spec.day_column}=(\d{{4}}-\d\d-\d\d)", part)
    return found[1] if found else ""


def _compact(workspace: Workspace, spec: TableSpec, commit: Mapping[str, object]) -> int:
    optimise = delta_table(workspace.spark, workspace.table(spec.table)).optimize()
    if spec.day_column in spec.partitioned_by:
        optimise = optimise.where(f"{spec.day_column} < DATE'{workspace.run_date}'")
    with commits_of(workspace.spark, commit), sole_writer(spec):
        (done,) = optimise.executeCompaction().collect()
    return int(done["metrics"]["numFilesRemoved"])


def _rows(workspace: Workspace, spec: TableSpec, commit: Mapping[str, object]) -> Iterator[Work]:
    if spec.retention_days is None:
        return
    table = delta_table(workspace.spark, workspace.table(spec.table))
    first = workspace.run_date - timedelta(days=spec.retention_days)
    old = f.col(spec.day_column) < f.lit(first)
    count: int = table.toDF().where(old).count()

    def delete() -> int:
        with commits_of(workspace.spark, commit), sole_writer(spec):
            table.delete(old)
        return count

    if count:
        yield Work("rows", count, f"{spec.table}: {count:,} rows of before {first} ({spec.retention_days} days are kept)", delete)


def _files(workspace: Workspace, spec: TableSpec, commit: Mapping[str, object]) -> Iterator[Work]:
    hours = workspace.settings.maintenance.vacuum_hours
    vacuum = f"VACUUM {sql_name(workspace.table(spec.table))} RETAIN {hours} HOURS"
    with _vacuuming(workspace.spark, hours, workspace.settings.spark.shuffle_partitions):
        count: int = workspace.spark.sql(f"{vacuum} DRY RUN").count()

    def remove() -> int:
        with _vacuuming(workspace.spark, hours, workspace.settings.spark.shuffle_partitions), commits_of(workspace.spark, commit):
            workspace.spark.sql(vacuum)
        return count

    if count:
        yield Work("files", count, f"{spec.table}: {count:,} files that no version of the last {hours} hours names", remove)


@contextmanager
def _vacuuming(spark: SparkSession, hours: int, partitions: int) -> Iterator[None]:
    # Delta lists a table's folders in so many tasks: of ten thousand, the default, nearly all are empty.
    options = {"spark.sql.sources.parallelPartitionDiscovery.parallelism": str(partitions)}
    if hours < _SAFE_HOURS:
        options["spark.databricks.delta.retentionDurationCheck.enabled"] = "false"
    for key, value in options.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key in options:
            spark.conf.unset(key)


def _indexes(workspace: Workspace) -> Iterator[Work]:
    days = workspace.settings.maintenance.keep_indexes_days
    first = workspace.run_date - timedelta(days=days)
    for place in (workspace.path("indexes"), workspace.path("indexes", "queries")):
        for name in storage.folders(workspace.session, place):
            if re.fullmatch(r"\d{4}-\d\d-\d\d", name) and date.fromisoformat(name) < first:
                yield _folder(workspace, "indexes", f"{place}/{name}", f"indexes of before {first} ({days} days are kept)")


def _staging(workspace: Workspace) -> Iterator[Work]:
    place = workspace.path("lake", "_staging")
    for name in storage.folders(workspace.session, place):
        if _is_dead(workspace, name):
            yield _folder(workspace, "staging", f"{place}/{name}", "staged rows of a run that was killed")


def _models(workspace: Workspace) -> Iterator[Work]:
    root = workspace.path("models")
    models = storage.folders(workspace.session, root)
    found = [f"{model}/{run}" for model in models for run in storage.folders(workspace.session, f"{root}/{model}")]
    dead = [place for place in found if _is_dead(workspace, place.partition("/")[2])]
    registered = workspace.models.folders() if dead else set()
    if not registered:
        # It may be another registry than that of these models.
        return
    for name in dead:
        if name not in registered:
            yield _folder(workspace, "models", f"{root}/{name}", "a model that was never registered, or no more")


def _is_dead(workspace: Workspace, run_id: str) -> bool:
    """Return whether a run of this ID, which begins with the time when it began, has ended for sure; of other names, no."""
    if not re.match(r"\d{8}T\d{6}-", run_id):
        return False
    began = datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return datetime.now(UTC) - began > timedelta(days=workspace.settings.maintenance.run_lasts_days)


def _folder(workspace: Workspace, figure: str, place: str, about: str) -> Work:
    def remove() -> int:
        storage.remove(workspace.session, place)
        return 1

    return Work(figure, 1, f"{place}: {about}", remove)


def expire_tables(run: StepRun) -> None:
    """Let go what has outlived its days, each counted and named."""
    run.figures |= dict.fromkeys(("rows", "files", "indexes", "staging", "models"), 0)
    hours = run.settings.maintenance.vacuum_hours
    if hours < _SAFE_HOURS:
        run.warnings.append(
            f"maintenance.vacuum_hours is {hours}: a run or reader that began longer ago may miss files (Delta's own limit: 168)"
        )
    _do(run, outlived(run.workspace, _commit(run)))


def optimise_tables(run: StepRun) -> None:
    """Write small files of a table's earlier days together, each table counted and named."""
    run.figures["files"] = 0
    _do(run, fragments(run.workspace, _commit(run)))


def _commit(run: StepRun) -> dict[str, object]:
    return {**run.lineage, "step": run.step.name}


def _do(run: StepRun, work: Iterator[Work]) -> None:
    for one in work:
        run.figures[one.figure] += one.do()
        run.notes.append(one.about)


STEPS: tuple[Step, ...] = (
    Step(
        "expire_tables",
        reads=(),
        writes=_NAMES,
        run=expire_tables,
        about="Remove rows past their retention, files that no version needs, old indexes, staging of killed runs and unregistered models.",
    ),
    Step("optimise_tables", reads=(), writes=_NAMES, run=optimise_tables, about="Write the small files of earlier days together."),
)
