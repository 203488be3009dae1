"""Each raw row is valid or has the reason why not; none is lost, and no user's ID gets through."""

import json
from datetime import date

import pytest

from fashionrec.ingest.interactions import COLUMNS, MOST_RESULTS, REASONS, judge_interactions, valid_interactions, verdicts_among
from fashionrec.ingest.pseudonyms import pseudonym
from fashionrec.ingest.verdicts import with_verdicts
from fashionrec.lake.spec import table_spec
from fashionrec.sources.files import Folder
from fashionrec.sources.source import delivered_days, read_days, readable
from tests.builders import table_rows
from tests.conftest import RUN_DATE
from tests.raw_files import deliver, deliver_bytes, raw_event

KEY = b"a key of the tests, long enough"
WINDOW = {"lookback_days": 3, "max_text_length": 40}


@pytest.fixture
def read(spark, tmp_path):
    """Return a function that reads what was delivered, or the folders of some days of it."""

    def read(days=None):
        source = Folder(str(tmp_path))
        return read_days(spark, source, days or delivered_days(spark, source, up_to=date.max).days, table_spec("raw_interactions"))

    return read


@pytest.fixture
def judge(spark, read):
    """Return a function that judges all that was delivered, by itself and against the others."""

    def judge(days=None, **window):
        rows = judge_interactions(read(days).frame, key=KEY, **(WINDOW | window)).persist()
        nothing = table_rows(spark, "interactions")
        among = verdicts_among(rows, nothing, near_duplicate_seconds=2, lookback_days=(WINDOW | window)["lookback_days"])
        return with_verdicts(rows, among, reasons=REASONS, columns=COLUMNS)

    return judge


@pytest.fixture
def judged(spark, judge, tmp_path):
    """Return a function that gives the judged rows in the order of their IDs."""

    def judged(**window):
        with readable(spark, Folder(str(tmp_path))):
            return judge(**window).orderBy("event_id", "raw").collect()

    return judged


def reasons(rows):
    return {row.event_id: row.reason for row in rows}


REJECTED = {
    "nameless": ("bad_user_id", {"user_id": "NULL"}),
    "no_time": ("missing_field", {"event_at": None}),
    "no_action": ("missing_field", {"action": None}),
    "long_query": ("text_too_long", {"action": "search", "query": "red " * 11, "item_id": None}),
    "long_item": ("text_too_long", {"item_id": "i" * 41}),
    "long_result": ("text_too_long", {"action": "search", "query": "hat", "item_id": None, "results": ["a", "i" * 41]}),
    "crawled": ("too_many_results", {"action": "search", "query": "hat", "item_id": None, "results": ["a"] * (MOST_RESULTS + 1)}),
    "objects": ("malformed", {"action": "search", "query": "hat", "item_id": None, "results": [{"id": "i"}]}),
    "lists": ("malformed", {"action": "search", "query": "hat", "item_id": None, "results": ["i", ["i"]]}),
    "objects_paid": ("malformed", {"action": "search", "query": "hat", "item_id": None, "results": ["i"], "sponsored_results": [{}]}),
    "[1]": ("malformed", {}),
    "returned": ("unknown_action", {"action": "return"}),
    "no_date": ("bad_time", {"event_at": "yesterday"}),
    "impossible": ("bad_time", {"event_at": "2026-02-30T12:00:00Z"}),
    "american": ("bad_time", {"event_at": "03/01/2026 12:00:00"}),
    "no_offset": ("no_time_zone", {"event_at": "2026-03-01T12:00:00"}),
    "no_hour": ("bad_time", {"event_at": "2026-03-01"}),
    "hour_25": ("bad_time", {"event_at": "20260301T2500Z"}),
    "past_midnight": ("bad_time", {"event_at": "2026-03-01T24:00:01Z"}),
    "no_leap": ("bad_time", {"event_at": "2026-03-01T12:00:60Z"}),
    "no_zone": ("no_time_zone", {"event_at": "20260301T1200"}),
    "before": ("before_epoch", {"event_at": "1969-12-31T23:59:59Z"}),
    "clock_never_set": ("before_epoch", {"event_at": "1970-01-01T00:00:07Z"}),
    "tomorrow_noon": ("local_time", {"event_at": "2026-03-02T13:59:59Z"}),
    "midnight": ("local_time", {"event_at": "2026-03-02T00:00:00Z"}),
    "tomorrow_evening": ("future", {"event_at": "2026-03-02T14:00:00Z"}),
    "weeks_ago": ("too_late", {"event_at": "2026-02-25T23:59:59Z"}),
    "last_century": ("too_late", {"event_at": "1999-12-31T23:59:59Z"}),
    "wordless": ("search_without_query", {"action": "search", "query": " \t", "item_id": None}),
    "itemless": ("item_action_without_item", {"action": "purchase", "item_id": ""}),
    "above_the_top": ("bad_position", {"position": 0}),
    "replaced": ("bad_encoding", {"action": "search", "query": "caf\ufffd", "item_id": None}),
}
MALFORMED = [
    "{",
    "no json",
    "null",
    "[]",
    '["a"]',
    json.dumps(raw_event("text", position="3")),
    json.dumps(raw_event("half", position=1.5)),
    json.dumps(raw_event("nested", item_id={"id": "i"})),
    json.dumps(raw_event("listed", item_id=["i"])),
]


