"""What a step is, and what it sees of the run that it is part of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.ingest.world_words import SYNTHETIC_MARK
from fashionrec.lake import tables
from fashionrec.lake.session import spark_session
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.models import ModelRegistry, ModelVersion
from fashionrec.quality import check_rows
from fashionrec.settings import Settings


@dataclass(frozen=True)
class Step:
    """One arrow of the flow: a job, a task of the DAG. `reads` and `writes` name tables, `raw/...`, `model/...` and `indexes`."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    run: Callable[["Run"], None]
    about: str


@dataclass
class Run:
    """One run of one date: settings, Spark, and the only way in which steps read and write.

    It counts what a step read and wrote; the manifest and each commit's metadata are made from it.
    """

    settings: Settings
    run_date: date
    run_id: str
    commit: Mapping[str, object]
    step: Step | None = None
    versions_read: dict[str, int] = field(default_factory=dict)
    rows_read: dict[str, int] = field(default_factory=dict)
    rows_written: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    @cached_property
    def spark(self) -> SparkSession:
        return spark_session(self.settings, f"fashionrec {self.run_date}")

    @cached_property
    def models(self) -> ModelRegistry:
        return ModelRegistry(self.path("models"), self.settings.mlflow.tracking_uri)

    @cached_property
    def synthetic(self) -> bool:
        """Whether the raw input was made up: whatever shows results of it says so."""
        return Path(self.path("raw_interactions")).parent.joinpath(SYNTHETIC_MARK).exists()

    def path(self, name: str, *parts: str) -> str:
        """Return a path of the settings (`lake`, `models`, ...) joined with `parts`."""
        below = str(getattr(self.settings.paths, name))
        root = below if below.startswith("/") or "://" in below else f"{self.settings.paths.root}/{below}"
        if "://" not in root:
            root = str(Path(root).resolve())
        return "/".join([root, *parts])

    def day_folder(self, name: str) -> Path:
        """Return the folder of the run date below a path of the settings, created."""
        folder = Path(self.path(name, str(self.run_date)))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, table: str, day: date | None = None) -> DataFrame:
        """Return a table as this run may see it (see `lake.tables.read_table`), pinned to the version that the manifest names."""
        self._declared(table, "reads")
        spec = table_spec(table)
        path = self.path("lake", table)
        if table not in self.versions_read and tables.table_exists(self.spark, path):
            self.versions_read[table] = tables.table_version(self.spark, path)
        frame, self.rows_read[table] = tables.read_table(self.spark, path, spec, day or self.run_date, self.versions_read.get(table))
        return frame

    def so_far(self, table: str) -> DataFrame:
        """Return all rows of a table that this step itself adds to; none where it does not exist yet."""
        self._declared(table, "writes")
        path = self.path("lake", table)
        if not tables.table_exists(self.spark, path):
            return self.spark.createDataFrame([], table_spec(table).struct)
        return self.spark.read.format("delta").load(path)

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
        staging = self.path("lake", "_staging", self.run_id, table)
        frame.select(*(column.name for column in spec.columns)).write.mode("overwrite").parquet(staging)
        staged = self.spark.read.schema(spec.struct).parquet(staging)
        path = self.path("lake", table)
        replaced = days or [self.run_date]
        passed = check_rows(
            staged,
            spec,
            path=path,
            run_date=self.run_date,
            days=replaced,
            scope=scope or {},
            limits=self.settings.quality,
            folder=self.day_folder("reports"),
            synthetic=self.synthetic,
        )
        self.warnings += passed.warnings
        lineage = {
            **self.commit,
            "step": self.step.name if self.step else None,
            "read": self.versions_read,
            "scope": scope or {},
            "profile": passed.profile,
        }
        if spec.kind == "history":
            tables.merge_history(staged, path, spec, lineage)
        elif changed := tables.changed_days(staged, path, spec, replaced, scope or {}):
            rows = staged.where(f.col(spec.day_column).isin(*changed))
            tables.replace_days(rows, path, spec, changed, scope or {}, lineage)
        self.rows_written[table] = self.rows_written.get(table, 0) + passed.row_count
        return passed.row_count

    def model(self, name: str) -> ModelVersion:
        """Return the champion of a model; raise ModelError where none was trained yet, or its files changed since."""
        self._declared(f"model/{name}", "reads")
        return self.models.champion(name)

    def _declared(self, name: str, side: str) -> None:
        if self.step and name not in getattr(self.step, side):
            raise tables.LakeError(f"step {self.step.name} uses {name} without declaring it in its {side}")
