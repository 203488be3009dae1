"""Times that people read are in UTC, whatever the zone of the machine."""

import os
import time
from datetime import UTC, datetime

import pytest

from fashionrec.reports.journeys import example_paths, with_shown_times
from tests.builders import action, table_rows


@pytest.fixture
def machine_in(monkeypatch):
    """Return a function that puts this process into a zone, until the test ends."""
    yield lambda zone: (monkeypatch.setenv("TZ", zone), time.tzset())
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_times_of_journeys_are_utc(spark, machine_in, zone):
    machine_in(zone)
    assert os.environ["TZ"] == zone
    at = datetime(2026, 2, 28, 23, 30, tzinfo=UTC)
    assert (at.astimezone().hour == 23) == (zone == "UTC"), "the zone is not in force"
    paths = table_rows(spark, "sequences", {"category": "Shoes", "actions": [action(title="Boot", event_at=at)]}, split="score")
    # What the command shows of a journey, and the day's page.
    (row,) = with_shown_times(paths, "yyyy-MM-dd HH:mm").collect()
    assert row.shown_times == ["2026-02-28 23:30"]
    (path,) = example_paths(paths, table_rows(spark, "generations"), table_rows(spark, "recommendations"), count=1)
    assert [one["at"] for one in path["actions"]] == ["28 Feb 2026, 23:30"]
