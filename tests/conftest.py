"""What all tests share: one Spark session, and runs in a folder of their own."""

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from pyspark.sql import DataFrame, SparkSession

from fashionrec.lake.session import spark_session
from fashionrec.lake.spec import TableSpec
from fashionrec.pipeline import step
from fashionrec.pipeline.step import StepRun
from fashionrec.quality.outcome import Outcome
from fashionrec.settings import load_settings
from tests.builders import ROOT, RUN_DATE, run_of, workspace_in

# What makes a whole run small: settings for a world of 20 days.
TINY = ("llm.learning_rate=0.001", "llm.max_steps=4", "embeddings.core.epochs=2", "embeddings.title.epochs=1")

# pytest-xdist's workers have a main module without a file, which pyspark.sql.connect takes for a doctest run and leaves by sys.exit(0).
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = __file__

# Spark gives Python workers one OpenMP thread per task CPU; the driver's libraries should not take more than that either.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# No test may fail by timing: machines are shared and slow at times.
hypothesis_settings.register_profile("tests", deadline=None)
hypothesis_settings.load_profile("tests")


# Files that take minutes begin first, or one worker would wait for the other's last one.
_FOLDERS = ("pipeline", "models", "dags", "faults", "spark", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _FOLDERS.index(item.path.relative_to(ROOT / "tests").parts[0]))


# Compiling a plan for a handful of rows costs a third of all CPU time. The demo, submitted jobs and killed runs have compiled plans.
_INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}


@contextmanager
def compiled_plans(session: SparkSession) -> Iterator[None]:
    """Let a session compile plans while the block runs, as it does outside of the tests."""
    for key in _INTERPRETED:
        session.conf.unset(key)
    try:
        yield
    finally:
        for key, value in _INTERPRETED.items():
            session.conf.set(key, value)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = spark_session(load_settings(ROOT / "conf/test.yaml"), "fashionrec tests")
    for key, value in _INTERPRETED.items():
        session.conf.set(key, value)
    yield session
    session.stop()


@pytest.fixture(scope="module", autouse=True)
def no_leftovers() -> Iterator[None]:
    """Forget what a module's tests cached: Delta keeps the plans of every table for an hour, and each test has tables of its own."""
    yield
    gc.collect()
    if session := SparkSession.getActiveSession():
        session.catalog.clearCache()
        session._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


@pytest.fixture(scope="module")
def ungated() -> Iterator[None]:
    """Let a module's tests write tables without their gate, which has tests of its own and takes a fourth of a small run."""

    def nothing_to_say(rows: DataFrame, spec: TableSpec, *, run_date: date, scope: Mapping[str, str], **_: object) -> Outcome:
        return Outcome(spec.table, scope, run_date, rows.count(), [], {}, {}, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "check_rows", nothing_to_say)
        yield


@pytest.fixture
def make_run(spark: SparkSession, tmp_path: Path) -> Callable[..., StepRun]:
    """Return a function that makes the run of a step in the test's folder: make_run("a.b=c", run_date=...)."""

    def make(*overrides: str, run_date: date = RUN_DATE) -> StepRun:
        return run_of(workspace_in(tmp_path, spark, *overrides, run_date=run_date))

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real data sets, or skip: their licences keep them out of the repository."""
    folder = Path(os.environ.get("FASHIONREC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are not at {folder} (set FASHIONREC_DATA)")
    return folder
