"""Days are rebuilt from all that arrived for them, and no bad delivery changes or deletes one."""

import shutil
from datetime import date, timedelta
from itertools import chain

import pytest

from fashionrec.commands import doctor
from fashionrec.errors import UserError
from fashionrec.ingest.pseudonyms import KeyMissingError
from fashionrec.pipeline.steps import ingest as ingest_step
from fashionrec.pipeline.steps.ingest import ingest_interactions
from fashionrec.sources.columns import RawError
from tests.builders import run_of, workspace_in
from tests.conftest import RUN_DATE
from tests.raw_files import deliver, known_items, raw_event

pytestmark = pytest.mark.usefixtures("ungated")

YESTERDAY = RUN_DATE - timedelta(days=1)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw/interactions"


@pytest.fixture(scope="module")
def known(spark, tmp_path_factory):
    """Return a folder with the history of a catalogue of two items."""
    root = tmp_path_factory.mktemp("known")
    known_items(run_of(workspace_in(root, spark)), "i", "new")
    return root


@pytest.fixture
def ingest(make_run, known, tmp_path):
    """Return a function that ingests a date and returns the run."""

    shutil.copytree(known, tmp_path, dirs_exist_ok=True)

    def ingest(*overrides, run_date=RUN_DATE):
        run = make_run(*overrides, run_date=run_date)
        ingest_interactions(run)
        return run

    return ingest


@pytest.fixture
def days(make_run):
    """Return a function that reads the table as of a date: the IDs of each day."""

    def days(run_date=RUN_DATE):
        found = {}
        for row in make_run(run_date=run_date).read("interactions").orderBy("event_date", "event_id").collect():
            found.setdefault(str(row.event_date), []).append(row.event_id)
        return found

    return days


def at(day: date) -> str:
    return f"{day}T10:00:00Z"


def before(days: int) -> date:
    return RUN_DATE - timedelta(days=days)


@pytest.fixture
def some(raw):
    """Return a function that delivers a day with so many good and broken rows."""

    def some(day, good, bad=0):
        rows = [raw_event(f"{day} {n}", user_id=str(n), event_at=at(day)) for n in range(good)]
        deliver(raw, day, *rows, *["{"] * bad)

    return some


def test_a_late_event_is_kept_under_its_arrival_and_a_rerun_of_either_day_gives_the_same_rows(raw, ingest, days):
    deliver(raw, YESTERDAY, raw_event("a", event_at=at(YESTERDAY)))
    ingest(run_date=YESTERDAY)
    assert days() == {"2026-02-28": ["a"]}
    again, late = raw_event("b_again", event_at="2026-03-01T12:00:01Z"), raw_event("late", user_id="w", event_at=at(YESTERDAY))
    deliver(raw, RUN_DATE, raw_event("b"), raw_event("b"), again, late, raw_event("odd", user_id="v", item_id="unheard of", referrer="x"))
    run = ingest("ingest.max_quarantine_rate=0.2")
    counts = {"rows_in": 5, "quarantined": 0, "duplicate_count": 1, "near_duplicate_count": 1, "unknown_item_count": 1}
    assert run.figures == {**counts, "days_taken": 1, "days_held_back": 0}
    assert "columns that the contract does not know were left out: referrer" in run.warnings
    assert "1 clicks and purchases of items that no catalogue has held are kept: one that comes late describes them" in run.warnings
    assert any("demo's key, which everybody knows" in warning for warning in run.warnings)
    for day in (RUN_DATE, YESTERDAY):
        ingest("ingest.max_quarantine_rate=0.2", run_date=day)
        assert days() == {"2026-02-28": ["a", "late"], "2026-03-01": ["b", "odd"]}
        assert days(YESTERDAY) == {"2026-02-28": ["a"]}


def test_days_that_the_lake_lacks_are_taken_in_and_those_that_nobody_delivered_are_named(raw, ingest, days):
    for ago in (9, 8, 4, 3):
        deliver(raw, before(ago), raw_event(str(ago), event_at=at(before(ago))))
    ingest(run_date=before(9))
    deliver(raw, RUN_DATE, raw_event("0"))
    run = ingest()
    assert [*chain(*days().values())] == ["9", "8", "4", "3", "0"]
    assert (run.figures["days_taken"], run.figures["days_missing"]) == (4, 5)
    assert (
        "nothing has arrived of 2026-02-22 to 2026-02-24, 2026-02-27 to 2026-02-28; deliver it, and the next run takes it in"
        in run.warnings
    )

    with pytest.raises(UserError, match="nothing has arrived of 2026-02-22 to 2026-02-24, 2026-02-27 to 2026-02-28"):
        doctor._days(run.settings)


