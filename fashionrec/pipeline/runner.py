"""Run steps in order, show one line each, and keep the manifest."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pyspark.errors import PythonException
from pyspark.sql import functions as f
from rich.console import Console

import fashionrec
from fashionrec.errors import UserError
from fashionrec.lake import tables
from fashionrec.pipeline.step import Run, Step
from fashionrec.pipeline.usage import PeakMemory, every
from fashionrec.settings import Settings, settings_hash


def new_run(settings: Settings, run_date: date) -> Run:
    """Return a run of a date with a name of its own."""
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    commit = {"run_id": run_id, "code_version": code_version(), "settings_hash": settings_hash(settings)}
    return Run(settings, run_date, run_id, commit)


def newest_run(settings: Settings, table: str) -> Run:
    """Return a run of the newest date that a daily table holds.

    Raises:
        UserError: there is no such table, or nothing in it.
    """
    run = new_run(settings, date.min)
    path = run.path("lake", table)
    newest = None
    if tables.table_exists(run.spark, path):
        newest = run.spark.read.format("delta").load(path).agg(f.max("run_date")).collect()[0][0]
    if newest is None:
        raise UserError(f"{table}: nothing at {path} yet; run the steps first (fashionrec run --run-date YYYY-MM-DD, or fashionrec demo)")
    found = new_run(settings, newest)
    found.__dict__["spark"] = run.spark
    return found


def run_steps(run: Run, steps: Sequence[Step], console: Console) -> dict[str, Any]:
    """Run steps in order and return the manifest, which is also written after every step.

    A step that fails ends the run: its error is in the manifest and is raised again. Tables that it did not finish are as they were.
    """
    manifest: dict[str, Any] = {**run.commit, "run_date": str(run.run_date), "settings": run.settings.model_dump(mode="json"), "steps": []}
    width = max(len(step.name) for step in steps)
    try:
        for step in steps:
            entry = _run_step(run, step, console, width)
            manifest["steps"].append(entry)
            _write_manifest(run, manifest)
            if "error" in entry:
                raise entry.pop("exception")
    finally:
        shutil.rmtree(run.path("lake", "_staging", run.run_id), ignore_errors=True)
    return manifest


def _run_step(run: Run, step: Step, console: Console, width: int) -> dict[str, Any]:
    # The session outlives a step, its counters do not.
    mine = replace(run, step=step, versions_read={}, rows_read={}, rows_written={}, warnings=[], notes=[], figures={})
    mine.__dict__.update({key: run.__dict__[key] for key in ("spark", "models") if key in run.__dict__})
    peak = PeakMemory()
    start = time.monotonic()
    error: Exception | None = None
    with console.status(step.name) as status:

        def show() -> None:
            peak.sample()
            status.update(f"{step.name}  {time.monotonic() - start:.0f} s  {peak.gib:.1f} GiB  {_spark_progress(mine)}")

        with every(1.0, show):
            try:
                step.run(mine)
            except PythonException as raised:
                error = _of_worker(raised)
            except Exception as raised:
                error = raised
    run.__dict__.update({key: mine.__dict__[key] for key in ("spark", "models") if key in mine.__dict__})
    entry: dict[str, Any] = {
        "step": step.name,
        "seconds": round(time.monotonic() - start, 1),
        "peak_gib": round(peak.gib, 2),
        "versions_read": mine.versions_read,
        "rows_read": mine.rows_read,
        "rows_written": mine.rows_written,
        "figures": mine.figures,
        "warnings": mine.warnings,
        "notes": mine.notes,
    }
    rows = ", ".join(f"{table} {count:,}" for table, count in mine.rows_written.items())
    figures = ", ".join(f"{name} {_figure(value)}" for name, value in mine.figures.items())
    mark = "[red]failed[/]" if error else "[green]ok[/]"
    console.print(
        f"{step.name:<{width}}  {mark}  {entry['seconds']:>6.1f} s  {peak.gib:4.1f} GiB  {'; '.join(filter(None, (rows, figures)))}",
        highlight=False,
        soft_wrap=True,
    )
    for note in mine.notes:
        console.print(f"  {note}", highlight=False, soft_wrap=True)
    for warning in mine.warnings:
        console.print(f"  warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    if error:
        entry |= {"error": f"{type(error).__name__}: {error}", "exception": error}
    return entry


def _of_worker(raised: PythonException) -> Exception:
    """Return an error of this package that a Python worker raised as its one line; any other as it is, with the worker's traceback."""
    said = re.search(r"^\s*fashionrec\.[\w.]+Error: (.+)$", str(raised), re.MULTILINE)
    if not said:
        return raised
    error = UserError(said[1])
    error.__cause__ = raised
    return error


def _figure(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _spark_progress(run: Run) -> str:
    if "spark" not in run.__dict__:
        return ""
    tracker = run.spark.sparkContext.statusTracker()
    stages = [info for stage in tracker.getActiveStageIds() if (info := tracker.getStageInfo(stage))]
    done, tasks = sum(info.numCompletedTasks for info in stages), sum(info.numTasks for info in stages)
    return f"{'━' * (20 * done // tasks):╌<20} {done}/{tasks} tasks" if tasks else ""


def _write_manifest(run: Run, manifest: dict[str, Any]) -> None:
    folder = Path(run.path("manifests", str(run.run_date)))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{run.run_id}.json"
    text = json.dumps({**manifest, "steps": [{k: v for k, v in s.items() if k != "exception"} for s in manifest["steps"]]}, indent=2)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)


def code_version() -> str:
    """Return the package's version with the commit of the checkout, where there is one."""
    folder = Path(fashionrec.__file__).parent
    try:
        git = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return fashionrec.__version__
    return f"{fashionrec.__version__}+{git.stdout.strip()}"
