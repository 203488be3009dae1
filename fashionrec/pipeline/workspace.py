"""A shop's tables, models, indexes and reports, by name, as they are seen on one date."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.errors import UserError
from fashionrec.index_folders import find_build
from fashionrec.lake import storage, tables
from fashionrec.lake.migrate import require_current
from fashionrec.lake.session import spark_session
from fashionrec.lake.spec import table_spec
from fashionrec.memory.query_index import QueryIndexError
from fashionrec.pipeline.models import ModelRegistry
from fashionrec.settings import Settings
from fashionrec.sources.synthetic import synthetic_mark


@dataclass(frozen=True)
class Workspace:
    """What is read and written by name: no step and no command makes a path of its own."""

    settings: Settings
    run_date: date
    spark: SparkSession
    # Tables that are there and as they are specified; nobody changes that during a run.
    _current: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @cached_property
    def models(self) -> ModelRegistry:
        return ModelRegistry(self.settings.paths.locate("models"), self.settings.mlflow.tracking_uri, self.session)

    def session(self) -> SparkSession:
        """Return the session, as `lake.storage` asks for it."""
        return self.spark

    @property
    def synthetic(self) -> bool:
        """Whether the raw input was made up: whatever shows results of it says so."""
        return storage.exists(self.session, synthetic_mark(self.path("raw_interactions")))

    def path(self, name: str, *parts: str) -> str:
        """Return a path of the settings (`lake`, `models`, ...) joined with `parts`."""
        return self.settings.paths.locate(name, *parts)

    def table(self, name: str) -> str:
        """Return how Spark addresses a table: its path, or its name in a catalogue."""
        return self.settings.table(name)

    @contextmanager
    def reports(self) -> Iterator[Path]:
        """Give the folder of the date's reports, or a copy of it whose changes are put where the reports lie."""
        with storage.working_copy(self.session, self.path("reports", str(self.run_date))) as folder:
            yield folder

    def item_pointer(self, spaces: str) -> str:
        """Return the pointer to the date's indexes of items in two spaces, one folder per category (see `index_folders`)."""
        return self.path("indexes", str(self.run_date), f"{spaces}.json")

    @property
    def query_pointer(self) -> str:
        """The pointer to the date's indexes of remembered queries, one folder per category."""
        return self.path("indexes", "queries", str(self.run_date), "newest.json")

    @property
    def query_indexes(self) -> Path:
        """The folder with the date's newest indexes of remembered queries.

        Raises:
            QueryIndexError: none were built.
        """
        build = find_build(self.session, self.query_pointer)
        if build is None:
            raise QueryIndexError(f"query indexes: none under {self.query_pointer.rpartition('/')[0]}; run the step index_queries first")
        return storage.fetch(self.session, build.place)

    def holds(self, table: str) -> bool:
        """Return whether a table is there; raise LakeError where it was made from another specification than that of now."""
        path = self.table(table)
        if table not in self._current and tables.table_exists(self.spark, path):
            require_current(self.spark, path, table_spec(table))
            self._current.add(table)
        return table in self._current

    def read(self, table: str) -> DataFrame:
        """Return a table as a run of the date may see it (see `lake.tables.read_table`)."""
        self.holds(table)
        frame, _ = tables.read_table(self.spark, self.table(table), table_spec(table), self.run_date)
        return frame


def open_models(settings: Settings) -> ModelRegistry:
    """Return the registry of a shop's models; it needs no Spark where their files lie on this machine."""
    return ModelRegistry(settings.paths.locate("models"), settings.mlflow.tracking_uri, partial(open_session, settings))


def open_session(settings: Settings) -> SparkSession:
    """Return the session, started if need be; raise UserError where it does not reach the places of the settings."""
    spark = spark_session(settings, "fashionrec")
    names = [name for name in type(settings.paths).model_fields if name != "root"]
    storage.require_reachable(spark, {f"paths.{name}": settings.paths.locate(name) for name in names})
    return spark


def open_workspace(settings: Settings, run_date: date) -> Workspace:
    """Return the workspace of a date; Spark is started if need be."""
    return Workspace(settings, run_date, open_session(settings))


def open_newest(settings: Settings, table: str) -> Workspace:
    """Return the workspace of the newest date that a daily table holds.

    Raises:
        UserError: there is no such table, or nothing in it.
    """
    spark, path = open_session(settings), settings.table(table)
    newest = None
    if tables.table_exists(spark, path):
        newest = tables.load_table(spark, path).agg(f.max("run_date")).collect()[0][0]
    if newest is None:
        raise UserError(f"{table}: nothing at {path} yet; run the steps first (fashionrec run --run-date YYYY-MM-DD, or fashionrec demo)")
    return Workspace(settings, newest, spark)
