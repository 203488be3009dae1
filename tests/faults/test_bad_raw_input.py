"""Whatever a producer delivers: one clear line or a counted quarantine, and the tables as they were."""

import gzip
import json

import pytest
import zstandard
from delta.tables import DeltaTable

from fashionrec.pipeline.steps.ingest import ingest_interactions
from fashionrec.sources.columns import RawError
from tests.builders import RUN_DATE, run_of, workspace_in
from tests.raw_files import as_csv, deliver, deliver_bytes, known_items, raw_event

GOOD = [raw_event(f"good{number}", user_id=f"u{number}", position=number + 1) for number in range(30)]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD).encode()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def lines(*rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def changed(**fields):
    """Return the good rows with other fields; None takes one out."""
    rows = [{**row, **fields, "event_id": f"noon{number}"} for number, row in enumerate(GOOD)]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


HEADER = as_csv(*GOOD).split("\n", 1)


def searches(**queries):
    """Return searches as CSV, one a line, some of them (`n5`) with a query as it stands there."""
    lines = [f"e{n},u{n},2026-03-01T12:00:00Z,search,{queries.get(f'n{n}', 'hat')},,," for n in range(1, 31)]
    return "\n".join([HEADER[0], *lines, ""]).encode()


CASES = {
    "a truncated gzip": ({"a.jsonl.gz": cut(gzip.compress(LINES))}, r"a\.jsonl\.gz: truncated or corrupt.*nothing was written"),
    "a truncated zstd": ({"a.jsonl.zst": cut(zstandard.compress(LINES * 50))}, r"a\.jsonl\.zst: truncated or corrupt"),
    "a truncated CSV": ({"a.csv.gz": cut(gzip.compress(as_csv(*GOOD).encode()))}, r"a\.csv\.gz: truncated or corrupt"),
    "Parquet that is none": ({"a.parquet": b"PAR1 not really"}, r"a\.parquet: truncated or corrupt"),
    "packed files of zero bytes": ({"a.jsonl.gz": b"", "b.parquet": b"", "c.csv": b""}, r"a\.jsonl\.gz, .*b\.parquet, .*c\.csv: 0 bytes"),
    "plain files of zero bytes": ({"a.jsonl": b"", "b.json": b"\n \n"}, r"2026-03-01: empty day, no valid row in it"),
    "a folder without files": ({"_SUCCESS": b""}, r"2026-03-01: empty day"),
    "a CSV with a header and no row": ({"a.csv": HEADER[0].encode() + b"\n"}, r"2026-03-01: empty day"),
    "files of another kind": ({"a.txt": b"x", "b.avro": b"y"}, r"a\.txt, .*b\.avro: neither \.jsonl"),
    "a CSV without a header": ({"a.csv": HEADER[1].encode()}, r"a\.csv: event_id is missing, user_id is missing.*results is missing"),
    "a CSV with a wrong header": (
        {"a.csv": as_csv(*GOOD).replace("user_id", "customer", 1).replace("position", "event_id", 1).encode()},
        r"a\.csv: user_id is missing, position is missing, event_id more than once in the header",
    ),
    "a CSV in UTF-16": ({"a.csv": as_csv(*GOOD).encode("utf-16")}, r"a\.csv: truncated or corrupt \(its header is not UTF-8 text\)"),
    "lines in UTF-16": ({"a.jsonl": LINES.decode().encode("utf-16")}, r"100\.0% of \d+ rows rejected.*: bad_encoding \d+\."),
    "only bad rows": ({"a.jsonl": lines(*changed(action="stare"))}, r"100\.0% of 30 rows rejected.*: unknown_action 30\."),
    "broken lines only": ({"a.jsonl": b"{\n" * 30}, r"100\.0% of 30 rows rejected.*: malformed 30\."),
    "a quote that is never closed": (
        {"a.jsonl": LINES, "b.csv": searches(n5='"red')},
        r"/b\.csv, line 6: a record over 26 lines, as a quote that is never closed makes one",
    ),
    "a quote that another row closes": (
        {"b.csv.gz": gzip.compress(searches(n5='"red', n9='coat"').replace(b",hat,", b",,"))},
        r"/b\.csv\.gz, line 6: a record over 5 lines",
    ),
    "a quote that another column of a row closes": (
        {"b.csv": searches(n5='"red').replace(b"e9,u9,", b'e9,u9",')},
        r"/b\.csv, line 6: a record over 5 lines",
    ),
    "a field retyped at noon": (
        {"morning.jsonl": LINES, "noon.jsonl": lines(*changed(position="3"))},
        r"/noon\.jsonl: position is text instead of a whole number \(all 30 rows\)\. ",
    ),
    "fields renamed at noon, in two files": (
        {
            "morning.jsonl": LINES,
            "n1.jsonl.gz": gzip.compress(lines(*changed(user_id=None, uid="x"))),
            "n2.jsonl": lines(*changed(action=None)),
        },
        r"n1\.jsonl\.gz: unknown: uid, user_id is missing \(all 30 rows\); .*n2\.jsonl: action is missing \(all 30 rows\)",
    ),
    "times as numbers at noon": (
        {"morning.jsonl": LINES, "noon.jsonl": lines(*changed(event_at=1772366400000))},
        r"/noon\.jsonl: event_at is a whole number instead of text \(all 30 rows\)",
    ),
    "CSV cells retyped at noon": (
        {"morning.csv": as_csv(*GOOD).encode(), "noon.csv": as_csv(*changed(position="third")).encode()},
        r"/noon\.csv: position is text instead of a whole number \(all 30 rows\)",
    ),
    "a needed field of some actions renamed": (
        {"a.jsonl": LINES, "b.jsonl": lines(*changed(item_id=None, itemId="i"))},
        r"50\.0% of 60 rows rejected.*item_action_without_item 30\. Fields that the contract does not know: itemId\.",
    ),
}


@pytest.fixture(scope="module")
def shop(spark, tmp_path_factory):
    """Return a folder whose table holds a good day, and a function that ingests the day from another raw folder."""
    root = tmp_path_factory.mktemp("shop")

    def ingest(raw):
        run = run_of(workspace_in(root, spark, f"paths.raw_interactions={raw}"))
        ingest_interactions(run)
        return run

    known_items(run_of(workspace_in(root, spark)), "i")
    deliver(root / "raw/interactions", RUN_DATE, *GOOD)
    ingest(root / "raw/interactions")
    return root, ingest


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_in_one_line_and_the_table_is_as_it_was(spark, shop, tmp_path, case):
    root, ingest = shop
    table = DeltaTable.forPath(spark, str(root / "lake/interactions"))
    files, message = CASES[case]
    for name, data in files.items():
        deliver_bytes(tmp_path, RUN_DATE, name, data)
    before = table.history(1).first()["version"]
    with pytest.raises(RawError, match=message) as error:
        ingest(tmp_path)
    assert "\n" not in str(error.value)
    assert table.history(1).first()["version"] == before
    assert table.toDF().count() == len(GOOD)


def test_quoted_line_ends_and_a_late_file_of_another_kind_are_no_fault(spark, shop, tmp_path):
    root, ingest = shop
    search = raw_event("s", action="search", query='red\n"dress", long', item_id=None, results=["i"], user_id="q")
    deliver_bytes(tmp_path, RUN_DATE, "a.csv", as_csv(*GOOD, search).encode())
    run = ingest(tmp_path)
    assert run.figures | {"rows_in": 31, "quarantined": 0, "duplicate_count": 0, "near_duplicate_count": 0} == run.figures
    rows = DeltaTable.forPath(spark, str(root / "lake/interactions")).toDF()
    assert [row.query for row in rows.where("action = 'search'").collect()] == ['red "dress", long']
