"""What has outlived its days goes, counted and named, and nothing else; small files become few."""

import json
import secrets
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from fashionrec.commands import tables
from fashionrec.errors import UserError
from tests.builders import RUN_DATE, put, table_rows
from tests.spark.test_tables import items

OLD = "20260101T000000-0123abcd"
NEW = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text("x", encoding="utf-8")
    return path


def shown(run, verb, *, dry_run, run_date=None):
    console = Console(record=True, width=300)
    tables.maintain(run.settings, verb, run_date, console, dry_run=dry_run)
    return console.export_text()


def figures(root):
    """Return what the newest manifest counted."""
    newest = max((root / "manifests").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text(encoding="utf-8"))["steps"][0]["figures"]


@pytest.fixture
def rejected(spark, make_run):
    """Put rejected rows of the run date, of 90 days before it (the last that are kept) and of 200 into the quarantine."""
    days = [RUN_DATE - timedelta(days=age) for age in (0, 90, 200)]
    fields = {"source": "interactions", "reason": "bad_time", "raw": "typed by bob"}
    put(make_run().workspace, "quarantine", table_rows(spark, "quarantine", *({"arrival_date": day} for day in days), **fields), days=days)
    return days


def test_what_has_outlived_its_days_goes_counted_and_a_dry_run_says_it_before(spark, make_run, tmp_path, rejected):
    run = make_run("maintenance.vacuum_hours=0")
    models = run.workspace.models
    registered = models.new_folder("llm", OLD)
    (registered / "weights").write_text("w", encoding="utf-8")
    models.register("llm", registered, {}, {}, {}, trained_for=RUN_DATE)
    going = [
        tmp_path / "indexes/2026-02-14",
        tmp_path / "indexes/queries/2025-12-31",
        tmp_path / "lake/_staging" / OLD,
        tmp_path / "models/llm" / OLD.replace("0123", "4567"),
    ]
    staying = [
        tmp_path / "indexes/2026-02-15",
        tmp_path / "indexes/queries/2026-03-01",
        tmp_path / "lake/_staging" / NEW,
        tmp_path / "models/llm" / NEW,
        tmp_path / "models/llm/_unfinished",
        tmp_path / "models/artifacts/2",
    ]
    for path in (*going, *staying):
        folder(path)
    files = set((tmp_path / "lake/quarantine").rglob("part-*.parquet"))

    said = shown(run, "expire", dry_run=True)
    for line in (*map(str, going), "quarantine: 1 rows of before 2025-12-01 (90 days are kept)"):
        assert line in said
    assert "expire as of 2026-03-01, a dry run: 1 rows, 2 indexes, 1 staging, 1 models" in said
    assert all(path.is_dir() for path in going)

    said = shown(run, "expire", dry_run=False)
    assert figures(tmp_path) == {"rows": 1, "files": 1, "indexes": 2, "staging": 1, "models": 1}
    assert "warning: maintenance.vacuum_hours is 0" in said
    assert not any(path.exists() for path in going)
    assert all(path.is_dir() for path in (*staying, registered))
    kept = spark.read.format("delta").load(str(tmp_path / "lake/quarantine"))
    assert {row.arrival_date for row in kept.collect()} == set(rejected[:2])
    left = set((tmp_path / "lake/quarantine").rglob("part-*.parquet"))
    assert left < files
    assert not any("2025-08" in str(path) for path in left), "the file is gone, too"
    commits = spark.sql(f"DESCRIBE HISTORY delta.`{tmp_path}/lake/quarantine`").where("operation = 'DELETE'").select("userMetadata")
    assert '"step": "expire_tables"' in commits.first().userMetadata


def test_files_stay_for_the_stated_hours_and_models_where_the_registry_knows_none(make_run, tmp_path, rejected):
    folder(tmp_path / "models/llm" / OLD)
    shown(make_run(), "expire", dry_run=False, run_date=date(2027, 1, 1))
    assert figures(tmp_path) == {"rows": 3, "files": 0, "indexes": 0, "staging": 0, "models": 0}
    assert len(list((tmp_path / "lake/quarantine").rglob("part-*.parquet"))) >= 3
    assert (tmp_path / "models/llm" / OLD).is_dir()


def test_small_files_of_earlier_days_become_one_and_those_of_the_run_date_stay(spark, make_run, tmp_path):
    yesterday = RUN_DATE - timedelta(days=1)
    for day in (yesterday, RUN_DATE):
        put(make_run(run_date=day).workspace, "items", items(spark, *"abcdef").repartition(3))
    before = {day: make_run(run_date=day).read("items").collect() for day in (yesterday, RUN_DATE)}
    assert "items: 3 files in 1 parts" in shown(make_run(), "optimise", dry_run=True)
    shown(make_run(), "optimise", dry_run=False)
    assert figures(tmp_path) == {"files": 3}
    used = [str(path) for path in spark.read.format("delta").load(str(tmp_path / "lake/items")).inputFiles()]
    assert {day: sum(f"run_date={day}" in path for path in used) for day in before} == {yesterday: 1, RUN_DATE: 3}
    for day, rows in before.items():
        assert sorted(make_run(run_date=day).read("items").collect()) == sorted(rows)
    assert "a dry run: nothing to do" in shown(make_run(), "optimise", dry_run=True)


def test_an_empty_lake_is_one_line(make_run):
    with pytest.raises(UserError, match="no table holds a day"):
        shown(make_run(), "expire", dry_run=True)
