"""The memory's calendar: weeks from a fixed Monday, and what tells whether a week's rows are still those that would be made now."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

_A_MONDAY = date(1970, 1, 5)


class Arrived(NamedTuple):
    """How many searches, and how many interactions in all, arrived on a day."""

    searches: int
    events: int


def week_end(day: date, every_days: int) -> date:
    """Return the last day of the week that holds `day`; weeks have `every_days` days."""
    return day + timedelta(days=-((day - _A_MONDAY).days + 1) % every_days)


def is_within(end: date, first_day: date, every_days: int) -> bool:
    """Return whether the week that ends on `end` began on `first_day` or later."""
    return end - timedelta(days=every_days - 1) >= first_day


def fingerprints(
    arrived: Mapping[date, Arrived], catalogues: Mapping[date, int], *, first_day: date, last_day: date, every_days: int, settings: Any
) -> dict[date, str]:
    """Return, by its last day, what the rows of each week are made from: of the weeks with a search, from `first_day` to `last_day`.

    A fingerprint is a hash of the settings and of how much arrived on each day: one more late file, or another setting, gives another one.

    Args:
        arrived: by day of arrival.
        catalogues: how many descriptions of items hold since each day.
        first_day: the first day that a week may begin on.
        last_day: the last day that a week may end on.
        every_days: days of a week.
        settings: what else the rows follow from, as JSON can hold it.
    """
    ends = {week_end(day, every_days) for day, count in arrived.items() if count.searches}
    found = {}
    for end in sorted(end for end in ends if end <= last_day and is_within(end, first_day, every_days)):
        before = end - timedelta(days=every_days)
        # The evening before the week is read, too, for the sessions that go on in it.
        events = [(str(day), *count) for day, count in sorted(arrived.items()) if before <= day <= end]
        known = [(str(day), count) for day, count in sorted(catalogues.items()) if before < day <= known_until(end, catalogues)]
        found[end] = hashlib.sha256(json.dumps([settings, events, known]).encode()).hexdigest()[:16]
    return found


def known_until(end: date, catalogues: Mapping[date, int]) -> date:
    """Return the newest day whose catalogue may describe a week's products: its last day, or, before any, that of the first catalogue."""
    return max(end, min(catalogues, default=end))