def test_every_bad_row_has_its_reason_its_text_and_its_file(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, *MALFORMED, *(raw_event(name, **fields) for name, (_, fields) in REJECTED.items()), raw_event("good"))
    deliver(tmp_path, RUN_DATE, raw_event("good", item_id="another"), name="later.jsonl")
    rows = judged()
    (conflict,) = (row for row in rows if row.reason == "conflicting_id")
    assert conflict.event_id == "good"
    assert json.loads(conflict.raw)["item_id"] == conflict.item_id
    found = {row.event_id: row.reason for row in rows if row is not conflict and (row.reason != "malformed" or row.event_id in REJECTED)}
    assert found == {"good": None, **{name: reason for name, (reason, _) in REJECTED.items()}}
    assert {row.reason for row in rows if row.reason} == set(REASONS)
    hidden = pseudonym(KEY, "u")
    expected = [line.replace('"user_id": "u"', f'"user_id":"{hidden}"') for line in MALFORMED]
    malformed = [row.raw for row in rows if row.reason == "malformed" and row.event_id not in REJECTED]
    assert sorted(malformed) == sorted(expected)
    assert max(len(row.raw) for row in rows if row.raw) <= 10_000
    assert {row.file.rsplit("/", 2)[1] for row in rows} == {str(RUN_DATE)}
    assert all(bool(row.raw) == bool(row.reason) for row in rows)


def test_no_users_or_devices_id_gets_through_in_any_column_or_rejected_text(tmp_path, judged):
    secret = {"user_id": 'Ann "\u00e9" Smith', "device_id": "phone-of-ann"}
    deliver(
        tmp_path,
        RUN_DATE,
        raw_event("good", **secret),
        raw_event("good", item_id="gone", **secret),
        raw_event("bad", position=-1, **secret),
        raw_event("other_name", user_id=None, userId="phone-of-ann", Customer_ID=["phone-of-ann"], device_id="x"),
        json.dumps(raw_event("cut", **secret))[:-3],
        json.dumps(raw_event("two", **secret)) + json.dumps(raw_event("objects", **secret)),
        json.dumps(raw_event("middle"))[:-1] + ', "device_id": "phone-of-ann',
    )
    deliver(tmp_path, RUN_DATE, raw_event("parquet", position=-1, user_id="Ann Smith"), name="p.parquet")
    ragged = 'event_id,user_id,event_at,action,query,item_id,position,results\nragged,Ann Smith,"2026-03-01T12:00:00Z",click,,i,1,,more\n'
    deliver_bytes(tmp_path, RUN_DATE, "r.csv", ragged.encode())
    rows = judged()
    assert len(rows) == 9
    for row in rows:
        assert "ann" not in str(row).lower(), row
    good = next(row for row in rows if not row.reason)
    assert (good.user_id, good.device_id) == (pseudonym(KEY, secret["user_id"]), pseudonym(KEY, secret["device_id"]))
    by_id = {row.event_id: row.raw for row in rows}
    assert json.loads(by_id["bad"])["user_id"] == pseudonym(KEY, secret["user_id"])
    assert json.loads(by_id["parquet"])["user_id"] == pseudonym(KEY, "Ann Smith")
    assert f"ragged,{pseudonym(KEY, 'Ann Smith')}," in by_id["ragged"]


