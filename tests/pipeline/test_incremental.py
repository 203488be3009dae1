"""Days run in any order give the tables of one backfill, and a day run twice changes nothing."""

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

from fashionrec.ingest.versions import intervals
from fashionrec.lake.tables import table_version
from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.step import StepRun
from fashionrec.sources.world.shop import make_world
from tests.builders import run_of, workspace_in
from tests.conftest import RUN_DATE

pytestmark = pytest.mark.usefixtures("ungated")

DAYS = [RUN_DATE - timedelta(days=back) for back in range(9, -1, -1)]
# Every other day a catalogue; on the days between, the one of before serves.
CATALOGUES = DAYS[::3]
INGEST = ("ingest_catalog", "ingest_interactions")
TABLES = ("interactions", "quarantine", "item_versions", "arrivals")


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


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("delivered") / "raw"
    make_world(root / "interactions", root / "catalog", end_date=RUN_DATE, days=len(DAYS), user_count=12, items_per_category=8, seed=7)
    disturb(root / "interactions")
    change_catalogue(root / "catalog")
    return root


def run_day(spark, root: Path, day: date, *steps: str) -> StepRun:
    # The first catalogues lack items, so their first days name more unknown ones than usual.
    run = run_of(workspace_in(root, spark, "ingest.max_quarantine_rate=0.3", "quality.min_rows_rate=0", run_date=day))
    run_steps(run.workspace, [step_named(name) for name in steps], Console(quiet=True))
    return run


def rows(run: StepRun, table: str) -> list[str]:
    """Return a table's rows of all days; the same files lie in another folder."""
    frame = run.spark.read.format("delta").load(run.workspace.path("lake", table)).drop("file")
    return sorted(map(str, frame.collect()))


def seen(run: StepRun) -> list[str]:
    """Return what a run of its date sees of the events and of the catalogue's history."""
    frames = (run.workspace.read("interactions"), intervals(run.workspace.read("item_versions")))
    return sorted(str(row) for frame in frames for row in frame.collect())


@pytest.fixture(scope="module")
def backfill(spark, raw, tmp_path_factory, ungated) -> StepRun:
    root = tmp_path_factory.mktemp("backfill")
    shutil.copytree(raw, root / "raw")
    return run_day(spark, root, RUN_DATE, *INGEST, "build_sequences")


SHUFFLED = random.Random(3).sample(DAYS, len(DAYS))


@pytest.mark.parametrize("order", [DAYS, [*DAYS[::-1], *SHUFFLED]], ids=["in order", "in reverse, then shuffled"])
def test_ten_days_in_any_order_give_the_tables_and_the_reads_of_one_backfill(spark, raw, backfill, tmp_path, order):
    saw: dict[date, list[str]] = {}
    for place, day in enumerate(order, start=1):
        # What has not been run has not been delivered yet, but for the catalogue that a run cannot do without.
        catalogue = Path("catalog", str(max(other for other in CATALOGUES if other <= day)))
        is_new = not (tmp_path / "raw" / catalogue).exists()
        steps = INGEST if is_new or (day in CATALOGUES and place <= len(DAYS)) else INGEST[1:]
        for folder in (Path("interactions", str(day)), catalogue):
            shutil.copytree(raw / folder, tmp_path / "raw" / folder, dirs_exist_ok=True)
        last = run_day(spark, tmp_path, day, *steps)
        if order == DAYS:
            saw[day] = seen(last)
        # When all days have been run, and when all have been run again.
        if place % len(DAYS) == 0:
            for table in TABLES:
                assert rows(last, table) == rows(backfill, table), table
                assert rows(last, table)
    for day, then in saw.items():
        assert seen(run_of(workspace_in(tmp_path, spark, run_date=day))) == then, day


def test_a_day_run_twice_changes_nothing(spark, backfill):
    def state() -> dict[str, tuple[int, list[str]]]:
        paths = {table: backfill.workspace.path("lake", table) for table in (*TABLES, "items", "sequences")}
        return {table: (table_version(spark, path), rows(backfill, table)) for table, path in paths.items()}

    before = state()
    run_day(spark, Path(backfill.workspace.settings.paths.root), RUN_DATE, *INGEST, "build_sequences")
    assert state() == before
