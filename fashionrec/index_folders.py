"""Builds of indexes: each in a folder of its own that never changes, named by a small pointer beside it that is replaced last.

Whoever reads goes on with the build that it found, whatever is built meanwhile; nothing is renamed or removed.
"""

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as f

from fashionrec.lake import storage
from fashionrec.lake.session import is_local

_PART = 16 * 2**20  # bytes of a file that pass through Spark as one row
_Built = TypeVar("_Built")


class Build(NamedTuple):
    """Where a finished build lies, and what it was made from."""

    place: str
    made_from: Mapping[str, Any]


def slug(name: str) -> str:
    """Return the folder name of a category: its words, and six hex digits that keep like names apart."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{words}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def find_build(spark: storage.Spark, pointer: str) -> Build | None:
    """Return the build that a pointer names; None where there is none yet."""
    text = storage.read_text(spark, pointer)
    if text is None:
        return None
    named = json.loads(text)
    return Build(f"{pointer.rpartition('/')[0]}/{named['build']}", named["made_from"])


def make_build(
    spark: storage.Spark,
    pointer: str,
    write: Callable[[Path, str | None], _Built],
    *,
    made_from: Mapping[str, Any],
    run_id: str,
    staging: str,
) -> tuple[str, _Built]:
    """Let `write` fill a new folder, put it beside the pointer, let the pointer name it; return its place and what `write` returned.

    Args:
        write: gets an empty folder of this machine, and what `collect_built` needs beside it.
        made_from: what the build is made from, as JSON; `find_build` tells it.
        run_id: which the folder is named by; a run may build twice.
        staging: place of the run for files that Spark's executors write.
    """
    parent, name = pointer.rpartition("/")[0], f"{run_id}-{secrets.token_hex(2)}"
    beside = storage.local_path(parent)
    folder = (beside or storage.scratch(run_id)) / name
    folder.mkdir(parents=True)
    seen_by_all = beside is not None or is_local(spark())
    try:
        built = write(folder, None if seen_by_all else staging)
        if beside is None:
            name = storage.upload(spark, folder, f"{parent}/{name}").rpartition("/")[2]
            shutil.rmtree(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    storage.write_text(spark, pointer, json.dumps({"build": name, "made_from": made_from}, indent=1))
    return f"{parent}/{name}", built


def collect_built(built: DataFrame, folder: Path, staging: str | None) -> list[Row]:
    """Run what writes `folder`/<slug>/ for each `category` and return its rows.

    Where the executors have disks of their own, each task's files pass through Spark to `staging`, and from there into the driver's folder.
    """
    if staging is None:
        return built.collect()
    rows = built.select(f.struct("*").alias("row"))
    schema = f"row {rows.schema['row'].dataType.simpleString()}, file string, start long, content binary"

    def with_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            row = batch.column("row")
            nothing = [pa.nulls(len(batch), kind) for kind in (pa.string(), pa.int64(), pa.binary())]
            yield pa.RecordBatch.from_arrays([row, *nothing], names=["row", "file", "start", "content"])
            for category in row.field("category").to_pylist():
                for name, start, content in _parts(folder, folder / slug(category)):
                    arrays = [pa.nulls(1, row.type), pa.array([name]), pa.array([start], pa.int64()), pa.array([content], pa.binary())]
                    yield pa.RecordBatch.from_arrays(arrays, names=["row", "file", "start", "content"])
                shutil.rmtree(folder / slug(category))

    rows.mapInArrow(with_files, schema).write.parquet(staging)
    staged = built.sparkSession.read.parquet(staging)
    for part in staged.where("file IS NOT NULL").select("file", "start", "content").toLocalIterator():
        path = folder / part.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(part.start)
            file.write(part.content)
    return staged.where("file IS NULL").select("row.*").collect()


def _parts(root: Path, folder: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield the files below a folder in parts: name below the root, first byte, content; an empty file is one empty part."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            start, content = 0, file.read(_PART)
            while content or not start:
                yield str(path.relative_to(root)), start, content
                start += max(len(content), 1)
                content = file.read(_PART)
