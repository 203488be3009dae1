"""Raw rows from folders as they land, from files as many tools write them, and from queries: read as they are, or named."""

import json
import os
from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as f

from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.steps.ingest import ingest_catalog, ingest_interactions
from fashionrec.settings import SettingsError, load_settings
from fashionrec.sources import headers
from fashionrec.sources.columns import RawError
from fashionrec.sources.files import Folder
from fashionrec.sources.queries import Query
from fashionrec.sources.source import delivered_days, read_days, readable
from tests.conftest import ROOT, RUN_DATE
from tests.raw_files import INTERACTION, as_csv, deliver, deliver_bytes, deliver_frame, known_items, raw_event, raw_item

YESTERDAY = date(2026, 2, 28)
NAMES = INTERACTION.names


@pytest.fixture
def read(spark, tmp_path):
    """Return a function that reads a folder's rows of the run date, in the order of their IDs."""

    def read(*days, table="raw_interactions", **options):
        source = Folder(str(tmp_path), **options)
        with readable(spark, source):
            raw = read_days(spark, source, days or [RUN_DATE], table_spec(table))
            return raw.frame.orderBy(raw.frame.columns[0], "_file").collect()

    return read


def table(**columns):
    """Return the good events a, b, c, ... as a pandas frame, with some columns in place of their own."""
    count = len(next(iter(columns.values())))
    rows = pd.DataFrame([raw_event("abcdef"[place], query=None, results=["i"], position=1) for place in range(count)], columns=NAMES)
    return rows.assign(**columns)


def test_days_lie_in_folders_of_any_key_with_folders_below_them(spark, tmp_path):
    root = tmp_path / "backup/2026-01-05/raw"
    deliver(root, "2026-03-01", raw_event("plain"))
    deliver(root, "dt=2026-03-01/hour=07", raw_event("landed"))
    deliver(root, "dt=2026-02-28/hour=23/2026-02-27", raw_event("nested"), name="x.csv")
    deliver(root, "dt=2026-02-28/_temporary", "no data")
    deliver(root, "dt=2026-03-02", raw_event("tomorrow"))
    deliver(root, "20260301", raw_event("odd"))
    source = Folder(str(root))
    found = delivered_days(spark, source, up_to=RUN_DATE)
    assert (found.days, found.not_ready, found.others) == ([YESTERDAY, RUN_DATE], [], ["20260301"])
    raw = read_days(spark, Folder(root.as_uri()), found.days, table_spec("raw_interactions"))
    rows = {row.event_id: row._arrival_date for row in raw.frame.collect()}
    assert rows == {"plain": RUN_DATE, "landed": RUN_DATE, "nested": YESTERDAY}
    assert [path.rpartition("/raw/")[2] for path in raw.files] == [
        "2026-03-01/events.jsonl",
        "dt=2026-02-28/hour=23/2026-02-27/x.csv",
        "dt=2026-03-01/hour=07/events.jsonl",
    ]


def test_a_day_without_its_marker_is_not_delivered_yet(spark, tmp_path, make_run):
    root = tmp_path / "raw/interactions"
    deliver(root, YESTERDAY, raw_event("a"))
    deliver(root, "dt=2026-03-01", raw_event("b"))
    deliver(root, "dt=2026-03-01", name="done")
    source = Folder(str(root), ready_marker="done")
    found = delivered_days(spark, source, up_to=RUN_DATE)
    assert (found.days, found.not_ready) == ([RUN_DATE], [YESTERDAY])
    assert [row.event_id for row in read_days(spark, source, found.days, table_spec("raw_interactions")).frame.collect()] == ["b"]
    with pytest.raises(RawError, match=r"raw/interactions/2026-02-28: not complete, done is not in it yet"):
        ingest_interactions(make_run("ingest.ready_marker=done", run_date=YESTERDAY))


@pytest.mark.parametrize(("sign", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("|", "a.csv.gz")])
def test_what_separates_cells_is_told_by_the_header(tmp_path, read, sign, name):
    row = as_csv(raw_event("a", action="search", query="red, long", item_id=None))
    assert row.count(",") > len(NAMES)
    line = sign.join(["a", "u", "2026-03-01T12:00:00Z", "search", f'"red{sign} long"', "", "2", '"[""i"", ""j""]"'])
    deliver(tmp_path, RUN_DATE, sign.join(NAMES), line, name=name)
    (found,) = read()
    assert (found.event_id, found.query, found.position, found.results) == ("a", f"red{sign} long", 2, ["i", "j"])


TIMES = {"epoch_seconds": (1772366400, 1772366400.25, "1772366400"), "epoch_millis": (1772366400000, 1772366400250, "1772366400000")}