def test_an_id_is_hidden_however_its_field_is_spelt_and_wherever_it_stands(tmp_path, judged):
    event = json.dumps(raw_event("e", position=-1, user_id="ann.smith"))
    lines = {
        "quotes": event.replace('"', "'"),
        "escaped key": event.replace("user_id", "user\\u005fid"),
        "escaped in another field": event.replace('"e"', '"e", "referrer": "/u/ann\\u002Esmith?x=1"'),
        "another field": event.replace('"e"', '"e", "referrer": "https://x/u/ann.smith?x=1"'),
        "another quoted field": json.dumps(raw_event("e", position=-1, user_id="Ann", name="Ann")),
        "nested": json.dumps(raw_event("e", user_id={"shop": {"id": "ann.smith"}})),
        "payload": json.dumps(raw_event("e", user_id="x", position=-1, payload=json.dumps({"user_id": "ann.smith"}))),
        "assigned": "user_id=ann.smith&x=1",
        "without quotes": "{user_id: ann.smith}",
        "cut off": event[: event.index("smith") + 2].replace("event_id", "x"),
        "in JSON": json.dumps(raw_event("e", position=-1, user_id='ann "x" smith', note='by ann "x" smith')),
    }
    deliver(tmp_path, RUN_DATE, *lines.values())
    rows = judged()
    assert len(rows) == len(lines)
    for row in rows:
        assert row.reason
        assert "ann" not in row.raw.lower(), row.raw


def test_a_rejected_row_with_a_very_long_id_is_quarantined(tmp_path, judged):
    """A pattern that goes back once per character ends the JVM."""
    long = {"token": "x" * 1_000_000, "escapes": 'x"\\' * 300_000, "list": ["a"] * 300_000}
    deliver(tmp_path, RUN_DATE, *(raw_event(name, user_id=value) for name, value in long.items()), "'user_id': '" + "y" * 1_000_000)
    assert sorted(row.reason for row in judged()) == ["malformed", "malformed", "text_too_long", "text_too_long"]


def test_visitors_whom_the_shop_does_not_know_are_left_out_and_not_rejected(tmp_path, judged):
    nobody = [raw_event("null", user_id=None), raw_event("blank", user_id=" "), raw_event("also_odd", user_id="", position=-1)]
    deliver(tmp_path, RUN_DATE, *nobody, raw_event("renamed", user_id=None, userId="ann"))
    rows = {row.event_id: row for row in judged()}
    assert {row.reason for row in rows.values()} == {"anonymous"}
    # The text of a row whose user may stand in another field shows so.
    assert [name for name, row in rows.items() if row.raw] == ["renamed"]
    assert "ann" not in rows["renamed"].raw


def test_what_is_no_id_is_rejected_and_shown(tmp_path, judged):
    no_ids = ["{}", "[1]", '{ "id": "ann" }', "NULL", "null", " None", "nan", "undefined", r"\N", "\t", "\u00a0", "\u200b"]
    deliver(tmp_path, RUN_DATE, *(raw_event(f"e{n}", user_id=name) for n, name in enumerate(no_ids)), raw_event("x", device_id="null"))
    deliver(tmp_path, RUN_DATE, raw_event("guid", user_id="{550e8400-e29b-41d4-a716-446655440000}"), name="g.jsonl")
    rows = {row.event_id: row for row in judged()}
    assert {rows[f"e{n}"].reason for n in range(len(no_ids))} <= {"bad_user_id", "malformed"}
    assert (rows["x"].reason, rows["x"].device_id, rows["guid"].reason) == (None, None, None)
    assert '"NULL"' in rows["e3"].raw
    assert "ann" not in rows["e2"].raw


def test_every_form_of_a_time_of_iso_8601_is_read(tmp_path, judged):
    noon = ["2026-03-01T12:00Z", "2026-03-01T13:00:00+01", "2026-03-01t12:00:00z", "20260301T120000Z", "2026-03-01T12Z"]
    noon += ["2026-03-01T12:00:00,000Z", "2026-03-01T12:00:00Z[UTC]", "2026-03-01T13:00+01:00[Europe/Berlin]", " 2026-03-01T12:00:00Z\t"]
    noon += ["20260301T0700-0500", "2026-03-01T07:00\u221205:00", "2026-03-01T12:00:00.000000000000Z"]
    others = {"2026-02-28T24:00:00Z": "2026-03-01T00:00:00", "20260228T24Z": "2026-03-01T00:00:00"}
    others |= {"2026-03-01T11:59:60Z": "2026-03-01T12:00:00", "2026-03-01T12:06:00,123Z": "2026-03-01T12:06:00.123000"}
    times = dict.fromkeys(noon, "2026-03-01T12:00:00") | others
    deliver(tmp_path, RUN_DATE, *(raw_event(f"{n:02}", event_at=at, user_id=str(n)) for n, at in enumerate(times)))
    read = [row.event_at.isoformat() if row.event_at else row.reason for row in judged()]
    assert dict(zip(times, read, strict=True)) == times


def test_two_objects_on_one_line_are_malformed_and_not_one_event(tmp_path, judged):
    line = json.dumps(raw_event("a")) + json.dumps(raw_event("b"))
    deliver(tmp_path, RUN_DATE, line, json.dumps(raw_event("c")) + " trailing")
    assert [row.reason for row in judged()] == ["malformed", "malformed"]


