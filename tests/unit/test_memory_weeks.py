"""The memory's calendar: which week a day belongs to, and when its rows have to be made again."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fashionrec.memory.weeks import Arrived, fingerprints, known_until, week_end

SUNDAY = date(2026, 3, 1)
ARRIVED = {SUNDAY - timedelta(days=back): Arrived(2, 5) for back in range(14)}
CATALOGUES = {SUNDAY - timedelta(days=20): 10, SUNDAY - timedelta(days=3): 1}


def made(arrived=ARRIVED, catalogues=CATALOGUES, *, first_day=date(2026, 1, 1), last_day=SUNDAY, settings=30):
    return fingerprints(arrived, catalogues, first_day=first_day, last_day=last_day, every_days=7, settings=settings)


@given(st.dates(min_value=date(1960, 1, 1)), st.integers(1, 30))
def test_a_day_lies_in_one_week_which_ends_at_most_a_week_later(day, every_days):
    end = week_end(day, every_days)
    assert 0 <= (end - day).days < every_days
    assert week_end(end, every_days) == end != week_end(end + timedelta(days=1), every_days)


def test_weeks_of_seven_days_end_on_sundays():
    assert [week_end(date(2026, 3, day), 7).day for day in (1, 2, 8, 9)] == [1, 8, 8, 15]


def test_only_whole_weeks_with_a_search_up_to_the_last_day_are_due():
    week_ago = SUNDAY - timedelta(days=7)
    assert list(made()) == [week_ago, SUNDAY]
    assert list(made(last_day=SUNDAY - timedelta(days=1))) == [week_ago]
    assert list(made(first_day=week_ago - timedelta(days=5))) == [SUNDAY]
    assert made({SUNDAY: Arrived(0, 5)}) == {}


def test_a_fingerprint_changes_with_what_a_weeks_rows_follow_from_and_with_nothing_else():
    week_ago, sunday = made().values()
    assert list(made(last_day=SUNDAY + timedelta(days=30)).values()) == [week_ago, sunday]
    assert made({**ARRIVED, SUNDAY: Arrived(2, 6)}) == {
        SUNDAY - timedelta(days=7): week_ago,
        SUNDAY: made({**ARRIVED, SUNDAY: Arrived(2, 6)})[SUNDAY],
    }
    changed = [
        made({**ARRIVED, SUNDAY: Arrived(2, 6)}),
        made({**ARRIVED, SUNDAY - timedelta(days=7): Arrived(3, 5)}),
        made(catalogues={**CATALOGUES, SUNDAY: 1}),
        made(settings=31),
    ]
    assert len({sunday, *(one[SUNDAY] for one in changed)}) == 5


def test_before_any_catalogue_the_first_one_describes():
    assert known_until(SUNDAY, CATALOGUES) == SUNDAY
    assert known_until(date(2026, 1, 4), CATALOGUES) == min(CATALOGUES)
    assert known_until(SUNDAY, {}) == SUNDAY
    later = {**CATALOGUES, SUNDAY + timedelta(days=7): 3}
    assert made(catalogues=later) == made(), "a later catalogue describes nothing of before"
