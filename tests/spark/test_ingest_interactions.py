"""Days are rebuilt from all that arrived for them, and no bad delivery changes or deletes one."""

import shutil
from datetime import date, timedelta

import pytest

from fashionrec.ingest.pseudonyms import KeyMissingError
from fashionrec.pipeline.steps import ingest as ingest_step
from fashionrec.pipeline.steps.ingest import ingest_interactions
from fashionrec.sources.columns import RawError
from tests.conftest import RUN_DATE
from tests.raw_files import deliver, known_items, raw_event

YESTERDAY = RUN_DATE - timedelta(days=1)


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw/interactions"


@pytest.fixture
def ingest(make_run):
    """Return a function that ingests a date and returns the run."""

    known_items(make_run(), "i", "new")

    def ingest(*overrides, run_date=RUN_DATE):
        run = make_run(*overrides, run_date=run_date)
        ingest_interactions(run)
        return run

    return ingest


@pytest.fixture
def days(make_run):
    """Return a function that reads the table: the IDs of each day."""

    def days():
        found = {}
        for row in make_run().read("interactions").orderBy("event_id").collect():
            found.setdefault(str(row.event_date), []).append(row.event_id)
        return found

    return days


def at(day: date) -> str:
    return f"{day}T10:00:00Z"


def test_a_late_event_reaches_its_own_day_and_a_rerun_gives_the_same_rows(raw, ingest, days):
    deliver(raw, YESTERDAY, raw_event("a", event_at=at(YESTERDAY)))
    ingest(run_date=YESTERDAY)
    assert days() == {"2026-02-28": ["a"]}
    again, late = raw_event("b_again", event_at="2026-03-01T12:00:01Z"), raw_event("late", user_id="w", event_at=at(YESTERDAY))
    deliver(raw, RUN_DATE, raw_event("b"), raw_event("b"), again, late, raw_event("odd", user_id="v", referrer="x"))
    for _ in range(2):
        run = ingest()
        assert days() == {"2026-02-28": ["a", "late"], "2026-03-01": ["b", "odd"]}
        assert run.figures == {"rows_in": 6, "quarantined": 0, "duplicate_count": 1, "near_duplicate_count": 1}
    assert "columns that the contract does not know were left out: referrer" in run.warnings
    assert any("demo's key, which everybody knows" in warning for warning in run.warnings)


def test_too_many_rejected_rows_are_shown_in_quarantine_and_leave_the_table_as_it_was(raw, ingest, days, make_run):
    deliver(raw, RUN_DATE, *(raw_event(str(number), user_id=str(number)) for number in range(9)), "{")
    with pytest.raises(
        RawError, match=r"interactions: 10\.0% of 10 rows rejected, more than ingest.max_quarantine_rate 5\.0%: malformed 1\."
    ):
        ingest()
    (row,) = make_run().read("quarantine").collect()
    assert (row.arrival_date, row.source, row.reason, row.raw) == (RUN_DATE, "interactions", "malformed", "{")
    run = ingest("ingest.max_quarantine_rate=0.1")
    assert run.figures == {"rows_in": 10, "quarantined": 1, "duplicate_count": 0, "near_duplicate_count": 0}
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


def test_an_empty_day_is_an_error_and_a_silent_one_before_it_is_left_as_it_was(raw, ingest, days):
    deliver(raw, YESTERDAY, raw_event("a", event_at=at(YESTERDAY)))
    deliver(raw, RUN_DATE, raw_event("b"))
    ingest()
    deliver(raw, YESTERDAY)  # the file has 0 bytes now
    run = ingest()
    assert "no valid event in 2026-02-28: these days of the table are as they were" in run.warnings
    deliver(raw, RUN_DATE)
    with pytest.raises(RawError, match=r"raw/interactions/2026-03-01: empty day"):
        ingest()
    assert days() == {"2026-02-28": ["a"], "2026-03-01": ["b"]}


def test_late_events_join_a_day_whose_folder_is_gone_instead_of_replacing_it(raw, ingest, days):
    deliver(raw, YESTERDAY, raw_event("a", event_at=at(YESTERDAY)), raw_event("a2", user_id="v", event_at=at(YESTERDAY)))
    ingest(run_date=YESTERDAY)
    shutil.rmtree(raw / str(YESTERDAY))
    late = [raw_event("a2", event_at=at(YESTERDAY), item_id="new"), raw_event("late", user_id="w", event_at=at(YESTERDAY))]
    deliver(raw, RUN_DATE, raw_event("b"), *late)
    for _ in range(2):
        ingest("quality.min_rows_rate=0")
        assert days() == {"2026-02-28": ["a", "a2", "late"], "2026-03-01": ["b"]}


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
