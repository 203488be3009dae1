"""Raw files for tests: real ones, in the folder of the day on which they arrive."""

import csv
import gzip
import io
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from fashionrec.pipeline.step import StepRun
from tests.builders import put_versions

INTERACTION = pa.schema(
    [(name, pa.string()) for name in ("event_id", "user_id", "event_at", "action", "query", "item_id")]
    + [("position", pa.int32()), ("results", pa.list_(pa.string()))]
)


def raw_event(event_id: str, **fields: Any) -> dict[str, Any]:
    """Return a raw event, a click at noon of the tests' run date unless told otherwise."""
    return {"event_id": event_id, "user_id": "u", "event_at": "2026-03-01T12:00:00Z", "action": "click", "item_id": "i", **fields}


def raw_item(item_id: str, **fields: Any) -> dict[str, Any]:
    return {"item_id": item_id, "title": f"Item {item_id}", "category": "Clothing", **fields}


def deliver(root: Path, day: date | str, *rows: dict[str, Any] | str, name: str = "events.jsonl") -> Path:
    """Write rows (or lines as they are) as a file of a day; the name's ending decides the kind."""
    path = root / str(day) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, INTERACTION), path)
        return path
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    data = (as_csv(*rows) if ".csv" in name and isinstance(rows[0], dict) else text).encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(data))
    return path


def as_csv(*rows: dict[str, Any], columns: Sequence[str] = tuple(INTERACTION.names)) -> str:
    """Return rows as CSV with a header, lists and maps as JSON in their cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*columns, *(name for name in rows[0] if name not in columns)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: json.dumps(value) if isinstance(value, (list, dict)) else value for name, value in row.items()})
    return out.getvalue()


def deliver_bytes(root: Path, day: date | str, name: str, data: bytes) -> Path:
    """Write a file of a day as it is."""
    path = root / str(day) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def deliver_frame(root: Path, day: date | str, frame: pd.DataFrame) -> Path:
    """Write a frame as Parquet with the columns that it happens to have."""
    path = root / str(day) / "odd.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
    return path


def known_items(run: StepRun, *items: str) -> None:
    """Put items into the catalogue's history, as an ingestion of a catalogue that holds them would have."""
    put_versions(run.workspace, *({"item_id": item} for item in items))
