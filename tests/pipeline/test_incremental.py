"""Days run one by one give the tables of one backfill, and a day run twice changes nothing."""

import gzip
import json
import random
import shutil
from collections import defaultdict
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from fashionrec.lake.tables import table_version
from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.step import StepRun
from fashionrec.sources.world.shop import make_world
from tests.conftest import RUN_DATE

DAYS = [RUN_DATE - timedelta(days=back) for back in range(4, -1, -1)]
# Every other day a catalogue; on the days between, the one of before serves.
CATALOGUES = DAYS[::2]
INGEST = [step_named("ingest_catalog"), step_named("ingest_interactions")]
SEQUENCES = [step_named("build_sequences")]
TABLES = ("interactions", "quarantine", "items", "item_versions", "sequences")


def read_lines(folder: Path) -> list[str]:
    (path,) = folder.iterdir()
    return gzip.decompress(path.read_bytes()).decode().splitlines()


def disturb(root: Path) -> None:
    """Let events of the synthetic world come late, twice or broken, each on several days."""
    rng = random.Random(5)
    lines = {day: read_lines(root / str(day)) for day in DAYS}
    came = {day: [] for day in DAYS}
    days_of = defaultdict(set)

    def come(row: str, happened: date, days_later: int) -> date:
        arrival = min(happened + timedelta(days=days_later), DAYS[-1])
        came[arrival].append(row)
        return arrival

    for day, rows in lines.items():
        for row in rows:
            arrival = come(row, day, rng.choice([0] * 8 + [1, 2, 3]))
            if arrival > day:
                days_of["late"].add(arrival)
            if rng.random() < 0.05:
                days_of["doubled"].add(come(row, day, 1))
            if rng.random() < 0.02:
                days_of["broken"].add(come(row[: len(row) // 2], day, 0))
    for day, rows in came.items():
        path = next((root / str(day)).iterdir())
        path.write_bytes(gzip.compress("\n".join(rows).encode()))
    assert set(days_of) == {"late", "doubled", "broken"}
    assert all(len(days) >= 3 for days in days_of.values()), days_of


def change_catalogue(root: Path) -> None:
    """Let titles change, and items go and come back, from catalogue to catalogue."""
    rows = [json.loads(line) for line in read_lines(max(root.iterdir()))]
    titles = []
    for place, day in enumerate(CATALOGUES):
        kept = [
            row | {"title": row["title"] + " New"} if n % 11 == place else row
            for n, row in enumerate(rows)
            if n % 13 != place or place == len(CATALOGUES) - 1
        ]
        (root / str(day)).mkdir(exist_ok=True)
        for old in (root / str(day)).iterdir():
            old.unlink()
        (root / str(day) / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
        titles.append({row["item_id"]: row["title"] for row in kept})
    for before, after in pairwise(titles):
        assert after.keys() - before.keys(), "no item came"
        assert any(after[item] != before[item] for item in after.keys() & before.keys()), "no title changed"
    assert titles[0].keys() - titles[1].keys(), "no item went"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "one by one"
    make_world(
        root / "raw/interactions", root / "raw/catalog", end_date=RUN_DATE, days=len(DAYS), user_count=20, items_per_category=15, seed=7
    )
    disturb(root / "raw/interactions")
    change_catalogue(root / "raw/catalog")
    return root


def rows(run: StepRun, table: str, day: date) -> list[str]:
    frame = run.spark.read.format("delta").load(run.workspace.path("lake", table))
    frame = frame.where(frame.run_date == day) if "run_date" in frame.columns else frame
    # The same files lie in another folder.
    return sorted(json.dumps(row).replace("one%20by%20one", "at%20once") for row in map(str, frame.collect()))


def test_days_one_by_one_give_the_tables_of_one_backfill_and_a_day_run_twice_changes_nothing(raw, make_run, tmp_path):
    at_once = tmp_path / "at once"
    shutil.copytree(raw, at_once)

    def run_day(root: Path, day: date, *overrides: str, steps=INGEST) -> StepRun:
        # The first catalogues lack items, so their first days reject more than usual.
        run = make_run(f"paths.root={root}", "ingest.max_quarantine_rate=0.2", *overrides, run_date=day)
        run_steps(run.workspace, steps, Console(quiet=True))
        return run

    for day in DAYS[:-1]:
        run_day(raw, day)
    daily = run_day(raw, RUN_DATE, steps=[*INGEST, *SEQUENCES])
    backfill = run_day(at_once, RUN_DATE, f"ingest.lookback_days={len(DAYS) - 1}", steps=[*INGEST, *SEQUENCES])
    kept = {table: rows(daily, table, RUN_DATE) for table in TABLES}
    for table in TABLES:
        assert kept[table] == rows(backfill, table, RUN_DATE), table
        assert kept[table]
    versions = {table: table_version(daily.spark, daily.workspace.path("lake", table)) for table in TABLES}
    run_day(raw, RUN_DATE, steps=[*INGEST, *SEQUENCES])
    assert {table: rows(daily, table, RUN_DATE) for table in TABLES} == kept
    assert {table: table_version(daily.spark, daily.workspace.path("lake", table)) for table in TABLES} == versions
