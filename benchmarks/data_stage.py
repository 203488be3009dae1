"""Seconds and memory of the data stage at growing sizes, and its sequences beside DuckDB and Polars: make bench-data [SCALE=0.1].

The logs are SYNTHETIC: the fashion world at 0.1, 0.3 and 1 times SCALE times the sizes of the paper's Table 1, with one user who alone has
one million events (times the size). Each size runs in a process of its own, after a tiny world that takes start-up and compilation off
the figures. At the largest, Spark, DuckDB and Polars make the same sequences from the same Parquet files, in turns; the second, warm turn
counts. Then a week is added day by day to a lake of 30 and to one of 365 days of the same size, by ingestion and memory; the mean of its
days is day_seconds_at_30_days and day_seconds_at_365_days. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from engines import ENGINES, by_spark, export, same_sequences
from rich.console import Console

from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import Workspace, open_workspace
from fashionrec.settings import load_settings, resource
from fashionrec.sources.world.shop import make_table_1_world

SIZES = (0.1, 0.3, 1.0)
DAYS = 30
RUN_DATE = date(2026, 3, 1)
STEPS = ("ingest_catalog", "ingest_interactions", "build_sequences")
# One more day on a lake of so many: steps, lengths of the lake, and the size of its year against Table 1.
DAILY_STEPS, LENGTHS, YEAR_SIZE, WEEK = ("ingest_catalog", "ingest_interactions", "build_query_products"), (30, 365), 0.1, 7
# Heap of the only JVM: in local mode the driver is the executor, too.
HEAP = "8g"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: Table 1's sizes at the largest")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--year", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(_one_size(Path(options.root), options.one, compare=options.one == options.scale)))
        return
    if options.year is not None:
        print(json.dumps(_one_more_day(Path(options.root), options.year)))
        return
    with tempfile.TemporaryDirectory(prefix="fashionrec-bench-", dir=os.environ.get("TMPDIR")) as root:
        scale = ("--scale", str(options.scale))
        found = [_in_own_process(Path(root) / f"{size:g}", *scale, "--one", str(size * options.scale)) for size in SIZES]
        days = _in_own_process(Path(root) / "year", "--year", str(YEAR_SIZE * options.scale))
    small, large = found[0], found[-1]
    figures = {
        "events": large["events"],
        **large["engines"],
        "per_event_growth": round(large["seconds"] / large["events"] / (small["seconds"] / small["events"]), 2),
        "peak_rss_gib": max(one["peak_gib"] for one in found),
        "heap": HEAP,
        **days,
        "sizes": found,
    }
    print(json.dumps(figures))


def _in_own_process(root: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments, "--root", str(root)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *progress, last = ran.stdout.splitlines()
    print("\n".join(progress), flush=True)
    shutil.rmtree(root, ignore_errors=True)
    figures: dict[str, Any] = json.loads(last)
    return figures


def _one_size(root: Path, size: float, *, compare: bool) -> dict[str, Any]:
    """Return the counts, seconds per step and peak memory of one size; with `compare`, the engines' seconds, too."""
    console = Console(width=160)
    warm_up = _workspace(root / "warm-up", size=0.001)
    run_steps(warm_up, [step_named(name) for name in STEPS], Console(quiet=True))
    workspace = _workspace(root, size)
    console.print(f"[bold]{size:g} of Table 1 (synthetic)[/]")
    manifest = run_steps(workspace, [step_named(name) for name in STEPS], console)
    steps = manifest["steps"]
    figures: dict[str, Any] = {
        "size": size,
        "events": int(next(step for step in steps if step["step"] == "ingest_interactions")["figures"]["rows_in"]),
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "peak_gib": max(step["peak_gib"] for step in steps),
        "seconds_by_step": {step["step"]: step["seconds"] for step in steps},
    }
    if compare:
        figures["engines"] = _compare(workspace, root, console)
    return figures


def _one_more_day(root: Path, size: float) -> dict[str, Any]:
    """Return the seconds of a day more on lakes of the LENGTHS, by the mean of a week's days."""
    console = Console(width=160)
    world = _workspace(root / "world", size=size, days=max(LENGTHS) + WEEK)
    console.print(f"[bold]a day more, {size:g} of Table 1 in a year (synthetic)[/]")
    seconds = {}
    for length in LENGTHS:
        lake = root / str(length)
        first = str(RUN_DATE - timedelta(days=length + WEEK - 1))
        for source in ("raw_interactions", "raw_catalog"):
            raw = Path(world.path(source))
            # With the catalogue that held when the days begin.
            before = [folder for folder in sorted(raw.iterdir()) if folder.name < first][-1:] if source == "raw_catalog" else []
            for folder in [*before, *(folder for folder in raw.iterdir() if folder.name >= first)]:
                shutil.copytree(folder, lake / raw.relative_to(root / "world") / folder.name, copy_function=os.link)
        days = [RUN_DATE - timedelta(days=ago) for ago in range(WEEK, -1, -1)]
        entries = []
        for day in days:
            manifest = run_steps(replace(_opened(lake), run_date=day), [step_named(name) for name in DAILY_STEPS], console)
            entries.append(sum(step["seconds"] for step in manifest["steps"]))
        # The first took in all but the week.
        seconds[f"day_seconds_at_{length}_days"] = round(sum(entries[1:]) / WEEK, 1)
    return seconds


def _opened(root: Path) -> Workspace:
    overrides = [
        f"paths.root={root}",
        f"spark.driver_memory={HEAP}",
        "spark.java_options=-XX:+UseParallelGC",
        "spark.shuffle_partitions=32",
    ]
    return open_workspace(load_settings(resource("conf") / "test.yaml", overrides), RUN_DATE)


def _workspace(root: Path, size: float, days: int = DAYS) -> Workspace:
    """Return a workspace over a world of its own."""
    workspace = _opened(root)
    start = time.monotonic()
    counts = make_table_1_world(
        Path(workspace.path("raw_interactions")),
        Path(workspace.path("raw_catalog")),
        end_date=RUN_DATE,
        days=days,
        scale=size,
        seed=1,
        heavy_user_events=int(1_000_000 * size),
    )
    print(f"world of {size:g}: {counts}, made in {time.monotonic() - start:.0f} s", file=sys.stderr)
    return workspace


def _compare(workspace: Workspace, root: Path, console: Console) -> dict[str, float]:
    """Return the warm seconds of each engine for sessions and sequences, and Spark's ratio to DuckDB's."""
    source = export(workspace, root / "compared")
    targets = {name: root / f"sequences-{name}" for name in ("spark", *ENGINES)}
    seconds: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(2):
        for name, target in targets.items():
            if name == "spark":
                start = time.monotonic()
                by_spark(workspace, source, target)
                seconds[name].append(time.monotonic() - start)
            else:
                seconds[name].append(_by_other(name, workspace, source, target))
            console.print(f"sessions and sequences by {name}: {seconds[name][-1]:.1f} s")
    same_sequences(targets, console)
    warm = {f"{name}_seconds": round(values[-1], 1) for name, values in seconds.items()}
    return {**warm, "ratio_duckdb": round(seconds["spark"][-1] / seconds["duckdb"][-1], 2)}


def _by_other(name: str, workspace: Workspace, source: Path, target: Path) -> float:
    settings = workspace.settings.sequences.model_dump_json()
    command = [
        sys.executable,
        str(Path(__file__).with_name("engines.py")),
        name,
        str(source),
        str(target),
        str(workspace.run_date),
        settings,
    ]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
