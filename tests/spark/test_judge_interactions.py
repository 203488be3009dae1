"""Each raw row is valid or has the reason why not; none is lost."""

import json
from datetime import date, timedelta

import pandas as pd
import pytest

from fashionrec.ingest.interactions import REASONS, judge_interactions, valid_interactions
from fashionrec.ingest.raw import RawError, raw_days, raw_files, read_raw, readable_files
from fashionrec.lake.spec import table_spec
from tests.conftest import RUN_DATE
from tests.raw_files import deliver, deliver_frame, raw_event

WINDOW = {"first_day": RUN_DATE - timedelta(days=3), "lookback_days": 3}


@pytest.fixture
def read(spark, tmp_path):
    """Return a function that reads all that was delivered."""

    def read():
        root = str(tmp_path)
        return read_raw(spark, raw_files(spark, root, raw_days(spark, root)), table_spec("raw_interactions"))

    return read


@pytest.fixture
def judged(read):
    """Return a function that judges all that was delivered: rows in the order of their IDs."""

    def judged():
        with readable_files():
            return judge_interactions(read().frame, **WINDOW).orderBy("event_id", "raw").collect()

    return judged


def reasons(rows):
    return {row.event_id: row.reason for row in rows}


REJECTED = {
    "no_user": ("missing_field", {"user_id": " "}),
    "no_time": ("missing_field", {"event_at": None}),
    "no_action": ("missing_field", {"action": None}),
    "returned": ("unknown_action", {"action": "return"}),
    "no_date": ("bad_time", {"event_at": "yesterday"}),
    "impossible": ("bad_time", {"event_at": "2026-02-30T12:00:00Z"}),
    "no_offset": ("bad_time", {"event_at": "2026-03-01T12:00:00"}),
    "last_century": ("bad_time", {"event_at": "1999-12-31T23:59:59Z"}),
    "tomorrow": ("bad_time", {"event_at": "2026-03-02T00:00:00Z"}),
    "weeks_ago": ("too_late", {"event_at": "2026-02-25T23:59:59Z"}),
    "wordless": ("search_without_query", {"action": "search", "query": " \t", "item_id": None}),
    "itemless": ("item_action_without_item", {"action": "purchase", "item_id": ""}),
    "above_the_top": ("bad_position", {"position": 0}),
}
MALFORMED = [
    "{",
    "no json",
    "null",
    "[]",
    '["a"]',
    json.dumps(raw_event("text", position="3")),
    json.dumps(raw_event("half", position=1.5)),
]


def test_every_bad_row_has_its_reason_its_text_and_its_file(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, *MALFORMED, *(raw_event(name, **fields) for name, (_, fields) in REJECTED.items()), raw_event("good"))
    rows = judged()
    assert {row.event_id: row.reason for row in rows if row.reason != "malformed"} == {
        "good": None,
        **{name: reason for name, (reason, _) in REJECTED.items()},
    }
    assert {row.reason for row in rows if row.reason} == set(REASONS)
    assert sorted(row.raw for row in rows if row.reason == "malformed") == sorted(MALFORMED)
    assert {row.file.rsplit("/", 2)[1] for row in rows} == {str(RUN_DATE)}
    assert all(row.raw is None for row in rows if not row.reason)


def test_two_objects_on_one_line_are_malformed_and_not_one_event(tmp_path, judged):
    line = json.dumps(raw_event("a")) + json.dumps(raw_event("b"))
    deliver(tmp_path, RUN_DATE, line, json.dumps(raw_event("c")) + " trailing")
    assert [row.reason for row in judged()] == ["malformed", "malformed"]


def test_times_with_any_offset_become_utc(tmp_path, judged, spark, read):
    deliver(
        tmp_path,
        RUN_DATE,
        raw_event("east", event_at="2026-03-01T00:30:00+01:00"),
        raw_event("west", event_at="2026-02-28T20:00:00-0500"),
        raw_event("fraction", event_at="2026-03-01T23:59:59.999Z"),
    )
    assert set(reasons(judged()).values()) == {None}
    rows = valid_interactions(judge_interactions(read().frame, **WINDOW)).orderBy("event_id").collect()
    assert [row.event_date for row in rows] == [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 1)]


