"""The command, held at a chosen moment so that a test can end it just then: held_run.py MOMENT MARKER ARGUMENT...

The file MARKER appears once the moment has come, and the run goes no further. Moments, all of `ingest_interactions`:

reading   a Spark job of the step runs
staged    the rows are staged, nothing was written to the table
writing   Delta's commit is under way: a part of the new data files lies in the table's folder, no entry of its log names them
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import TaskContext

from fashionrec import cli
from fashionrec.lake import tables
from fashionrec.pipeline.steps import ingest

TABLE = "interactions"
Batches = Iterable[pa.RecordBatch]


def hold_worker(marker: str, until: Callable[[], bool]) -> None:
    """In a Python worker: wait until something is seen, say so, and stay as long as the run lives."""
    parent = os.getppid()
    while os.getppid() == parent:
        if until():
            Path(marker).touch()
        time.sleep(0.05)


def hold_reading(marker: str) -> None:
    def held(batches: Batches) -> Iterator[pa.RecordBatch]:
        hold_worker(marker, lambda: True)
        yield from batches

    def delivered_days(spark: Any, source: Any, *, up_to: Any) -> Any:
        return spark.range(1).mapInArrow(held, "id long").collect()

    ingest.delivered_days = delivered_days


def hold_staged(marker: str) -> None:
    original = tables.replace_days

    def replace_days(frame: Any, path: str, spec: Any, *rest: Any) -> None:
        if spec.table == TABLE:
            Path(marker).touch()
            signal.pause()
        original(frame, path, spec, *rest)

    tables.replace_days = replace_days


def hold_writing(marker: str) -> None:
    original = tables.replace_days

    def replace_days(frame: Any, path: str, spec: Any, *rest: Any) -> None:
        if spec.table == TABLE:
            known = set(Path(path).rglob("*.parquet"))

            def held(batches: Batches) -> Iterator[pa.RecordBatch]:
                # One of two tasks writes its files, the other never ends.
                if TaskContext.get().partitionId() == 1:
                    hold_worker(marker, lambda: bool(set(Path(path).rglob("*.parquet")) - known))
                yield from batches

            frame = frame.repartition(2).mapInArrow(held, frame.schema)
        original(frame, path, spec, *rest)

    tables.replace_days = replace_days


if __name__ == "__main__":
    {"reading": hold_reading, "staged": hold_staged, "writing": hold_writing}[sys.argv[1]](sys.argv[2])
    cli.main(sys.argv[3:])
