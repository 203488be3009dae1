"""What a step is, and the run of one: the only way in which it reads and writes."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.index_folders import make_build
from fashionrec.lake import tables
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline import releases
from fashionrec.pipeline.models import ModelError, ModelRegistry, ModelVersion
from fashionrec.pipeline.releases import Release
from fashionrec.pipeline.workspace import Workspace
from fashionrec.quality import check_rows, require_passed
from fashionrec.reports.quality import write_quality
from fashionrec.settings import Settings

Built = TypeVar("Built")


@dataclass(frozen=True)
class Step:
    """One arrow of the flow: a job, a task of the DAG. `reads` and `writes` name tables, raw/..., model/..., release and indexes."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run: Callable[["StepRun"], None]
    about: str


@dataclass
class StepRun:
    """The run of one step: what it read, wrote, counted and warned of, from which the manifest and each commit's metadata are made.

    `lineage` names the run that the step is part of: run_id, code_version, settings_hash.
    """

    step: Step
    workspace: Workspace
    lineage: Mapping[str, str]
    versions_read: dict[str, int] = field(default_factory=dict)
    rows_read: dict[str, int] = field(default_factory=dict)
    rows_written: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return self.workspace.settings

    @property
    def run_date(self) -> date:
        return self.workspace.run_date

    @property
    def spark(self) -> SparkSession:
        return self.workspace.spark

    @property
    def run_id(self) -> str:
        return self.lineage["run_id"]

    def staging(self, name: str) -> str:
        """Return a path for files of this run that nobody else reads; it is removed when the run ends."""
        return self.workspace.path("lake", "_staging", self.run_id, name)

    def read(self, table: str) -> DataFrame:
        """Return a table as this run may see it (see `lake.tables.read_table`), pinned to the version that the manifest names."""
        self._declared(table, "reads")
        path = self.workspace.table(table)
        if table not in self.versions_read and self.workspace.holds(table):
            self.versions_read[table] = tables.table_version(self.spark, path)
        version = self.versions_read.get(table)
        if table in self.rows_read:  # counted before
            return tables.rows_as_of(self.spark, path, table_spec(table), self.run_date, version)
        frame, self.rows_read[table] = tables.read_table(self.spark, path, table_spec(table), self.run_date, version)
        return frame

    def snapshots(self, table: str, *, days: int) -> DataFrame:
        """Return the rows of a daily table of the run date and the `days` before it, pinned like those of `read`."""
        self.read(table)
        first = self.run_date - timedelta(days=days)
        rows = tables.load_table(self.spark, self.workspace.table(table), self.versions_read[table])
        return rows.where(f.col("run_date").between(first, self.run_date))

    def so_far(self, table: str) -> DataFrame:
        """Return all rows of a table that this step itself adds to, of all days; none where it does not exist yet."""
        self._declared(table, "writes")
        if not self.workspace.holds(table):
            return self.spark.createDataFrame([], table_spec(table).struct)
        return tables.load_table(self.spark, self.workspace.table(table))

    def write(self, table: str, frame: DataFrame, *, days: Sequence[date] = (), scope: Mapping[str, str] | None = None) -> int:
        """Stage the rows, pass the gate, then replace the run's day (or `days`) in one commit. Return the number of rows.

        A day whose rows are those that the table holds already is not touched: running twice changes nothing. `frame` needs no `run_date`
        column: it is added to daily tables.

        Raises:
            GateError: a critical expectation is not met: too few rows, a null, a key twice, a value out of its vocabulary; see `quality`.
        """
        self._declared(table, "writes")
        spec = table_spec(table)
        if spec.kind == "daily":
            frame = frame.withColumn("run_date", f.lit(self.run_date))
        tables.check_schema(frame.schema, spec)
        self.workspace.holds(table)  # or is outdated: found out before the step's work, which is done when its rows are staged
        staging = self.staging(table)
        frame.select(*(column.name for column in spec.columns)).write.mode("overwrite").parquet(staging)
        # The lake may lie in a folder with letters that would be a pattern.
        staged = self.spark.read.option("__globPaths__", False).schema(spec.struct).parquet(staging)
        path, replaced = self.workspace.table(table), days or [self.run_date]
        published = tables.published_days(self.spark, path, spec, replaced, scope or {})
        new = tables.digests(staged, spec)
        if spec.may_be_empty and not new and not published and published is not None:
            # Nothing came and nothing was there: no gate has anything to look at.
            self.rows_written[table] = self.rows_written.get(table, 0)
            return 0
        outcome = check_rows(
            staged,
            spec,
            path=path,
            run_date=self.run_date,
            scope=scope or {},
            published={day: digest.row_count for day, digest in (published or {}).items()},
            limits=self.settings.quality,
        )
        with self.workspace.reports() as folder:
            page = write_quality(folder, outcome, synthetic=self.workspace.synthetic).name
        require_passed(outcome, self.workspace.path("reports", str(self.run_date), page))
        self.warnings.extend(outcome.warnings)
        if changed := tables.changed_days(new, published, spec, replaced):
            rows = staged.where(f.col(spec.day_column).isin(*changed))
            tables.replace_days(rows, path, spec, changed, scope or {}, self._commit(scope, profile=outcome.lineage))
        self.rows_written[table] = self.rows_written.get(table, 0) + outcome.row_count
        return outcome.row_count

    def note(self, table: str, frame: DataFrame, *, days: Sequence[date], scope: Mapping[str, str]) -> None:
        """Write rows of the run's own bookkeeping, a handful that the driver made: as `write` does, but staged and gated by nobody."""
        self._declared(table, "writes")
        self.workspace.holds(table)
        spec, path = table_spec(table), self.workspace.table(table)
        published = tables.published_days(self.spark, path, spec, days, scope)
        if changed := tables.changed_days(tables.digests(frame, spec), published, spec, days):
            rows = frame.where(f.col(spec.day_column).isin(*changed))
            tables.replace_days(rows, path, spec, changed, scope, self._commit(scope))

    def _commit(self, scope: Mapping[str, str] | None, **more: object) -> dict[str, object]:
        return {**self.lineage, "step": self.step.name, "read": self.versions_read, "scope": scope or {}, **more}

    def make_build(self, pointer: str, write: Callable[[Path, str | None], Built], *, made_from: Mapping[str, Any]) -> tuple[str, Built]:
        """Make a build of indexes and return its place and what `write` returned (see `index_folders.make_build`)."""
        staging = self.staging(f"build-{secrets.token_hex(4)}")
        return make_build(self.workspace.session, pointer, write, made_from=made_from, run_id=self.run_id, staging=staging)

    def release(self) -> Release:
        """Return the release that serves.

        One that learnt from later days than the run's may know what was bought then. Where the settings allow it all the same, a warning
        and the release's label, which stands in every row that is made with it, say so.

        Raises:
            ModelError: none serves yet, files of a part changed since, or it was trained for a later date than the run's.
        """
        # Who decides which one serves reads what it writes.
        self._declared("release", "writes" if "release" in self.step.writes else "reads")
        return self._seen(releases.serving)

    def candidate(self) -> Release:
        """Return the newest release, which may be the one that serves; as `release` does."""
        self._declared("model/release", "reads")
        return self._seen(releases.candidate)

    def newest(self, name: str) -> ModelVersion:
        """Return the newest version of a model, to make a release of; raise ModelError where none was trained or its files changed."""
        self._declared(f"model/{name}", "reads")
        return self.workspace.models.challenger(name)

    def _seen(self, find: Callable[[ModelRegistry], Release]) -> Release:
        found = find(self.workspace.models)
        return replace(found, newer=self._is_newer(found))

    def _is_newer(self, trained: ModelVersion | Release) -> bool:
        """Return whether it was trained for a later date than the run's, and warn; raise ModelError unless the settings allow it."""
        if trained.trained_for <= self.run_date:
            return False
        later = f"{trained.label} was trained for {trained.trained_for}, later than this run's {self.run_date}"
        if not self.settings.release.allow_newer:
            raise ModelError(f"{later}, so it may know what was bought since; --set release.allow_newer=true uses it all the same")
        self.warnings.append(f"{later}: release.allow_newer is set")
        return True

    def _declared(self, name: str, side: str) -> None:
        if name not in getattr(self.step, side):
            raise tables.LakeError(f"step {self.step.name} uses {name} without declaring it in its {side}")