def test_a_late_event_is_valid_within_the_lookback_of_its_arrival_and_left_to_earlier_runs_before_the_window(tmp_path, judged):
    deliver(
        tmp_path, "2026-03-01", raw_event("three_days", event_at="2026-02-26T08:00:00Z"), raw_event("four", event_at="2026-02-25T08:00:00Z")
    )
    # The run of 26 February has put this one in its day; each later run reads the folder again.
    deliver(tmp_path, "2026-02-26", raw_event("settled", event_at="2026-02-25T08:00:00Z"))
    assert reasons(judged()) == {"three_days": None, "four": "too_late", "settled": "before_window"}


def test_of_copies_the_same_one_stays_whatever_file_it_lies_in(tmp_path, judged):
    first, second = raw_event("a", item_id="1"), raw_event("a", item_id="2")
    for order in ((first, second), (second, first)):
        for name, row in zip(("x.jsonl", "y.jsonl"), order, strict=True):
            deliver(tmp_path, RUN_DATE, row, name=name)
        assert sorted((row.item_id, row.reason) for row in judged()) == [("1", None), ("2", "duplicate")]


def test_a_rejected_copy_does_not_take_the_place_of_a_good_one(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, raw_event("a", item_id=None), raw_event("a", item_id="1"))
    assert sorted((row.item_id or "", row.reason) for row in judged()) == [("", "item_action_without_item"), ("1", None)]


def test_values_that_do_not_belong_to_the_action_are_left_out_and_marked(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, raw_event("click", query="red dress"), raw_event("search", action="search", query="red\ndress", position=2))
    click, search = judged()
    assert (click.query, click.item_id, click.misplaced) == (None, "i", True)
    assert (search.query, search.item_id, search.position, search.misplaced) == ("red dress", None, None, True)


def test_json_lines_plain_and_packed_and_parquet_are_read_together(tmp_path, judged):
    for number, ending in enumerate(("jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet")):
        rows = [
            raw_event(f"s{number}", action="search", query="hat", item_id=None, results=["a", "b"]),
            raw_event(f"bad{number}", position=-1),
        ]
        deliver(tmp_path, RUN_DATE, *rows, name=f"part{number}.{ending}")
    deliver(tmp_path, RUN_DATE, "hidden files are no data", name="_SUCCESS")
    rows = judged()
    assert [row.event_id for row in rows if not row.reason] == [f"s{number}" for number in range(5)]
    assert {tuple(row.results) for row in rows if not row.reason} == {("a", "b")}
    assert all(json.loads(row.raw)["position"] == -1 for row in rows if row.reason)


def test_missing_and_retyped_parquet_columns_are_listed_at_once(tmp_path, read):
    row = {**raw_event("a"), "query": None, "position": "1", "results": None}
    deliver(tmp_path, RUN_DATE, raw_event("b"), name="good.parquet")
    deliver_frame(tmp_path, RUN_DATE, pd.DataFrame([row]).astype({"query": "string"}).drop(columns=["results", "user_id"]))
    with pytest.raises(
        RawError, match=r"odd.parquet: user_id is missing, results is missing, position is string instead of int\. "
    ) as error:
        read()
    assert "good.parquet" not in str(error.value)


def test_unknown_fields_are_named_and_kept_out(tmp_path, read, judged):
    deliver(tmp_path, RUN_DATE, raw_event("a", referrer="x"), raw_event("b"))
    assert [row.unknown for row in judged()] == [["referrer"], []]


def test_a_file_of_another_kind_is_an_error(tmp_path, read):
    deliver(tmp_path, RUN_DATE, "a,b", name="events.csv")
    with pytest.raises(RawError, match=r"events.csv: neither .jsonl"):
        read()


@pytest.mark.parametrize("name", ["events.jsonl.gz", "events.jsonl.zst", "events.parquet"])
def test_a_file_cut_off_in_the_middle_is_named(tmp_path, judged, name):
    path = deliver(tmp_path, RUN_DATE, *(raw_event(f"e{number}") for number in range(3000)), name=name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RawError, match=rf"{name}: truncated or corrupt.*nothing was written"):
        judged()


def test_a_parquet_file_with_broken_pages_is_named(tmp_path, judged):
    path = deliver(tmp_path, RUN_DATE, *(raw_event(f"e{number}") for number in range(3000)), name="events.parquet")
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    with pytest.raises(RawError, match=r"events.parquet: truncated or corrupt"):
        judged()


@pytest.mark.parametrize("name", ["events.jsonl.gz", "events.jsonl.zst", "events.parquet"])
def test_a_packed_file_of_zero_bytes_is_named(tmp_path, read, name):
    deliver(tmp_path, RUN_DATE, raw_event("a"), name=name).write_bytes(b"")
    with pytest.raises(RawError, match=rf"{name}: 0 bytes"):
        read()