def test_the_first_arrival_of_an_event_stays_whatever_day_is_run_first(raw, ingest, days, make_run):
    event = raw_event("a", event_at=f"{before(3)}T23:50:00Z")
    deliver(raw, before(1), event, raw_event("other", user_id="v", event_at=at(before(1))))
    ingest(run_date=before(1))
    assert days(before(1)) == {str(before(3)): ["a"], str(before(1)): ["other"]}
    # Its folder comes late; another event has the same ID.
    deliver(raw, before(2), event, raw_event("b", user_id="w", event_at=at(before(2))))
    deliver(raw, RUN_DATE, raw_event("b", user_id="x"), *(raw_event(name, user_id=name) for name in map(str, range(20))))
    ingest()
    table = make_run().read("interactions").where("event_id IN ('a', 'b')")
    assert sorted((row.event_id, row.arrival_date) for row in table.collect()) == [("a", before(2)), ("b", before(2))]
    (row,) = make_run().read("quarantine").collect()
    assert (row.reason, row.arrival_date) == ("conflicting_id", RUN_DATE)
    # What the older day no longer holds, the later one still does.
    deliver(raw, before(2), raw_event("c", user_id="w", event_at=at(before(2))))
    ingest(run_date=before(2))
    table = make_run().read("interactions").where("event_id IN ('a', 'b', 'c')")
    found = [("a", before(1)), ("b", RUN_DATE), ("c", before(2))]
    assert sorted((row.event_id, row.arrival_date) for row in table.collect()) == found
    assert make_run().read("quarantine").count() == 0


def test_another_key_stops_the_run(raw, ingest, tmp_path):
    deliver(raw, RUN_DATE, raw_event("a"))
    ingest()
    (tmp_path / "other.key").write_text("0123456789abcdef0123456789abcdef")
    with pytest.raises(KeyMissingError, match="what arrived on 2026-03-01 has pseudonyms of another key"):
        ingest(f"ingest.user_key_file={tmp_path / 'other.key'}")


def test_the_limit_is_each_days_own_and_an_earlier_day_that_breaks_it_waits(some, ingest, days, make_run):
    for ago in (4, 3, 2):
        some(before(ago), 100, 0)
    some(YESTERDAY, 80, 20)
    some(RUN_DATE, 100, 1)
    run = ingest()
    assert len(days()) == 4
    assert str(YESTERDAY) not in days()
    (line,) = (line for line in run.warnings if "not taken in" in line)
    assert line.startswith("what arrived on 2026-02-28 was not taken in and will be tried again: 20.0% of 100 rows rejected, more than")
    assert make_run().read("quarantine").count() == 21
    some(RUN_DATE, 81, 19)
    with pytest.raises(RawError, match=r"^interactions of 2026-03-01: 19\.0% of 100 rows rejected"):
        ingest()
    # Accepted once, a day is not judged again by the runs of others.
    ingest("ingest.max_quarantine_rate=0.2", "quality.min_rows_rate=0")
    some(RUN_DATE, 100, 0)
    assert ingest().figures["days_taken"] == 1
    assert [len(ids) for ids in days().values()] == [100, 100, 100, 80, 100]


def test_an_earlier_day_that_came_in_part_waits_for_the_rest(some, ingest, days):
    some(before(2), 10)
    ingest(run_date=before(2))
    some(YESTERDAY, 4)
    some(RUN_DATE, 10)
    why = (
        "4 valid rows, fewer than 50% of the median good day's 10; deliver the rest, or take it as it is with --set quality.min_rows_rate=0"
    )
    assert f"what arrived on 2026-02-28 was not taken in and will be tried again: {why}" in ingest().warnings
    assert [len(ids) for ids in days().values()] == [10, 10]
    some(YESTERDAY, 5)
    ingest()
    assert [len(ids) for ids in days().values()] == [10, 5, 10]