@pytest.mark.parametrize("unit", TIMES)
def test_times_may_be_declared_to_be_numbers_of_the_epoch(tmp_path, read, unit):
    whole, part, text = TIMES[unit]
    iso = "2026-03-01T12:00:00Z"
    events = [raw_event(name, event_at=at) for name, at in zip("abcde", (whole, part, text, iso, "soon"), strict=True)]
    deliver(tmp_path, RUN_DATE, *events)
    deliver(tmp_path, RUN_DATE, *({**event, "event_id": f"csv {event['event_id']}"} for event in events), name="a.csv")
    deliver_frame(tmp_path, RUN_DATE, table(event_at=[whole, whole]).assign(event_id=["p", "q"]))
    noon, later = "2026-03-01T12:00:00.000000Z", "2026-03-01T12:00:00.250000Z"
    rows = {row.event_id: row.event_at for row in read(time=unit)}
    expected = {"a": noon, "b": later, "c": noon, "d": iso, "e": "soon"}
    assert rows == {**expected, **{f"csv {name}": time for name, time in expected.items()}, "p": noon, "q": noon}


HARD_NAMES = ("part[0].jsonl", "part0.jsonl", "b*.jsonl", "bb.jsonl", "{a,b}.jsonl", "q?.jsonl", "12:00.jsonl", "100%.jsonl", "a\\b.jsonl")


def test_names_are_no_patterns(tmp_path, make_run):
    root = tmp_path / "shop[eu] *"
    known_items(make_run(f"paths.root={root}"), "i")
    for number, name in enumerate((*HARD_NAMES, "12:00[1].csv", "12:00*.parquet")):
        deliver(root / "raw/interactions", RUN_DATE, raw_event(str(number), user_id=str(number)), name=name)
    deliver(root / "raw/interactions", f"{RUN_DATE}/hour=07:00", raw_event("nested", user_id="n"))
    deliver(tmp_path / "shope *" / "raw/interactions", RUN_DATE, raw_event("of a neighbour"))
    run = make_run(f"paths.root={root}")
    ingest_interactions(run)
    assert (run.figures["rows_in"], run.rows_written["interactions"], run.warnings[1:]) == (12, 12, [])


def test_every_entry_of_a_folder_is_read_or_named(tmp_path, read):
    folder = deliver(tmp_path, RUN_DATE, raw_event("a")).parent
    (folder / "gone.jsonl").symlink_to("/nowhere")
    latin = os.fsencode(folder) + b"/Z\xfcrich.jsonl"
    with open(latin, "w", encoding="utf-8") as file:
        file.write(json.dumps(raw_event("b")))
    with pytest.raises(RawError, match=r"/Z.rich\.jsonl: Java cannot spell its name in this locale.*; .*/gone\.jsonl: a link to nothing"):
        read()
    os.remove(latin)
    (folder / "gone.jsonl").unlink()
    (folder / "again").symlink_to(folder)
    with pytest.raises(RawError, match=r"/again: a link back to .*2026-03-01"):
        read()
    (folder / "again").unlink()
    (folder / "other.jsonl").symlink_to(deliver(tmp_path, "elsewhere", raw_event("linked")))
    (tmp_path / "2026-02-28").symlink_to(deliver(tmp_path, "other", raw_event("of a linked day")).parent)
    assert [row.event_id for row in read(YESTERDAY, RUN_DATE)] == ["a", "linked", "of a linked day"]
    (tmp_path / "2026-02-27").symlink_to("/nowhere")
    with pytest.raises(RawError, match=r"/2026-02-27: a link to nothing"):
        read()


def test_a_folder_of_parts_that_is_named_like_a_file_is_read_as_one(spark, tmp_path, read):
    lines = [json.dumps(raw_event(name)) for name in "abc"]
    rows = spark.createDataFrame([(line,) for line in lines], "value string").repartition(2)
    rows.write.text(str(tmp_path / "2026-03-01/x.jsonl"))
    rows.write.option("compression", "gzip").text(str(tmp_path / "2026-03-01/y.jsonl"))
    spark.read.json(str(tmp_path / "2026-03-01/x.jsonl")).withColumn("query", f.lit(None).cast("string")).withColumns(
        {"position": f.lit(1), "results": f.lit(None).cast("array<string>")}
    ).write.parquet(str(tmp_path / "2026-03-01/z.parquet"))
    assert [row.event_id for row in read()] == ["a", "a", "a", "b", "b", "b", "c", "c", "c"]


