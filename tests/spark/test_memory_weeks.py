"""The memory's weeks are the same rows whatever runs made them, in whatever order, and are made again only where they would be others."""

import shutil
from datetime import date, timedelta

import pytest

from fashionrec.pipeline.steps.memory import write_query_products
from tests.builders import click, item, put_versions, run_of, search, workspace_in
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


@pytest.fixture(scope="module")
def asked_shop(spark, tmp_path_factory):
    """Return the folder of a shop with the events."""
    root = tmp_path_factory.mktemp("asked")
    given(run_of(workspace_in(root, spark)), *EVENTS)
    return root


@pytest.fixture(scope="module")
def made_shop(spark, asked_shop, tmp_path_factory, ungated):
    """Return the folder of the same shop after a run of the last day, and the rows that it wrote."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(asked_shop, root, dirs_exist_ok=True)
    return root, run_days(spark, root, [RUN_DATE])[1]


@pytest.fixture
def shop(made_shop, tmp_path):
    """Return a copy of such a folder of the test's own, and the rows."""
    root, rows = made_shop
    return shutil.copytree(root, tmp_path / "shop"), rows


def run_days(spark, root, days, *overrides):
    """Run the step on days in turn and return the figures of the last run and all rows, whatever their day."""
    for day in days:
        run = run_of(workspace_in(root, spark, FOUR, *overrides, run_date=day))
        write_query_products(run)
    return run.figures, sorted(map(str, run.so_far("query_products").collect()))


def test_days_run_in_order_reversed_and_twice_give_the_same_rows(spark, asked_shop, tmp_path):
    twice = [day for day in DAYS[::2] for _ in (1, 2)]
    found = {}
    # The last day, run first, makes all weeks at once.
    for name, days in {"in order": [*DAYS, RUN_DATE], "reversed": [RUN_DATE, *reversed(twice)]}.items():
        root = shutil.copytree(asked_shop, tmp_path / name)
        figures, found[name] = run_days(spark, root, days)
        assert figures["weeks_made"] == 0
    assert found["in order"] == found["reversed"]
    assert {day for day in (23, 27) for row in found["reversed"] if f"as_of_date=datetime.date(2026, 2, {day})" in row} == {23, 27}


def test_what_arrives_for_an_old_day_makes_its_week_and_those_after_it_again(spark, shop):
    root, before = shop
    given(run_of(workspace_in(root, spark)), *EVENTS, search(f"{DAYS[0]} 08:00", "red dress", results=["h"], user_id="x"))
    figures, after = run_days(spark, root, [RUN_DATE])
    assert figures["weeks_made"] == 2
    assert after != before
    given(run_of(workspace_in(root, spark)), *EVENTS)
    # A run of an older day leaves no row that followed from what is no more.
    _, old = run_days(spark, root, [date(2026, 2, 23)])
    assert old == [row for row in before if "as_of_date=datetime.date(2026, 2, 23)" in row]
    assert run_days(spark, root, [RUN_DATE])[1] == before


def test_another_setting_makes_all_weeks_again(spark, shop):
    root, before = shop
    figures, after = run_days(spark, root, [RUN_DATE], "memory.half_life_days=3")
    assert figures["weeks_made"] == 2
    assert after != before
    assert run_days(spark, root, [RUN_DATE], "memory.as_of_every_days=10")[0]["weeks_made"] == 1
    assert run_days(spark, root, [RUN_DATE])[1] == before


def test_a_later_catalogue_changes_nothing_in_a_week_that_ended_before_it(spark, asked_shop, made_shop, tmp_path):
    _, before = made_shop
    root = shutil.copytree(asked_shop, tmp_path / "renamed")
    workspace = workspace_in(root, spark)
    put_versions(workspace, *(item(name) for name in "abcdefgh"), since=date(2025, 1, 1))
    put_versions(workspace, item("a", title="Another"), since=date(2026, 2, 28))
    assert run_days(spark, root, [RUN_DATE])[1] == before