def test_rows_are_numbered_as_they_arrived_however_many_tasks_read_them(raw, ingest, make_run, spark):
    names = [f"e{number}" for number in range(30, 0, -1)]
    events = [raw_event(name, user_id=name) for name in names]
    deliver(raw, RUN_DATE, *events[:20], name="07.jsonl")
    deliver(raw, RUN_DATE, *events[20:25], "{", *events[25:], name="08.jsonl")
    deliver(raw, YESTERDAY, raw_event("before", event_at=at(YESTERDAY)))
    expected = {**{name: number + (number > 25) for number, name in enumerate(names, start=1)}, "before": 1}
    for size in ("600b", "128m"):
        spark.conf.set("spark.sql.files.maxPartitionBytes", size)
        try:
            ingest()
        finally:
            spark.conf.unset("spark.sql.files.maxPartitionBytes")
        assert {row.event_id: row.arrival_number for row in make_run().read("interactions").collect()} == expected


def test_too_many_rejected_rows_are_shown_in_quarantine_and_leave_the_table_as_it_was(raw, ingest, days, make_run):
    deliver(raw, RUN_DATE, *(raw_event(str(number), user_id=str(number)) for number in range(9)), "{")
    with pytest.raises(RawError, match=r"10\.0% of 10 rows rejected, more than ingest.max_quarantine_rate 5\.0%: malformed 1\."):
        ingest()
    (row,) = make_run().read("quarantine").collect()
    assert (row.arrival_date, row.source, row.reason, row.raw) == (RUN_DATE, "interactions", "malformed", "{")
    run = ingest("ingest.max_quarantine_rate=0.1")
    assert (run.figures["rows_in"], run.figures["quarantined"]) == (10, 1)
    assert "quarantine: malformed 1" in run.warnings
    deliver(raw, RUN_DATE, "{", "{")
    with pytest.raises(RawError, match=r"100\.0% of 2 rows"):
        ingest()
    assert days() == {"2026-03-01": [str(number) for number in range(9)]}


def test_a_missing_folder_is_named_with_the_newest_that_there_is(raw, ingest):
    deliver(raw, YESTERDAY, raw_event("a", event_at=at(YESTERDAY)))
    with pytest.raises(RawError, match=r"raw/interactions/2026-03-01: no such folder \(newest: 2026-02-28\)"):
        ingest()


def test_no_raw_folder_at_all_is_named(ingest):
    with pytest.raises(RawError, match=r"raw/interactions: no such folder"):
        ingest()


def test_a_run_on_an_empty_day_is_an_error_and_an_empty_day_before_it_has_arrived(raw, ingest, days):
    deliver(raw, YESTERDAY)  # a file of 0 bytes
    deliver(raw, RUN_DATE, raw_event("b"))
    run = ingest()
    assert (run.figures["days_taken"], "days_missing" in run.figures) == (2, False)
    deliver(raw, RUN_DATE)
    with pytest.raises(RawError, match="interactions of 2026-03-01: empty day"):
        ingest()
    assert days() == {"2026-03-01": ["b"]}


def test_without_a_key_nothing_is_read(raw, ingest, monkeypatch):
    deliver(raw, RUN_DATE, raw_event("a"))
    monkeypatch.delenv("FASHIONREC_USER_KEY", raising=False)
    with pytest.raises(KeyMissingError, match="openssl rand -hex 32"):
        ingest("ingest.user_key_file=")


def test_a_folder_whose_name_a_uri_must_escape_is_read_like_any_other(make_run, tmp_path):
    root = tmp_path / "ä shop, 100%"
    known_items(make_run(f"paths.root={root}"), "i")
    deliver(root / "raw/interactions", RUN_DATE, raw_event("a"))
    deliver(root / "raw/interactions", RUN_DATE, name="quiet.jsonl")
    run = make_run(f"paths.root={root}")
    ingest_interactions(run)
    assert run.rows_written["interactions"] == 1
    assert [line for line in run.warnings if "without a row" in line] == [
        f"1 files without a row: {root}/raw/interactions/2026-03-01/quiet.jsonl"
    ]


def test_a_row_lost_between_the_file_and_its_verdict_stops_the_run(raw, ingest, monkeypatch):
    deliver(raw, RUN_DATE, raw_event("a"), raw_event("b", user_id="w"))
    whole = ingest_step.with_verdicts
    monkeypatch.setattr(ingest_step, "with_verdicts", lambda *rows, **options: whole(*rows, **options).where("event_id <> 'b'"))
    with pytest.raises(RawError, match="2 rows were read but 1 judged"):
        ingest()