def test_bytes_that_are_no_utf_8_go_to_quarantine_and_a_mark_at_the_start_is_no_fault(tmp_path, judged):
    latin = json.dumps(raw_event("latin", action="search", query="café", item_id=None), ensure_ascii=False).encode("latin-1")
    deliver_bytes(tmp_path, RUN_DATE, "marked.jsonl", b"\xef\xbb\xbf" + json.dumps(raw_event("marked")).encode() + b"\n" + latin + b"\n")
    assert reasons(judged()) == {"latin": "bad_encoding", "marked": None}
    wide = "".join(json.dumps(raw_event(f"w{number}")) + "\n" for number in range(3))
    deliver_bytes(tmp_path, RUN_DATE, "marked.jsonl", wide.encode("utf-16"))
    rows = judged()
    assert {row.reason for row in rows} == {"bad_encoding"}
    assert len(rows) >= 3


def test_times_with_any_offset_become_utc(spark, tmp_path, judge):
    deliver(
        tmp_path,
        RUN_DATE,
        raw_event("east", event_at="2026-03-01T00:30:00+01:00"),
        raw_event("west", event_at="2026-02-28T20:00:00-0500"),
        raw_event("fraction", event_at="2026-03-01T23:59:59.999Z"),
    )
    nowhere = spark.createDataFrame([], "file string, part long, first_row long, first_number long")
    rows = valid_interactions(judge(), nowhere).orderBy("event_id").collect()
    assert [row.event_date for row in rows] == [date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 1)]


def test_a_late_event_is_valid_within_the_lookback_of_its_arrival(tmp_path, judged):
    for number, name in ((26, "three_days"), (25, "four")):
        deliver(tmp_path, "2026-03-01", raw_event(name, event_at=f"2026-02-{number}T08:00:00Z"), name=f"{name}.jsonl")
    assert reasons(judged()) == {"three_days": None, "four": "too_late"}


def test_of_copies_the_same_one_stays_whatever_file_it_lies_in(tmp_path, judged):
    first, second = raw_event("a", item_id="1"), raw_event("a", item_id="2")
    kept = set()
    for order in ((first, second), (second, first)):
        for name, row in zip(("x.jsonl", "y.jsonl"), order, strict=True):
            deliver(tmp_path, RUN_DATE, row, name=name)
        rows = judged()
        assert sorted(row.reason or "" for row in rows) == ["", "conflicting_id"]
        kept.add(next(row.item_id for row in rows if not row.reason))
    assert len(kept) == 1


def test_of_copies_with_different_times_the_first_stays(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, *(raw_event("a", event_at=f"2026-03-01T1{hour}:00:00Z") for hour in (2, 1, 3)))
    assert [row.event_at.hour for row in judged() if not row.reason] == [11]


def test_a_rejected_copy_does_not_take_the_place_of_a_good_one(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, raw_event("a", item_id=None), raw_event("a", item_id="1"))
    assert sorted((row.item_id or "", row.reason) for row in judged()) == [("", "item_action_without_item"), ("1", None)]


def test_the_same_action_again_within_seconds_counts_once_and_each_gap_is_measured_from_the_one_before(tmp_path, judged):
    def at(seconds):
        return f"2026-03-01T12:00:{seconds:04.1f}Z"

    chain = [raw_event(f"chain{second}", event_at=at(second)) for second in (1, 2.5, 4.5, 6.6)]
    search = {"action": "search", "item_id": None}
    deliver(
        tmp_path,
        RUN_DATE,
        *chain,
        raw_event("copy", user_id="c", event_at=at(1)),
        raw_event("copy", user_id="c", event_at=at(1)),
        raw_event("copy2", user_id="c", event_at=at(3)),
        raw_event("other_item", event_at=at(1.2), item_id="1"),
        raw_event("other_user", event_at=at(1.2), user_id="v"),
        raw_event("bought", event_at=at(1.2), action="purchase"),
        raw_event("words", event_at=at(1), query="Red  Dress", **search),
        raw_event("same_words", event_at=at(2), query=" red dress", **search),
        raw_event("other_words", event_at=at(2), query="red dresses", **search),
    )
    # A day's arrivals are judged alike whatever other days a run reads.
    deliver(tmp_path, "2026-02-28", raw_event("before_midnight", user_id="m", event_at="2026-02-28T23:59:59Z"))
    deliver(tmp_path, RUN_DATE, raw_event("after_midnight", user_id="m", event_at="2026-03-01T00:00:00Z"), name="midnight.jsonl")
    rows = judged()
    assert {row.event_id for row in rows if row.reason == "near_duplicate"} == {"chain2.5", "chain4.5", "copy2", "same_words"}
    assert [row.event_id for row in rows if row.reason == "duplicate"] == ["copy"]
    assert len([row for row in rows if not row.reason]) == 10


