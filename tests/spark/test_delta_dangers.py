"""What Delta and Spark do without a word, and must not do here: each test fails when its guard is taken away."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable
from pyspark.sql import functions as f

from fashionrec.lake.session import spark_session
from fashionrec.lake.spec import table_spec, table_specs
from fashionrec.lake.tables import LakeError, SchemaError, replace_days
from fashionrec.quality import GateError
from fashionrec.settings import load_settings
from fashionrec.sources.files import Folder
from fashionrec.sources.source import read_days, readable
from tests.builders import RUN_DATE, put, table_rows
from tests.conftest import ROOT
from tests.raw_files import deliver, raw_event
from tests.spark.test_constraints import good_row
from tests.spark.test_quality import YESTERDAY, events, stored
from tests.spark.test_tables import items

INTERACTIONS = table_spec("interactions")


def test_a_backfill_of_an_older_day_after_a_newer_one_is_written(spark, make_run, tmp_path):
    make_run().write("items", items(spark, "new"))
    for ids in ("ab", "abc"):
        make_run(run_date=YESTERDAY).write("items", items(spark, *ids))
    assert stored(spark, tmp_path, "items") == {YESTERDAY: 3, RUN_DATE: 1}


def test_an_empty_frame_deletes_no_day_of_events(spark, make_run, tmp_path):
    put(make_run().workspace, "interactions", events(spark, {YESTERDAY: 2, RUN_DATE: 2}), days=[YESTERDAY, RUN_DATE])
    with pytest.raises(GateError, match="no rows"):
        make_run().write("interactions", events(spark, {}), days=[YESTERDAY, RUN_DATE])
    assert stored(spark, tmp_path) == {YESTERDAY: 2, RUN_DATE: 2}


def test_a_missing_column_does_not_become_nulls(spark, make_run, tmp_path):
    put(make_run().workspace, "interactions", events(spark, {RUN_DATE: 2}))
    with pytest.raises(SchemaError, match="position is missing"):
        replace_days(events(spark, {RUN_DATE: 5}).drop("position"), str(tmp_path / "lake/interactions"), INTERACTIONS, [RUN_DATE], {}, {})
    assert stored(spark, tmp_path) == {RUN_DATE: 2}


def test_a_corrupt_file_is_an_error_whatever_the_session_was_told_before(spark, tmp_path):
    folder = tmp_path / "rows"
    spark.range(0, 4000, 1, 4).write.parquet(str(folder))
    damaged = sorted(folder.glob("*.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-60] + b"\0" * 60)
    spark.conf.set("spark.sql.files.ignoreCorruptFiles", "true")
    try:
        assert spark.read.schema("id long").parquet(str(folder)).count() == 3000
        again = spark_session(load_settings(ROOT / "conf/test.yaml"), "fashionrec tests")
        with pytest.raises(Exception, match=damaged.name):
            again.read.schema("id long").parquet(str(folder)).count()
    finally:
        spark.conf.set("spark.sql.files.ignoreCorruptFiles", "false")


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz", "events.csv"])
def test_malformed_lines_are_rows_too(spark, tmp_path, name):
    if name.endswith(".csv"):
        columns = ("event_id", "user_id", "event_at", "action", "query", "item_id", "position", "results")
        deliver(tmp_path, RUN_DATE, ",".join(columns), 'a,u,2026-03-01T12:00:00Z,click,,i,not a number,"[]"', "b,u", name=name)
    else:
        deliver(tmp_path, RUN_DATE, raw_event("a"), '{"event_id": "b", ', raw_event("c", position="not a number"), name=name)
    source = Folder(str(tmp_path))
    with readable(spark, source):
        rows = read_days(spark, source, [RUN_DATE], table_spec("raw_interactions")).frame.collect()
    lines = 2 if name.endswith(".csv") else 3
    assert len(rows) == lines
    assert sum(bool(row["_malformed"]) for row in rows) == 2


def log_texts(path: Path) -> str:
    return "".join(file.read_text() for file in sorted((path / "_delta_log").glob("*.json")))


def test_no_id_of_a_deleted_user_outlives_him_in_the_log(spark, make_run, tmp_path):
    user, device = "d" * 64, "e" * 64
    put(make_run().workspace, "interactions", events(spark, {RUN_DATE: 2}, user_id=user, device_id=device))
    path = tmp_path / "lake/interactions"
    assert '"event_at":"2026-03-01' in log_texts(path).replace("\\", "")
    # VACUUM lists files in ten thousand tasks otherwise.
    quick = {
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    }
    for key, value in quick.items():
        spark.conf.set(key, value)
    try:
        table = DeltaTable.forPath(spark, str(path))
        table.delete(f.col("user_id") == user)
        table.vacuum(0)
    finally:
        for key in quick:
            spark.conf.unset(key)
    # The condition of the DELETE itself names the user: that is the shop's choice, by batch or by ID.
    kept = "".join(line for line in log_texts(path).splitlines() if '"operation":"DELETE"' not in line)
    # Statistics keep the first 32 characters of a text.
    assert user[:24] not in kept
    assert device[:24] not in kept
    assert not list(path.glob("arrival_date=*/*.parquet"))


def test_the_log_holds_nothing_that_a_person_typed_and_no_event_id(spark, make_run, tmp_path):
    every_commit = "spark.databricks.delta.properties.defaults.checkpointInterval"
    spark.conf.set(every_commit, "1")
    try:
        for query in ("bob@example.com", "dress for Anna Schmidt"):
            searches = events(spark, {RUN_DATE: 2}, action="search", item_id=None, query=query)
            make_run().write("interactions", searches.withColumn("event_id", f.concat(f.lit("the order of "), "event_id")))
    finally:
        spark.conf.unset(every_commit)
    log = tmp_path / "lake/interactions/_delta_log"
    kept = {path.name: path.read_bytes() for path in log.glob("*.[jc]*") if path.is_file()}
    kept |= {path.name: str(pq.read_table(path).to_pylist()).encode() for path in log.glob("*.parquet")}
    assert {name.rpartition(".")[2] for name in kept} == {"json", "crc", "parquet"}
    assert b"event_at" in kept["00000000000000000002.json"], "of times there are statistics"
    for typed in (b"bob", b"Anna", b"the order of"):
        assert [name for name, text in kept.items() if typed in text] == []


@pytest.mark.parametrize("spec", [s for s in table_specs() if s.constraints], ids=lambda s: s.table)
def test_no_constraint_is_undecided_where_a_value_may_be_null(spark, spec):
    (good,) = good_row(spec)
    nullable = [column.name for column in spec.columns if column.nullable]
    rows = [good, *(type(good)(**{**good.asDict(), name: None}) for name in nullable)]
    rows.append(type(good)(**{**good.asDict(), **dict.fromkeys(nullable)}))
    frame = spark.createDataFrame([tuple(row) for row in rows], spec.struct)
    for constraint in spec.constraints:
        undecided = frame.where(f.expr(constraint.check).isNull()).count()
        assert not undecided, f"{constraint.name} is NULL, so it refuses rows that it does not mean"


def test_the_first_write_has_the_constraints_already(spark, tmp_path):
    path = str(tmp_path / "items")
    bad = {"title": " "}, {"in_stock": None}
    for row, message in zip(
        bad, (r"(?i)check constraint title_not_blank", r"(?i)not null constraint violated for column: in_stock"), strict=True
    ):
        frame = table_rows(spark, "items", {"item_id": "a", "title": "t", **row}).withColumn("run_date", f.lit(RUN_DATE))
        with pytest.raises(Exception, match=message):
            replace_days(frame, path, table_spec("items"), [RUN_DATE], {}, {})
    assert spark.read.format("delta").load(path).count() == 0


def test_of_two_writers_of_one_day_one_wins_and_the_other_is_told(spark, make_run, tmp_path):
    path = str(tmp_path / "lake/interactions")
    put(make_run().workspace, "interactions", events(spark, {YESTERDAY: 1, RUN_DATE: 1}), days=[YESTERDAY, RUN_DATE])
    started, released = tmp_path / "started", tmp_path / "released"

    def wait(sign):
        deadline = time.monotonic() + 90
        while not sign.exists():
            assert time.monotonic() < deadline, sign
            time.sleep(0.05)

    def slowly(batches):
        started.touch()
        wait(released)
        yield from batches

    # In one task: the other writer needs a core too.
    slow = events(spark, {RUN_DATE: 3}, marketplace="slow").coalesce(1)
    slow = slow.mapInPandas(slowly, slow.schema)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(replace_days, slow, path, INTERACTIONS, [RUN_DATE], {}, {})
        try:
            wait(started)
            replace_days(events(spark, {RUN_DATE: 2}, marketplace="fast"), path, INTERACTIONS, [RUN_DATE], {}, {})
        finally:
            released.touch()
        with pytest.raises(LakeError, match="interactions: another run wrote the same days"):
            late.result()
    rows = spark.read.format("delta").load(path).where(f.col("event_date") == RUN_DATE).collect()
    assert [row["marketplace"] for row in rows] == ["fast", "fast"]


def test_writers_of_different_days_do_not_disturb_each_other(spark, make_run, tmp_path):
    path = str(tmp_path / "lake/interactions")
    put(make_run().workspace, "interactions", events(spark, {YESTERDAY: 1, RUN_DATE: 1}), days=[YESTERDAY, RUN_DATE])
    older = RUN_DATE - timedelta(days=2)
    frames = {day: events(spark, {day: 2}) for day in (older, YESTERDAY, RUN_DATE)}
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(replace_days, frame, path, INTERACTIONS, [day], {}, {}) for day, frame in frames.items()]:
            done.result()
    assert stored(spark, tmp_path) == {older: 2, YESTERDAY: 2, RUN_DATE: 2}