def test_parquet_of_many_tools_is_read_where_no_value_is_lost(tmp_path, read):
    at = pd.to_datetime(["2026-03-01T12:00:00.123456789Z", "2026-03-01T13:00:00+01:00", None], format="ISO8601", utc=True)
    deliver_frame(tmp_path, RUN_DATE, table(event_at=at, position=[1.0, None, 2.5], user_id=[7, 8, 9], query=[float("nan")] * 3))
    a, b, c = read()
    assert (a.event_at, b.event_at, c.event_at) == ("2026-03-01T12:00:00.123456789Z", "2026-03-01T12:00:00.000000000Z", None)
    assert [(row.position, row.user_id, row.query, row._malformed) for row in (a, b, c)] == [
        (1, "7", None, False),
        (None, "8", None, False),
        (None, "9", None, True),
    ]
    assert json.loads(c._text)["position"] == 2.5
    frame = table(event_at=at.floor("us"), position=[1, 2, 2**40], results=[[], [], []])
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "2026-03-01/odd.parquet", coerce_timestamps="us")
    rows = read()
    assert [(row.event_at, row.position, row._malformed) for row in rows] == [
        ("2026-03-01T12:00:00.123456Z", 1, False),
        ("2026-03-01T12:00:00.000000Z", 2, False),
        (None, None, True),
    ]


REFUSED = {
    "event_at is timestamp in nanoseconds without a time zone": {"event_at": pd.to_datetime(["2026-03-01T12:00"])},
    "event_at is bigint": {"event_at": [1772366400]},
    "event_at is date": {"event_at": [date(2026, 3, 1)]},
    "position is string": {"position": ["1"]},
    "user_id is double": {"user_id": [1.0]},
    "results is string": {"results": ["[]"]},
}


def test_what_parquet_cannot_say_is_one_line_with_each_file(tmp_path, read):
    for number, columns in enumerate(REFUSED.values()):
        deliver_frame(tmp_path, RUN_DATE, table(**columns)).rename(tmp_path / f"2026-03-01/{number}.parquet")
    with pytest.raises(RawError) as error:
        read()
    for number, fault in enumerate(REFUSED):
        assert f"2026-03-01/{number}.parquet: {fault} instead of " in str(error.value)
    assert "\n" not in str(error.value)


def test_dates_and_structures_of_a_catalogue_are_read(tmp_path, read):
    items = pd.DataFrame([raw_item(str(number), attributes={"season": "Summer"}) for number in range(2)])
    items["first_available_date"] = pd.to_datetime(["2026-03-01", None])
    items["price"] = pd.array([3, None], dtype="Int64")
    deliver_frame(tmp_path, RUN_DATE, items.assign(brand=None, colour=None, size=None, currency=None, in_stock=True, image_url=None))
    first, second = read(table="raw_catalog")
    assert (first.first_available_date[:10], first.price, first.attributes) == ("2026-03-01", 3.0, {"season": "Summer"})
    assert (second.first_available_date, second.price, second._malformed) == (None, None, False)