def test_paid_places_never_count_as_organic(tmp_path, judged):
    deliver(
        tmp_path,
        RUN_DATE,
        raw_event("paid", sponsored=True, position=1),
        raw_event("organic", sponsored=False, position=2, user_id="v"),
        raw_event(
            "s",
            action="search",
            query="hat",
            item_id=None,
            results=["p", "a", "q", "b", "a"],
            sponsored_results=["q", "p"],
            marketplace=" de ",
        ),
        raw_event("plain", action="search", query="coat", item_id=None, results=["a", "a"]),
    )
    rows = {row.event_id: row for row in judged()}
    assert (rows["paid"].position, rows["paid"].sponsored, rows["paid"].reason) == (None, True, None)
    assert (rows["organic"].position, rows["organic"].sponsored) == (2, False)
    assert (rows["s"].results, rows["s"].marketplace, rows["s"].sponsored) == (["a", "b", "a"], "de", False)
    assert rows["plain"].results == ["a", "a"]


def test_values_that_do_not_belong_to_the_action_are_left_out_and_marked(tmp_path, judged):
    deliver(tmp_path, RUN_DATE, raw_event("click", query="red dress"), raw_event("search", action="search", query="red\ndress", position=2))
    click, search = judged()
    assert (click.query, click.item_id, click.misplaced) == (None, "i", True)
    assert (search.query, search.item_id, search.position, search.misplaced) == ("red dress", None, None, True)


KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "json", "csv", "csv.gz", "csv.zst", "parquet")


def test_json_lines_csv_and_parquet_plain_and_packed_are_read_together(tmp_path, judged):
    for number, ending in enumerate(KINDS):
        rows = [
            raw_event(f"s{number}", action="search", query=f'"red\nhat", {number}', item_id=None, results=["a", "b"]),
            raw_event(f"bad{number}", position=-1, user_id=str(number)),
            raw_event(f"good{number}", user_id=str(number), position=7),
        ]
        deliver(tmp_path, RUN_DATE, *rows, name=f"part{number}.{ending}")
    deliver(tmp_path, RUN_DATE, "hidden files are no data", name="_SUCCESS")
    rows = judged()
    numbers = range(len(KINDS))
    assert [row.event_id for row in rows if not row.reason] == sorted([f"{kind}{number}" for kind in ("good", "s") for number in numbers])
    assert {(row.query, tuple(row.results)) for row in rows if row.action == "search"} == {
        (f'"red hat", {number}', ("a", "b")) for number in numbers
    }
    assert {row.position for row in rows if row.event_id.startswith("good")} == {7}
    assert all(json.loads(row.raw)["position"] == -1 for row in rows if row.reason)


def test_a_csv_row_that_is_ragged_or_has_an_unreadable_cell_is_malformed_and_shown(tmp_path, judged):
    head = "item_id,event_id,user_id,event_at,action,query,position,results"
    when = "2026-03-01T12:00:00Z"
    lines = [
        f"i,short,u,{when},click",
        f"i,long,u,{when},click,,1,,extra",
        f"i,number,u,{when},click,,three,",
        f"i,half,u,{when},click,,1.5,",
        f'i,list,u,{when},click,,,"[""a"" "',
        f'i,object,u,{when},click,,,"{{""a"": 1}}"',
        f"i,good,u,{when},click,, 3 ,",
        f'i,quoted,v,"{when}",click,,,',
    ]
    deliver(tmp_path, RUN_DATE, head, *lines, name="events.csv")
    rows = judged()
    malformed = ["half", "list", "long", "number", "object", "short"]
    assert reasons(rows) == {"good": None, "quoted": None, **dict.fromkeys(malformed, "malformed")}
    shown = {row.event_id: row.raw for row in rows if row.reason}
    assert json.loads(shown["number"])["position"] == "three"
    assert shown["long"].endswith(",extra")
    assert next(row.position for row in rows if row.event_id == "good") == 3


def test_unknown_fields_are_named_and_kept_out(tmp_path, read, judged):
    deliver(tmp_path, RUN_DATE, raw_event("a", referrer="x"), raw_event("b", user_id="v"))
    deliver(tmp_path, RUN_DATE, raw_event("c", user_id="w", colour="x"), name="events.csv")
    assert [row.unknown for row in judged()] == [["referrer"], [], []]
    assert read().unknown_columns == {"colour"}
