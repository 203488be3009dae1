"""The memory's weeks are the same rows whatever runs made them, in whatever order, and are made again only where they would be others."""

from datetime import date, timedelta

import pytest

from fashionrec.pipeline.steps.memory import write_query_products
from tests.builders import click, item, put_versions, search
from tests.conftest import RUN_DATE
from tests.spark.test_sequence_steps import given

pytestmark = pytest.mark.usefixtures("ungated")

DAYS = [RUN_DATE - timedelta(days=back) for back in range(9, -1, -1)]
# Weeks of four days: two end in these days, on the 23rd and the 27th of February.
FOUR = "memory.as_of_every_days=4"


def asked(day, user, *, query="red dress", late=0):
    """Return a search and a click on the evening of a day, and over midnight where they are not late."""
    arrival = min(day + timedelta(days=late), RUN_DATE)
    at = {"user_id": user, "arrival_date": arrival}
    return [
        search(f"{day} 23:50", query, results=["abcdefgh"[day.day % 8], "a"], **at),
        click(f"{day} 23:58", "a", **at),
        click(f"{day} 23:59", "b", **at | {"arrival_date": min(arrival + timedelta(days=1), RUN_DATE)}),
    ]


EVENTS = [
    event
    for n, day in enumerate(DAYS)
    for event in (*asked(day, "u"), *asked(day, f"v{n}", late=n % 4), *asked(day, "w", query=f"hat {n % 3}"))
]


@pytest.fixture
def rows_after(make_run):
    """Return a function that runs the step on days in turn and returns the figures of the last run and all rows, whatever their day."""

    def make(days, *overrides):
        for day in days:
            run = make_run(FOUR, *overrides, run_date=day)
            write_query_products(run)
        return run.figures, sorted(map(str, run.so_far("query_products").collect()))

    return make


def test_days_run_in_order_reversed_and_twice_give_the_same_rows(make_run, rows_after, tmp_path):
    twice = [day for day in DAYS[::-4] for _ in (1, 2)]
    found = {}
    # The last day, run first, makes all weeks at once.
    for name, days in {"in order": [*DAYS[1::2], RUN_DATE], "reversed": twice}.items():
        root = f"paths.root={tmp_path / name}"
        given(make_run(root), *EVENTS)
        figures, found[name] = rows_after(days, root)
        assert figures["weeks_made"] == 0
    assert found["in order"] == found["reversed"]
    assert {day for day in (23, 27) for row in found["reversed"] if f"as_of_date=datetime.date(2026, 2, {day})" in row} == {23, 27}


def test_what_arrives_for_an_old_day_makes_its_week_and_those_after_it_again(make_run, rows_after):
    given(make_run(), *EVENTS)
    _, before = rows_after([RUN_DATE])
    given(make_run(), *EVENTS, search(f"{DAYS[0]} 08:00", "red dress", results=["h"], user_id="x"))
    figures, after = rows_after([RUN_DATE])
    assert figures["weeks_made"] == 2
    assert after != before
    given(make_run(), *EVENTS)
    # A run of an older day leaves no row that followed from what is no more.
    _, old = rows_after([date(2026, 2, 23)])
    assert old == [row for row in before if "as_of_date=datetime.date(2026, 2, 23)" in row]
    assert rows_after([RUN_DATE])[1] == before


def test_another_setting_makes_all_weeks_again(make_run, rows_after):
    given(make_run(), *EVENTS)
    _, before = rows_after([RUN_DATE])
    figures, after = rows_after([RUN_DATE], "memory.half_life_days=3")
    assert figures["weeks_made"] == 2
    assert after != before
    assert rows_after([RUN_DATE], "memory.as_of_every_days=10")[0]["weeks_made"] == 1
    assert rows_after([RUN_DATE])[1] == before


def test_a_later_catalogue_changes_nothing_in_a_week_that_ended_before_it(make_run, rows_after, tmp_path):
    given(make_run(), *EVENTS)
    _, before = rows_after([RUN_DATE])
    root, told, renamed = f"paths.root={tmp_path / 'renamed'}", date(2025, 1, 1), date(2026, 2, 28)
    run = make_run(root)
    given(run, *EVENTS)
    put_versions(run.workspace, *(item(name) for name in "abcdefgh"), since=told)
    put_versions(run.workspace, item("a", title="Another"), since=renamed)
    assert rows_after([RUN_DATE], root)[1] == before
