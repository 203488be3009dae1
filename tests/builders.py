"""Small rows for tests: a test names the fields that it is about, the rest gets a plain value."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.ingest.versions import DESCRIPTION
from fashionrec.lake.spec import table_spec, table_specs
from fashionrec.lake.tables import replace_days
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.workspace import Workspace
from fashionrec.settings import load_settings

ROOT = Path(__file__).resolve().parents[1]
RUN_DATE = date(2026, 3, 1)
_MODELS = ("llm", "id", "title", "id_serving", "title_serving", "fusion", "release")
_EVERYTHING = (*(spec.table for spec in table_specs()), *(f"model/{name}" for name in _MODELS), "release")
# For tests of functions that take the run of a step, whatever they read and write.
ANY_STEP = Step("test", _EVERYTHING, _EVERYTHING, lambda run: None, "A step that may touch everything.")
_NUMBERS = count(1)
_PLAIN: dict[str, Any] = {
    "string": "x",
    "boolean": True,
    "int": 1,
    "long": 1,
    "double": 1.0,
    "date": RUN_DATE,
    "timestamp": datetime(2026, 3, 1, 12, tzinfo=UTC),
}


def workspace_in(root: Path | str, spark: SparkSession, *overrides: str, run_date: date = RUN_DATE) -> Workspace:
    """Return a workspace whose every path is below `root`, by the tests' settings: workspace_in(root, spark, "a.b=c")."""
    return Workspace(load_settings(ROOT / "conf/test.yaml", [f"paths.root={root}", *overrides]), run_date, spark)


def run_of(workspace: Workspace, step: Step = ANY_STEP) -> StepRun:
    """Return the run of a step that has read and written nothing yet; its run has a name of its own."""
    return StepRun(step, workspace, {"run_id": f"test-{next(_NUMBERS)}", "code_version": "test", "settings_hash": "test"})


def put(workspace: Workspace, table: str, frame: DataFrame, *, days: Sequence[date] = ()) -> None:
    """Write the input of what is tested without its gate, which has tests of its own and takes seconds."""
    spec = table_spec(table)
    if spec.day_column not in frame.columns:
        frame = frame.withColumn("run_date", f.lit(workspace.run_date))
    replace_days(frame, workspace.table(table), spec, days or [workspace.run_date], {}, {})


def table_rows(spark: SparkSession, table: str, *rows: dict[str, Any], **shared: Any) -> DataFrame:
    """Return rows of a table without run_date; nullable columns that no row names are null, the others get a plain value."""
    spec = table_spec(table)
    columns = [column for column in spec.columns if column.name != "run_date"]
    plain = {c.name: None if c.nullable or not isinstance(c.type, str) else _PLAIN[c.type] for c in columns}
    schema = t.StructType([t.StructField(field.name, field.dataType) for field in spec.struct if field.name != "run_date"])
    full = [{**plain, **shared, **row} for row in rows]
    if table == "interactions":  # in time, unless the test says so
        full = [
            row if "arrival_date" in {**shared, **given} else {**row, "arrival_date": row["event_date"]}
            for row, given in zip(full, rows, strict=True)
        ]
    if table == "sequences":
        usual = [{"split_by_time": row["split"], "horizon": "overnight" if row["split"] == "score" else "in_session"} for row in full]
        named = [{**shared, **row} for row in rows]
        full = [{**row, **fields, **given} for row, fields, given in zip(full, usual, named, strict=True)]
    return spark.createDataFrame([tuple(row[c.name] for c in columns) for row in full], schema)


def interval_rows(spark: SparkSession, *rows: dict[str, Any], **shared: Any) -> DataFrame:
    """Return rows as `ingest.versions.intervals` gives them: described for ever, and still on sale, unless they say otherwise."""
    columns = {field.name: field.dataType for field in table_spec("item_versions").struct}
    dates = {"valid_from": date(2026, 1, 1), "valid_to": None, "describes_from": date(1970, 1, 1), "describes_to": date(9999, 12, 31)}
    schema = t.StructType(
        [t.StructField(name, t.DateType()) for name in dates] + [t.StructField(name, columns[name]) for name in ("item_id", *DESCRIPTION)]
    )
    full = [{"title": "x", "category": "x", **dates, **shared, **row} for row in rows]
    return spark.createDataFrame([tuple(row.get(name) for name in schema.names) for row in full], schema)


def put_versions(workspace: Workspace, *items: dict[str, Any], since: date = date(2026, 1, 1)) -> None:
    """Write the history of a catalogue that holds the same items since a day."""
    rows = table_rows(
        workspace.spark, "item_versions", *({"title": "x", "category": "x", **item} for item in items), is_listed=True, arrival_date=since
    )
    put(workspace, "item_versions", rows, days=[since])


def action(kind: str = "click", **fields: Any) -> dict[str, Any]:
    """Return one action of a sequence."""
    return {"action": kind, "event_at": datetime(2026, 2, 28, 12, tzinfo=UTC), "session_id": "s", **fields}


def title_inputs(
    folder: Path,
    pairs: list[tuple[str, str]],
    titles: list[str],
    *,
    validation: Sequence[tuple[str, str]] = (),
    phrases: Sequence[str] = (),
    values: Sequence[Mapping[str, str]] = (),
) -> str:
    """Write what the title model is trained on, pairs of a query and a title and a catalogue with attributes; return the folder's name."""
    columns = ["split", "category", "query", "title"]
    rows = [("train", "x", *pair) for pair in pairs] + [("validation", "x", *pair) for pair in validation]
    pd.DataFrame(rows, columns=columns).assign(paired_at=RUN_DATE).to_parquet(folder / "pairs")
    items = pd.DataFrame({"item_id": [f"{i:04}" for i in range(len(titles))], "title": titles, "category": "x"})
    entries = [[{"name": name, "value": value} for name, value in row.items()] for row in values] or [[] for _ in titles]
    items.assign(phrase=list(phrases) or None, values=entries).to_parquet(folder / "items")
    return str(folder)


def item(item_id: str, **fields: Any) -> dict[str, Any]:
    return {"item_id": item_id, "title": f"Item {item_id}", "category": "Clothing", **fields}


def search(at: str, query: str, **fields: Any) -> dict[str, Any]:
    return _event(at, "search", query, query=query, **fields)


def click(at: str, item_id: str, **fields: Any) -> dict[str, Any]:
    return _event(at, "click", item_id, item_id=item_id, **fields)


def purchase(at: str, item_id: str, **fields: Any) -> dict[str, Any]:
    return _event(at, "purchase", item_id, item_id=item_id, **fields)


def _event(at: str, kind: str, about: str, *, user_id: str = "u", **fields: Any) -> dict[str, Any]:
    """Return an interaction; `at` is 2026-02-01 10:00 in UTC, seconds and less may follow."""
    time = datetime.fromisoformat(at).replace(tzinfo=UTC)
    event_id = f"{user_id} {at} {kind} {about}"
    day = time.date()
    return {
        **{"event_id": event_id, "user_id": user_id, "event_at": time, "event_date": day, "arrival_date": day, "action": kind},
        **fields,
    }
