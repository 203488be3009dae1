"""A shop's tables, models, indexes and reports, by name, as they are seen on one date."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.errors import UserError
from fashionrec.lake import tables
from fashionrec.lake.migrate import require_current
from fashionrec.lake.session import spark_session
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.models import ModelRegistry
from fashionrec.settings import Settings
from fashionrec.sources.synthetic import is_synthetic


@dataclass(frozen=True)
class Workspace:
    """What is read and written by name: no step and no command makes a path of its own."""

    settings: Settings
    run_date: date
    spark: SparkSession

    @cached_property
    def models(self) -> ModelRegistry:
        return open_models(self.settings)

    @property
    def synthetic(self) -> bool:
        """Whether the raw input was made up: whatever shows results of it says so."""
        return is_synthetic(Path(self.path("raw_interactions")))

    def path(self, name: str, *parts: str) -> str:
        """Return a path of the settings (`lake`, `models`, ...) joined with `parts`."""
        return self.settings.paths.locate(name, *parts)

    def day_folder(self, name: str) -> Path:
        """Return the folder of the date below a path of the settings, created."""
        folder = Path(self.path(name, str(self.run_date)))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def item_indexes(self) -> Path:
        """The folder of the date's indexes of items, one below it per category."""
        return Path(self.path("indexes", str(self.run_date)))

    @property
    def query_indexes(self) -> Path:
        """The folder of the date's indexes of remembered queries, one below it per category."""
        return Path(self.path("indexes", "queries", str(self.run_date)))

    def holds(self, table: str) -> bool:
        """Return whether a table is there; raise LakeError where it was made from another specification than that of now."""
        path = self.path("lake", table)
        there = tables.table_exists(self.spark, path)
        if there:
            require_current(self.spark, path, table_spec(table))
        return there

    def read(self, table: str) -> DataFrame:
        """Return a table as a run of the date may see it (see `lake.tables.read_table`)."""
        self.holds(table)
        frame, _ = tables.read_table(self.spark, self.path("lake", table), table_spec(table), self.run_date)
        return frame


def open_models(settings: Settings) -> ModelRegistry:
    """Return the registry of a shop's models; it needs no Spark."""
    return ModelRegistry(settings.paths.locate("models"), settings.mlflow.tracking_uri)


def open_workspace(settings: Settings, run_date: date) -> Workspace:
    """Return the workspace of a date; Spark is started if need be."""
    return Workspace(settings, run_date, spark_session(settings, "fashionrec"))


def open_newest(settings: Settings, table: str) -> Workspace:
    """Return the workspace of the newest date that a daily table holds.

    Raises:
        UserError: there is no such table, or nothing in it.
    """
    spark, path = spark_session(settings, "fashionrec"), settings.paths.locate("lake", table)
    newest = None
    if tables.table_exists(spark, path):
        newest = spark.read.format("delta").load(path).agg(f.max("run_date")).collect()[0][0]
    if newest is None:
        raise UserError(f"{table}: nothing at {path} yet; run the steps first (fashionrec run --run-date YYYY-MM-DD, or fashionrec demo)")
    return Workspace(settings, newest, spark)
