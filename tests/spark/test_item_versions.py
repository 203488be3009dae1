"""The catalogue's history: which description of an item held when."""

from datetime import date
from functools import reduce

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.ingest.versions import DESCRIPTION, intervals, item_versions, listed_on, touched_days
from tests.builders import item, table_rows

DAYS = [date(2026, 2, day) for day in (1, 8, 15, 22)]
ALWAYS, FOREVER = date(1970, 1, 1), date(9999, 12, 31)


@pytest.fixture
def fold(spark):
    """Return a function from {day: items} and the table's rows so far to its rows after these catalogues."""

    def run(catalogues, known=None):
        frames = [table_rows(spark, "items", *rows).withColumn("arrival_date", f.lit(day)) for day, rows in catalogues.items() if rows]
        known = table_rows(spark, "item_versions").limit(0) if known is None else known
        anew, places = touched_days(catalogues, {row.arrival_date for row in known.select("arrival_date").distinct().collect()})
        states = [frame.select("item_id", *DESCRIPTION, "arrival_date") for frame in frames]
        states += [listed_on(known, day) for day in places.keys() - catalogues.keys()]
        rows = item_versions(reduce(DataFrame.unionByName, states), anew=anew, places=places)
        return known.where(~f.col("arrival_date").isin(*anew)).unionByName(rows).localCheckpoint()

    return run


def told(frame):
    rows = intervals(frame).orderBy("item_id", "valid_from").collect()
    return [(row.item_id, row.title, row.valid_from, row.valid_to, row.describes_from, row.describes_to) for row in rows]


STORY = {
    DAYS[0]: [item("a", title="Coat"), item("b"), item("c", attributes={"x": "1", "y": "2"})],
    DAYS[1]: [item("a", title="Coat"), item("c", attributes={"y": "2", "x": "1"})],
    DAYS[2]: [item("a", title="Warm coat"), item("b"), item("d"), item("c", attributes={"x": "1", "y": "2"})],
    DAYS[3]: [item("a", title="Coat"), item("b"), item("c", attributes={"x": "1", "y": "2"})],
}
TOLD = [
    ("a", "Coat", DAYS[0], DAYS[2], ALWAYS, DAYS[2]),
    ("a", "Warm coat", DAYS[2], DAYS[3], DAYS[2], DAYS[3]),
    ("a", "Coat", DAYS[3], None, DAYS[3], FOREVER),
    ("b", "Item b", DAYS[0], DAYS[1], ALWAYS, DAYS[2]),
    ("b", "Item b", DAYS[2], None, DAYS[2], FOREVER),
    ("c", "Item c", DAYS[0], None, ALWAYS, FOREVER),
    ("d", "Item d", DAYS[2], DAYS[3], ALWAYS, FOREVER),
]


def test_a_change_a_gap_and_a_return_each_end_or_begin_an_interval_and_the_order_of_attributes_is_no_change(fold):
    assert told(fold(STORY)) == TOLD


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [0, 0, 1, 3, 2, 1, 3]])
def test_catalogues_in_any_order_and_again_tell_the_same_history_as_all_at_once(fold, order):
    known = None
    for place in order:
        known = fold({DAYS[place]: STORY[DAYS[place]]}, known)
    assert told(known) == TOLD


def test_what_is_known_on_a_day_is_what_was_known_then(fold):
    whole = fold(STORY)
    for place, day in enumerate(DAYS):
        assert told(whole.where(f.col("arrival_date") <= f.lit(day))) == told(fold({one: STORY[one] for one in DAYS[: place + 1]}))


def test_a_corrected_catalogue_changes_its_own_day_and_loses_nothing_of_later_ones(fold):
    corrected = {**STORY, DAYS[1]: [item("a", title="Warm coat"), item("b"), item("c", attributes={"x": "1"})]}
    assert told(fold({DAYS[1]: corrected[DAYS[1]]}, fold(STORY))) == told(fold(corrected))


def test_prices_and_stock_make_no_version(fold):
    rows = {DAYS[0]: [item("a", price=10.0, in_stock=True)], DAYS[1]: [item("a", price=5.0, in_stock=False)]}
    assert told(fold(rows)) == [("a", "Item a", DAYS[0], None, ALWAYS, FOREVER)]


def test_running_the_newest_catalogue_again_tells_nothing_new(fold):
    known = fold(STORY)
    assert told(fold({day: STORY[day] for day in DAYS[2:]}, known)) == TOLD
