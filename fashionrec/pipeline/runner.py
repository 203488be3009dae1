"""Run steps in order, show one line each, and keep the manifest."""

import gc
import json
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from rich.console import Console
from rich.text import Text

import fashionrec
from fashionrec.errors import UserError
from fashionrec.lake import storage
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.usage import PEAK_IS, PeakMemory, every
from fashionrec.pipeline.workspace import Workspace
from fashionrec.settings import settings_hash, shown_settings, without_passwords


def run_steps(workspace: Workspace, steps: Sequence[Step], console: Console) -> dict[str, Any]:
    """Run steps in order and return the manifest, which is also written after every step.

    A step that fails ends the run: its error is in the manifest and is raised again. Tables that it did not finish are as they were.
    """
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    lineage = {"run_id": run_id, "code_version": code_version(), "settings_hash": settings_hash(workspace.settings)}
    # A root that cannot be written to is found out here, not after a step's work.
    storage.make_folder(workspace.session, workspace.path("manifests", str(workspace.run_date)))
    settings = shown_settings(workspace.settings)
    manifest: dict[str, Any] = {**lineage, "run_date": str(workspace.run_date), "settings": settings, "peak_gib_is": PEAK_IS, "steps": []}
    width = max(len(step.name) for step in steps)
    try:
        for step in steps:
            run = StepRun(step, workspace, lineage)
            entry, error = _run_step(run, console, width)
            manifest["steps"].append(entry)
            _write_manifest(workspace, manifest)
            if error:
                raise error
            # What a step left in circles of Python objects keeps Spark's plans in the driver's heap, long runs would fill it: by itself
            # Python looks for them only when a quarter of all its objects is new.
            del run
            gc.collect()
    finally:
        shutil.rmtree(storage.scratch(run_id), ignore_errors=True)
        try:
            storage.remove(workspace.session, workspace.path("lake", "_staging", run_id))
        except storage.StorageError as error:  # which must not hide what the run failed with
            console.print(Text(f"  warning: staged rows were left: {error}", "yellow"), soft_wrap=True)
    return manifest


def manifest_path(workspace: Workspace, run_id: str) -> str:
    """Return where a run's manifest lies."""
    return workspace.path("manifests", str(workspace.run_date), f"{run_id}.json")


def _run_step(run: StepRun, console: Console, width: int) -> tuple[dict[str, Any], Exception | None]:
    """Run a step, show what it cost and counted, and return its entry of the manifest and what it failed with, if anything."""
    name = run.step.name
    if not console.is_terminal:
        # A terminal shows the running step in its last line; a log would be silent until the step ends.
        console.print(f"{name:<{width}}  begins at {datetime.now(UTC):%H:%M:%S} UTC", highlight=False)
    peak = PeakMemory()
    start = time.monotonic()
    error: Exception | None = None
    with console.status(name) as status:

        def show() -> None:
            peak.sample()
            status.update(f"{name}  {time.monotonic() - start:.0f} s  {peak.gib:.1f} GiB  {_spark_progress(run.spark)}")

        with every(1.0, show):
            try:
                run.step.run(run)
            except PythonException as raised:
                error = _of_worker(raised)
            except Exception as raised:
                error = raised
    entry: dict[str, Any] = {
        "step": name,
        "seconds": round(time.monotonic() - start, 1),
        "peak_gib": round(peak.gib, 2),
        "versions_read": run.versions_read,
        "rows_read": run.rows_read,
        "rows_written": run.rows_written,
        "figures": run.figures,
        "warnings": [without_passwords(warning) for warning in run.warnings],
        "notes": run.notes,
    }
    if error:
        entry["error"] = without_passwords(f"{type(error).__name__}: {error}")
    _show_outcome(entry, console, width)
    return entry, error


def _show_outcome(entry: Mapping[str, Any], console: Console, width: int) -> None:
    """Print a step's line, its notes and its warnings. Names and values of the data are shown as they are, never read as markup."""
    rows = ", ".join(f"{table} {count:,}" for table, count in entry["rows_written"].items())
    figures = ", ".join(f"{name} {_figure(value)}" for name, value in entry["figures"].items())
    mark = Text("failed", "red") if "error" in entry else Text("ok", "green")
    counted = "; ".join(filter(None, (rows, figures)))
    console.print(
        Text.assemble(f"{entry['step']:<{width}}  ", mark, f"  {entry['seconds']:>6.1f} s  {entry['peak_gib']:4.1f} GiB  {counted}"),
        soft_wrap=True,
    )
    for note in entry["notes"]:
        console.print(Text(f"  {note}"), soft_wrap=True)
    for warning in entry["warnings"]:
        console.print(Text(f"  warning: {warning}", "yellow"), soft_wrap=True)


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


def _spark_progress(spark: SparkSession) -> str:
    tracker = spark.sparkContext.statusTracker()
    stages = [info for stage in tracker.getActiveStageIds() if (info := tracker.getStageInfo(stage))]
    done, tasks = sum(info.numCompletedTasks for info in stages), sum(info.numTasks for info in stages)
    return f"{'━' * (20 * done // tasks):╌<20} {done}/{tasks} tasks" if tasks else ""


def _write_manifest(workspace: Workspace, manifest: Mapping[str, Any]) -> None:
    storage.write_text(workspace.session, manifest_path(workspace, manifest["run_id"]), json.dumps(manifest, indent=2))


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
