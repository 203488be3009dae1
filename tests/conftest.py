"""What all tests share: one Spark session, and runs in a folder of their own."""

import os
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from fashionrec.lake.session import spark_session
from fashionrec.pipeline.runner import new_run
from fashionrec.pipeline.step import Run
from fashionrec.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
RUN_DATE = date(2026, 3, 1)
# What makes a whole run small: settings for a world of 20 days.
TINY = ("ingest.lookback_days=20", "llm.learning_rate=0.001", "llm.max_steps=4", "embeddings.core.epochs=2", "embeddings.title.epochs=1")

# pytest-xdist's workers have a main module without a file, which pyspark.sql.connect takes for a doctest run and leaves by sys.exit(0).
if not hasattr(sys.modules["__main__"], "__file__"):
    sys.modules["__main__"].__file__ = __file__

# Spark gives Python workers one OpenMP thread per task CPU; the driver's libraries should not take more than that either.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = spark_session(load_settings(ROOT / "conf/test.yaml"), "fashionrec tests")
    yield session
    session.stop()


@pytest.fixture
def make_run(spark: SparkSession, tmp_path: Path) -> Callable[..., Run]:
    """Return a function that makes a run whose every path is below the test's folder: make_run("a.b=c", run_date=...)."""

    def make(*overrides: str, run_date: date = RUN_DATE) -> Run:
        settings = load_settings(ROOT / "conf/test.yaml", [f"paths.root={tmp_path}", *overrides])
        run = new_run(settings, run_date)
        run.__dict__["spark"] = spark
        return run

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of the real data sets, or skip: their licences keep them out of the repository."""
    folder = Path(os.environ.get("FASHIONREC_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are not at {folder} (set FASHIONREC_DATA)")
    return folder
