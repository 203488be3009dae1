"""The steps from interactions to sequences, memory and answers, as a run runs them."""

import pytest
from rich.console import Console

from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.steps import memory, sequences
from tests.builders import click, item, purchase, put, put_versions, search, table_rows

pytestmark = pytest.mark.usefixtures("ungated")

STEPS = [*sequences.STEPS, *memory.STEPS]
TABLES = ("sequences", "query_products", "query_hits")


def given(run, *events):
    """Write the tables that the steps read."""
    days = sorted({event["event_date"] for event in events})
    rows = [{**event, "user_id": event["user_id"].ljust(64, "0"), "sponsored": False} for event in events]
    put(run.workspace, "interactions", table_rows(run.spark, "interactions", *rows), days=days)
    put(run.workspace, "items", table_rows(run.spark, "items", *(item(name) for name in "abcdefgh")))
    put_versions(run.workspace, *(item(name) for name in "abcdefgh"))


def run_all(run):
    """Run the steps and return the figures and the tables' rows in order of their keys."""
    manifest = run_steps(run.workspace, STEPS, Console(quiet=True))
    figures = {name: value for step in manifest["steps"] for name, value in step["figures"].items()}
    frames = [run.spark.read.format("delta").load(run.workspace.path("lake", table)) for table in TABLES]
    as_of = ["as_of_date" if table == "query_products" else "run_date" for table in TABLES]
    of_day = [frame.where(frame[day] <= run.run_date) for frame, day in zip(frames, as_of, strict=True)]
    return figures, [sorted(map(str, frame.collect())) for frame in of_day]


def test_a_second_run_gives_the_same_rows_and_sees_nothing_after_its_date(make_run):
    past = [
        search("2025-02-28 10:00", "red dress", results=["h"]),
        click("2025-02-28 10:01", "h"),
        search("2026-02-20 10:00", "red dress", results=["a", "b", "gone"]),
        click("2026-02-20 10:01", "a"),
        click("2026-02-20 10:02", "gone"),
        purchase("2026-02-20 10:03", "b"),
        search("2026-02-20 11:00", "RED dress", results=["b"], user_id="v"),
        search("2026-02-27 10:00", "Red Dress", results=["b", "a"]),
        search("2026-02-27 10:01", "wallet"),
        search("2026-03-01 23:57", "re", results=["b"]),
        search("2026-03-01 23:58", "red dres", results=["b"]),
    ]
    future = [
        purchase("2026-03-02 00:01", "c"),
        search("2026-03-02 00:02", "red dress", results=["c"]),
        purchase("2026-03-03 10:00", "d"),
    ]
    given(make_run(), *past)
    figures, before = run_all(make_run())
    assert [len(rows) for rows in before] == [4, 3, 6]
    assert figures == {
        "results": 7,
        "robot_events": 0,
        "robot_users": 0,
        "searches_without_category": 1,
        "events_without_item": 1,
        "results_without_item": 1,
        "prefix_searches": 1,
        "weeks_made": 2,
        "new_vectors": 3,
        "index_recall_at_10": 1.0,
        "approximate_indexes": 0,
        "memory_exact_rate": 3 / 6,
        "memory_near_rate": pytest.approx(1 / 6),
        # The test example's own day is not remembered yet, and nothing is like "re".
        "memory_none_rate": pytest.approx(2 / 6),
    }
    given(make_run(), *past, *future)
    # The weeks are there, and nothing of the future is one.
    nothing_made = dict.fromkeys(("results", "results_without_item", "prefix_searches", "weeks_made"), 0)
    assert run_all(make_run()) == ({**figures, **nothing_made}, before)
    assert not any("'h'" in row for rows in before for row in rows), "sequences.history_days reaches back one year"


def test_results_that_no_catalogue_knows_are_counted_and_many_of_them_warn(make_run):
    given(make_run(), *(search("2026-02-20 10:00", "hat", results=["a", "gone"], user_id=user) for user in "uvw"))
    run = make_run()
    memory.write_query_products(run)
    assert run.figures["results_without_item"] == 3
    assert [warning for warning in run.warnings if "name no item" in warning] == [
        "50% of the results of searches name no item that a catalogue has held: the memory cannot know them"
    ]


def test_a_log_of_purchases_alone_leaves_the_memory_empty(make_run):
    given(make_run(), *(purchase(f"2026-02-0{day} 00:00", "abc"[day - 1]) for day in (1, 2, 3)))
    figures, (examples, products, hits) = run_all(make_run())
    assert (len(examples), products, hits) == (5, [], []), "validation and test have two rows, one by horizon"
    assert figures.pop("index_recall_at_10") == 1
    assert set(figures.values()) == {0}
