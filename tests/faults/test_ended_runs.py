"""Real processes ended from outside, each at a chosen moment: no table is half written, and a rerun makes it whole."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fashionrec import cli
from fashionrec.sources.world.shop import make_world
from tests.conftest import ROOT, RUN_DATE

# Only to fail: nothing is proven by a time.
DEADLINE = 600.0


def arguments(root: Path, steps: str = "ingest_interactions") -> list[str]:
    return ["run", "--run-date", str(RUN_DATE), "--conf", str(ROOT / "conf/test.yaml"), "--set", f"paths.root={root}", "--steps", steps]


@contextmanager
def held(moment: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command up to a moment (see `held_run`); end what is left of it afterwards."""
    marker = root / f"{moment}.marker"
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("held_run.py")), moment, str(marker), *arguments(root)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not marker.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the moment did not come"
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def raw_file(root: Path) -> Path:
    (path,) = (root / "raw/interactions" / str(RUN_DATE)).iterdir()
    return path


@pytest.fixture
def shop(spark, tmp_path) -> Path:
    """Return a shop whose table holds three quarters of the run date's events, and to which all of them have been delivered since."""
    size = {"days": 3, "user_count": 20, "items_per_category": 15, "heavy_user_events": 0}
    make_world(tmp_path / "raw/interactions", tmp_path / "raw/catalog", end_date=RUN_DATE, seed=7, **size)
    whole = raw_file(tmp_path).read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    raw_file(tmp_path).write_bytes(gzip.compress(b"".join(line for n, line in enumerate(lines) if n % 4)))
    cli.main(arguments(tmp_path, "ingest_catalog,ingest_interactions"))
    raw_file(tmp_path).write_bytes(whole)
    return tmp_path


@pytest.fixture
def day(spark, shop):
    """Return a function that reads the IDs of the run date's events, sorted."""

    def read() -> list[str]:
        frame = spark.read.format("delta").load(str(shop / "lake/interactions"))
        return sorted(row.event_id for row in frame.where(f"arrival_date = '{RUN_DATE}'").collect())

    return read


def staged(root: Path) -> set[Path]:
    return set(root.glob("lake/_staging/*/interactions/*.parquet"))


def commits(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("lake/interactions/_delta_log/*.json"))


def data_files(root: Path) -> set[Path]:
    return set(root.glob("lake/interactions/arrival_date=*/*.parquet"))


def test_a_run_killed_while_it_publishes_leaves_the_day_as_it_was_and_a_rerun_gives_the_right_rows(shop, day):
    before, log, files = day(), commits(shop), data_files(shop)
    assert before
    left: set[Path] = set()
    for moment in ("staged", "writing"):
        with held(moment, shop) as process:
            os.killpg(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        # The moment was not missed: staged rows lie there, and only the second has begun to write the table.
        assert staged(shop) > left, moment
        left, orphans = staged(shop), data_files(shop) - files
        assert bool(orphans) == (moment == "writing"), moment
        assert commits(shop) == log, moment
        assert day() == before, moment
    cli.main(arguments(shop))
    events = [json.loads(line) for line in gzip.decompress(raw_file(shop).read_bytes()).splitlines()]
    assert day() == sorted(event["event_id"] for event in events)
    assert len(before) < len(events)
    # What a killed run has left stays, read by nobody: its staged rows, under its name, and files that no log names.
    assert staged(shop) == left
    assert orphans <= data_files(shop)
    # It goes with the weekly upkeep, once no run can be at work that long.
    whole, at_once = day(), ("--set", "maintenance.run_lasts_days=0", "--set", "maintenance.vacuum_hours=0")
    cli.main(["tables", "expire", "--conf", str(ROOT / "conf/test.yaml"), "--set", f"paths.root={shop}", *at_once])
    assert staged(shop) == set()
    assert not orphans & data_files(shop)
    assert day() == whole


def test_ctrl_c_is_one_line_and_status_130_and_the_log_had_said_which_step_had_begun(tmp_path):
    with held("reading", tmp_path) as process:
        # The step has not ended, and what is in the pipe by now came when it began, not when a buffer was full.
        os.set_blocking(process.stdout.fileno(), False)
        assert b"ingest_interactions  begins at " in os.read(process.stdout.fileno(), 2**16)
        os.set_blocking(process.stdout.fileno(), True)
        # As a terminal does it: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "interrupted: tables of unfinished steps are as they were"
    assert " ok " not in out
    assert not list(tmp_path.glob("lake/_staging/*"))