def test_bytes_that_are_no_utf_8_are_told_in_parquet_too(tmp_path, read):
    rows = [raw_event(name, query="caf\u00e9", results=["\u00e9"], position=1) for name in "abc"]
    tainted = pa.Table.from_pylist(rows, INTERACTION)
    latin = pa.array([b"caf\xe9", b"cafe", b"cafe"]).view(pa.string())
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], pa.array([b"e", b"\xe9", b"e"]).view(pa.string()))
    tainted = tainted.set_column(NAMES.index("query"), "query", latin).set_column(NAMES.index("results"), "results", lists)
    pq.write_table(tainted, deliver(tmp_path, RUN_DATE, rows[0], name="a.parquet"))
    assert [(row.event_id, row._bad_encoding) for row in read()] == [("a", True), ("b", True), ("c", False)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_many_files_do_not_pass_through_the_driver_one_by_one(spark, tmp_path, monkeypatch, ending):
    first = deliver(tmp_path, RUN_DATE, raw_event("a", results=["i"], query=None, position=1), name=f"0.{ending}")
    for number in range(1, 300):
        os.link(first, first.with_name(f"{number}.{ending}"))
    opened, original = [], headers._open
    monkeypatch.setattr(headers, "_open", lambda spark, path: opened.append(path) or original(spark, path))
    raw = read_days(spark, Folder(str(tmp_path)), [RUN_DATE], table_spec("raw_interactions"))
    assert raw.frame.count() == len(raw.files) == 300
    assert len(opened) <= 1
    # One path in the plan: the folder's.
    assert str(raw.frame._jdf.queryExecution()).count("file:/") <= 3


@pytest.fixture
def shop_table(spark, tmp_path):
    """Return the path of a shop's own Delta table, with names, actions and units of its own."""
    path = str(tmp_path / "shop_events")
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rows = [(n, n % 3, noon, ("VIEW", "BUY", "stare")[n % 3], f"i{n}" if n else "i", date(2026, 3, n // 8 + 1)) for n in range(9)]
    spark.createDataFrame(rows, "id long, customer int, ts timestamp, verb string, sku string, landed date").write.format("delta").save(
        path
    )
    return path


MAPPING = """SELECT id AS event_id, customer AS user_id, ts AS event_at, 'i' AS item_id, NULL AS query, 1L AS position, NULL AS results,
  CASE verb WHEN 'VIEW' THEN 'click' WHEN 'BUY' THEN 'purchase' ELSE verb END AS action, sku FROM delta.`{path}` WHERE landed = :date"""


def test_a_query_gives_rows_that_are_judged_and_counted_like_files(make_run, shop_table):
    known_items(make_run(), "i")
    query = f"ingest.interactions.query={json.dumps(MAPPING.format(path=shop_table))}"
    run = make_run(query, "ingest.max_quarantine_rate=0.5", "ingest.lookback_days=1")
    ingest_interactions(run)
    assert run.figures | {"quarantined": 2, "rows_in": 8} == run.figures
    assert "columns that the contract does not know were left out: sku" in run.warnings
    rows = make_run().read("interactions").collect()
    assert {row.action for row in rows} == {"click", "purchase"}
    (reason,) = {(row.reason, row.file) for row in make_run().read("quarantine").collect()}
    assert reason == ("unknown_action", "ingest.interactions.query")
    with pytest.raises(RawError, match=r"interactions of 2026-03-05: empty day"):
        ingest_interactions(make_run(query, "ingest.lookback_days=0", run_date=date(2026, 3, 5)))


def test_a_catalogue_may_be_a_query(make_run, spark, tmp_path):
    spark.createDataFrame([("a", "Red dress", RUN_DATE), ("b", "Hat", YESTERDAY)], "sku string, name string, day date").write.parquet(
        str(tmp_path / "items")
    )
    nothing = ", ".join(f"NULL AS {name}" for name in ("brand", "colour", "size", "currency", "image_url", "first_available_date"))
    query = (
        f"SELECT sku AS item_id, name AS title, 'Clothing' AS category, 995 / 100 AS price, true AS in_stock, {nothing}, "
        f"map('season', 'Summer') AS attributes FROM parquet.`{tmp_path}/items` WHERE day = :date"
    )
    run = make_run(f"ingest.catalog.query={json.dumps(query)}")
    ingest_catalog(run)
    (row,) = make_run().read("items").collect()
    assert (row.item_id, row.title, row.price, row.attributes) == ("a", "Red dress", 9.95, {"season": "Summer"})


BAD_QUERIES = {
    "SELEC 1 WHERE :date": r"ingest\.interactions\.query: \[PARSE_SYNTAX_ERROR\]",
    "SELECT * FROM nowhere WHERE day = :date": r"ingest\.interactions\.query: \[TABLE_OR_VIEW_NOT_FOUND\]",
    "SELECT 'a' AS event_id, 1.5D AS user_id, :date AS event_at": r"query: action is missing, .*user_id is double instead of string",
    MAPPING.replace("1L", "CAST('x' AS INT)"): r"ingest\.interactions\.query: .*CAST_INVALID_INPUT",
}


@pytest.mark.parametrize("text", BAD_QUERIES)
def test_a_query_that_spark_or_the_contract_refuses_is_one_line(spark, shop_table, text):
    source = Query("ingest.interactions.query", text.format(path=shop_table))
    with pytest.raises(RawError, match=BAD_QUERIES[text]) as error, readable(spark, source):
        read_days(spark, source, [RUN_DATE], table_spec("raw_interactions")).frame.collect()
    assert "\n" not in str(error.value)


def test_a_query_without_a_date_is_refused():
    with pytest.raises(SettingsError, match=r"ingest\.catalog\.query: the query has no :date"):
        load_settings(ROOT / "conf/test.yaml", ["ingest.catalog.query=SELECT 1"])


def test_a_quote_out_of_place_costs_no_row_but_its_own(tmp_path, read):
    lines = [f'{n},u{n},2026-03-01T12:00:00Z,search,{q},,,"[""i"", ""j""]"' for n, q in enumerate(('"red', '12" tv', '"a ""b"" c"'))]
    deliver(tmp_path, RUN_DATE, ",".join(NAMES), *lines, name="a.csv")
    assert [(row.query, row.results, row._malformed) for row in read()] == [
        ("red", None, True),
        ('12" tv', ["i", "j"], False),
        ('a "b" c', ["i", "j"], False),
    ]


def test_a_csv_record_that_begins_like_json_is_no_json(tmp_path, make_run):
    known_items(make_run(), "i")
    rows = [f"{{{number}}},Ann;Smith,2026-03-01T12:00:00Z,click" for number in range(2)]
    deliver_bytes(tmp_path / "raw/interactions", RUN_DATE, "a.csv", "\n".join([",".join(NAMES), *rows, ""]).encode())
    with pytest.raises(RawError, match="malformed 2"):
        ingest_interactions(make_run())
    assert all("Ann" not in row.raw for row in make_run().read("quarantine").collect())
