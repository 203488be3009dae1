"""Seasons and holidays: by hemisphere, by market, by rule, by list."""

from datetime import date

import pytest
import yaml

from fashionrec.prompts import CalendarError, load_calendar
from fashionrec.settings import load_settings
from tests.conftest import ROOT

CALENDAR = load_calendar(ROOT / "conf/calendar.yaml")


@pytest.mark.parametrize(
    ("market", "day", "season"),
    [
        ("US", date(2026, 1, 15), "winter"),
        ("AU", date(2026, 1, 15), "summer"),
        ("DE", date(2026, 7, 1), "summer"),
        ("BR", date(2026, 7, 1), "winter"),
        ("NZ", date(2026, 10, 1), "spring"),
    ],
)
def test_the_south_has_the_other_season(market, day, season):
    assert CALENDAR.season(market, day) == season


@pytest.mark.parametrize(
    ("market", "day", "coming"),
    [
        ("US", date(2026, 11, 1), ("Thanksgiving", "Black Friday")),
        ("GB", date(2026, 11, 1), ("Black Friday",)),
        ("US", date(2026, 3, 10), ("Easter",)),
        ("GB", date(2026, 3, 10), ("Mother's Day", "Easter")),
        ("DE", date(2026, 5, 1), ("Mother's Day", "Father's Day")),
        ("FR", date(2026, 5, 1), ("Mother's Day",)),
        ("AU", date(2026, 8, 20), ("Father's Day",)),
        ("SG", date(2026, 2, 1), ("Valentine's Day", "Lunar New Year")),
        ("SE", date(2026, 6, 1), ("Midsummer",)),
        ("US", date(2026, 12, 20), ("Christmas", "New Year's Eve")),
        ("JP", date(2026, 12, 20), ("Christmas", "New Year", "Coming of Age Day")),
        ("US", date(2026, 8, 1), ()),
    ],
)
def test_holidays_are_the_markets_own_and_the_next_one_is_first(market, day, coming):
    assert CALENDAR.coming(market, day, 30) == coming


def test_a_holiday_is_coming_from_so_many_days_before_to_the_day_before():
    days = {day: CALENDAR.coming("US", date(2026, 1, day), 30) for day in (14, 15)}
    assert days == {14: (), 15: ("Valentine's Day",)}
    assert CALENDAR.coming("US", date(2026, 2, 13), 30) == ("Valentine's Day",)
    assert CALENDAR.coming("US", date(2026, 2, 14), 30) == ()
    assert CALENDAR.coming("US", date(2026, 1, 15), 29) == ()


@pytest.mark.parametrize("marketplace", [None, "", "Moon"])
def test_an_unknown_marketplace_is_the_default_market(marketplace):
    assert CALENDAR.market(marketplace) == "US"


def test_a_marketplace_is_known_in_any_case():
    assert CALENDAR.market(" au ") == "AU"


def test_listed_dates_that_end_are_named_in_time():
    assert CALENDAR.ending_before(date(2030, 2, 3)) == []
    assert CALENDAR.ending_before(date(2030, 2, 4)) == ["Lunar New Year"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"default_market": "XX"}, "default_market XX is not among the markets"),
        ({"markets": {"US": {"hemisphere": "east", "holidays": []}}}, "market US: its hemisphere must be one of seasons"),
        ({"markets": {"US": {"hemisphere": "north", "holidays": ["none"]}}}, "its holidays groups of holidays"),
        ({"holidays": {"a": {"Day": "FREQ=YEARLY;BYMOON=1"}}}, "Day: not a rule of RFC 5545"),
        ({"holidays": {"a": {"Day": "FREQ=MONTHLY;BYMONTHDAY=1"}}}, "must be FREQ=YEARLY"),
        ({"holidays": {"a": {"Day": []}}}, "must be FREQ=YEARLY and give dates"),
        ({"seasons": {"north": ["winter"]}}, "at least 12 items"),
        ({"extra": 1}, "extra: Extra inputs"),
    ],
)
def test_a_bad_calendar_is_refused_by_name(tmp_path, change, problem):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((ROOT / "conf/calendar.yaml").read_text()), **change}))
    with pytest.raises(CalendarError, match=problem):
        load_calendar(path)


def test_a_missing_calendar_says_so(tmp_path):
    with pytest.raises(CalendarError, match="no such calendar"):
        load_calendar(tmp_path / "none.yaml")


def test_the_settings_name_a_calendar_that_loads():
    assert load_calendar(load_settings().prompts.calendar) == CALENDAR
