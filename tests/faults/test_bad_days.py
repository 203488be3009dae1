"""On a bad day the command says in one line what happened and what to do, and no table is half written."""

import os
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pytest

from fashionrec.sources.world.shop import make_world
from tests.conftest import ROOT, RUN_DATE

INGEST = "ingest_catalog,ingest_interactions"
COMMAND = str(ROOT / ".venv" / "bin" / "fashionrec")


def arguments(root: Path, *extra: str, steps: str = "ingest_interactions") -> list[str]:
    fixed = ["run", "--run-date", str(RUN_DATE), "--conf", str(ROOT / "conf/test.yaml"), "--set", f"paths.root={root}", "--steps", steps]
    return [COMMAND, *fixed, *extra]


def fails(root: Path, *extra: str, steps: str = "ingest_interactions", **environment: str) -> str:
    """Return the one line of the error; fail where there is none or a traceback instead."""
    ran = subprocess.run(
        arguments(root, *extra, steps=steps), capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert ran.returncode == 1, ran.stdout
    assert "Traceback" not in ran.stderr
    return next(line for line in ran.stderr.splitlines() if line.startswith("error: "))


def succeeds(root: Path) -> None:
    ran = subprocess.run(arguments(root, steps=INGEST), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]


def world(root: Path, users: int) -> None:
    make_world(root / "raw/interactions", root / "raw/catalog", end_date=RUN_DATE, days=5, user_count=users, items_per_category=30, seed=7)


def test_an_unknown_setting_is_named(tmp_path):
    assert "memory.half_live_days: unknown key" in fails(tmp_path, "--set", "memory.half_live_days=3")


def test_an_unknown_step_is_named(tmp_path):
    assert "no step 'bake'" in fails(tmp_path, steps="bake")


def test_a_missing_java_is_named_with_what_to_install(tmp_path):
    line = fails(tmp_path, JAVA_HOME="/nowhere")
    assert "no Java at /nowhere/bin/java" in line
    assert "install Java 17" in line


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "raw/interactions") in fails(tmp_path)


def test_a_run_date_without_its_tables_names_the_step_to_run(tmp_path):
    line = fails(tmp_path, steps="build_sequences")
    assert "interactions: no such table" in line
    assert f"fashionrec run --run-date {RUN_DATE}" in line


def test_a_model_that_was_never_trained_is_named(tmp_path):
    assert "model llm: none is registered" in fails(tmp_path, steps="generate")


@pytest.fixture
def day(spark, tmp_path):
    """Return a function that reads the IDs of the run date's events, sorted."""

    def read() -> list[str]:
        frame = spark.read.format("delta").load(str(tmp_path / "lake/interactions"))
        return sorted(row.event_id for row in frame.where(f"event_date = '{RUN_DATE}'").collect())

    return read


def test_a_run_killed_while_it_writes_leaves_the_day_as_it_was_and_a_rerun_gives_the_right_rows(tmp_path, day):
    world(tmp_path, users=40)
    succeeds(tmp_path)
    before = day()
    # More users: the day's rows change, so a half-written day would show.
    world(tmp_path, users=400)
    process = subprocess.Popen(
        arguments(tmp_path, steps=INGEST), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    staging = tmp_path / "lake/_staging"
    while not any(staging.glob("*/interactions")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert day() == before
    succeeds(tmp_path)
    after = day()
    assert len(after) > len(before)
    assert len(after) == len(set(after))
    assert (tmp_path / "raw/interactions" / str(RUN_DATE - timedelta(days=1))).is_dir()
