# ruff: noqa: RUF001 - queries of every script are what some of this is about
"""The query-product memory: which query an event belongs to, what is remembered of it, as of which date."""

from datetime import date, timedelta
from math import log2

import pytest

from fashionrec.lake.spec import table_spec
from fashionrec.memory import attribute_queries, build_query_products, held, results_without_item, shown_products
from fashionrec.memory.normalise import normalise_query, normalise_text
from fashionrec.memory.query_products import MOST_ASKERS
from fashionrec.memory.weeks import week_end
from fashionrec.sequences import sessionize
from tests.builders import click, interval_rows, item, purchase, search, table_rows
from tests.conftest import RUN_DATE

# The ends of weeks, the run date's own among them.
WEEK_AGO, TWO_WEEKS_AGO = date(2026, 2, 22), date(2026, 2, 15)
EVER, FOREVER = date(1970, 1, 1), date(9999, 12, 31)
HALF_LIFE = 10


def version(item_id, **fields):
    """Return the only version of an item, in the catalogue to this day."""
    return item(item_id, **{"valid_from": date(2026, 1, 1), "describes_from": EVER, "describes_to": FOREVER, **fields})


VERSIONS = [version("a"), version("b"), version("c"), version("shoe", category="Footwear")]


@pytest.fixture
def sessions(spark):
    """Return a function from events to those of `attribute_queries`."""

    def make(*events):
        return sessionize(table_rows(spark, "interactions", *events), gap_minutes=30).transform(attribute_queries)

    return make


@pytest.fixture
def shown(spark, sessions):
    """Return a function from a week's events to its products."""

    def make(events, day, versions=VERSIONS):
        return shown_products(events, interval_rows(spark, *versions), as_of_date=day, half_life_days=HALF_LIFE)

    return make


@pytest.fixture
def remembered(spark, sessions, shown):
    """Return a function from events to the rows of query_products that answer, made week by week."""
    struct = table_spec("query_products").struct

    def make(*events, versions=VERSIONS, min_support=1, top_products=10, history_days=365):
        rows = []
        for day in sorted({week_end(event["arrival_date"], 7) for event in events}):
            arrived = sessions(*(event for event in events if event["arrival_date"] <= day))
            arrived = arrived.where(arrived.arrival_date > day - timedelta(days=7))
            new = build_query_products(
                arrived,
                shown(arrived, day, versions),
                spark.createDataFrame(rows, struct),
                as_of_date=day,
                half_life_days=HALF_LIFE,
                history_days=history_days,
                top_products=top_products,
            )
            rows += new.selectExpr("*", "'x' AS fingerprint").select(*struct.names).collect()
        return held(spark.createDataFrame(rows, struct), min_support=min_support, history_days=history_days)

    return make


def memory_rows(frame):
    return {(row.as_of_date, row.category, row.query): row for row in frame.collect()}


def names(row):
    return [product.item_id for product in row.products]


def test_a_product_counts_by_its_position_and_by_the_age_of_the_search(remembered):
    rows = memory_rows(
        remembered(
            search("2026-02-20 10:00", "Red Dress!", results=["a", "b"]),
            search("2026-02-27 10:00", "red  dress", results=["b", "a"]),
        )
    )
    assert sorted(day for day, _, _ in rows) == [WEEK_AGO, RUN_DATE]
    first, second = 1.0, 1 / log2(3)
    today = rows[RUN_DATE, "Clothing", "red dress"]
    assert names(today) == ["b", "a"]
    assert today.products[0].exposure == pytest.approx(second * 0.5 ** (9 / 10) + first * 0.5 ** (2 / 10))
    assert today.products[1].exposure == pytest.approx(first * 0.5 ** (9 / 10) + second * 0.5 ** (2 / 10))
    then = rows[WEEK_AGO, "Clothing", "red dress"]
    assert [product.exposure for product in then.products] == pytest.approx([first * 0.5 ** (2 / 10), second * 0.5 ** (2 / 10)])
    assert (then.search_count, today.search_count) == (1, 2)
    assert (then.holds_to, today.holds_to) == (date(2026, 2, 28), date(2027, 3, 1))


def test_a_query_is_remembered_from_its_support_by_different_users_on(remembered):
    searches = [
        search(f"2026-02-{day} 10:00", "red dress", results=["a", "shoe"], user_id=user)
        for day, user in ((10, "u"), (11, "u"), (20, "v"), (25, "u"))
    ]
    assert sorted(memory_rows(remembered(*searches, min_support=2))) == [
        (WEEK_AGO, "Clothing", "red dress"),
        (WEEK_AGO, "Footwear", "red dress"),
        (RUN_DATE, "Clothing", "red dress"),
        (RUN_DATE, "Footwear", "red dress"),
    ]


def test_clicks_and_purchases_belong_to_the_latest_search_before_them_in_the_session(remembered):
    rows = memory_rows(
        remembered(
            click("2026-02-25 09:59", "a"),
            search("2026-02-25 10:00", "red dress", results=["a"]),
            click("2026-02-25 10:01", "a"),
            purchase("2026-02-25 10:02", "a"),
            search("2026-02-25 10:03", "blue dress", results=["a"]),
            click("2026-02-25 10:04", "a"),
            click("2026-02-25 12:00", "a"),
            click("2026-02-25 10:05", "a", user_id="v"),
        )
    )
    counts = {query: (p.click_count, p.purchase_count) for (_, _, query), row in rows.items() for p in row.products}
    assert counts == {"red dress": (1, 1), "blue dress": (1, 0)}


def test_a_user_counts_once_however_many_weeks_and_users_there_are(remembered):
    crowd = [search("2026-02-10 10:00", "dress", results=["a"], user_id=f"u{n}") for n in range(MOST_ASKERS - 1)]
    again = [search("2026-02-17 10:00", "dress", results=["a"], user_id=f"u{n}") for n in range(5)]
    others = [search("2026-02-24 10:00", "dress", results=["a"], user_id=f"v{n}") for n in range(5)]
    rows = memory_rows(remembered(*crowd, *again, *others))
    assert [(row.search_count, row.user_count) for _, row in sorted(rows.items())] == [(99, 99), (104, 99), (109, MOST_ASKERS)]


def test_the_top_products_are_kept_without_what_was_never_shown_or_is_in_no_catalogue(remembered, sessions, shown):
    events = [search("2026-02-25 10:00", "dress", results=["gone", "b", "a"]), click("2026-02-25 10:01", "c")]
    assert names(memory_rows(remembered(*events))[RUN_DATE, "Clothing", "dress"]) == ["b", "a"]
    assert shown(sessions(*events), RUN_DATE).agg(results_without_item()).first().results_without_item == 1


def test_ten_times_the_products_that_are_shown_are_carried_on(remembered):
    many = [version(f"i{n:02}") for n in range(12)]
    events = [search("2026-02-20 10:00", "dress", results=[one["item_id"] for one in many])]
    (row,) = memory_rows(remembered(*events, versions=many, top_products=1)).values()
    assert names(row) == [f"i{n:02}" for n in range(10)]


def test_what_happens_after_an_as_of_date_changes_nothing_in_its_memory(remembered):
    past = [
        search("2026-02-10 10:00", "dress", results=["a", "b"]),
        search("2026-02-22 23:58", "dress", results=["b", "a"]),
        click("2026-02-22 23:59", "b"),
    ]
    # The purchase that the search led to falls on the next day, as do the searches of others.
    future = [
        purchase("2026-02-23 00:01", "b"),
        search("2026-02-23 00:02", "dress", results=["c", "shoe", "a"], user_id="v"),
        search("2026-02-23 00:03", "new dress", results=["a"], user_id="v"),
    ]
    before, after = memory_rows(remembered(*past)), memory_rows(remembered(*past, *future))
    known_then = [key for key in after if key[0] < date(2026, 2, 23)]
    assert sorted(known_then) == [(TWO_WEEKS_AGO, "Clothing", "dress"), (WEEK_AGO, "Clothing", "dress")]
    assert [after[key][:-1] for key in known_then] == [before[key][:-1] for key in known_then], "all but holds_to"
    assert {p.item_id: p.purchase_count for p in after[RUN_DATE, "Clothing", "dress"].products} == {"a": 0, "b": 1, "c": 0}


def test_a_query_has_rows_for_the_weeks_in_which_it_was_asked_and_they_hold_up_to_the_next_or_until_it_is_forgotten(remembered):
    days = ("2026-01-20", "2026-02-14", "2026-02-27")
    rows = memory_rows(remembered(*(search(f"{day} 10:00", "dress", results=["a", "b"]) for day in days), history_days=20))
    assert {day: (row.holds_to, row.search_count) for (day, _, _), row in rows.items()} == {
        date(2026, 1, 25): (date(2026, 2, 14), 1),
        TWO_WEEKS_AGO: (date(2026, 2, 28), 1),
        RUN_DATE: (date(2026, 3, 21), 2),
    }


def test_an_event_is_known_from_the_week_in_which_it_arrived(remembered):
    late = {"arrival_date": date(2026, 2, 23)}
    rows = memory_rows(
        remembered(
            search("2026-02-14 10:00", "dress", results=["a"]),
            search("2026-02-14 11:00", "dress", results=["b"], user_id="v", **late),
            click("2026-02-14 11:01", "b", user_id="v", **late),
        )
    )
    assert {day: (names(row), row.search_count) for (day, _, _), row in rows.items()} == {
        TWO_WEEKS_AGO: (["a"], 1),
        RUN_DATE: (["b", "a"], 2),
    }
    exposures = [product.exposure for product in rows[RUN_DATE, "Clothing", "dress"].products]
    assert exposures == pytest.approx([0.5**1.5] * 2), "its age is that of the search"


def test_a_product_has_the_category_and_title_of_its_time(remembered):
    versions = [
        version("a", describes_to=date(2026, 2, 21), valid_to=date(2026, 2, 21), category="Footwear", title="Old"),
        version("a", describes_from=date(2026, 2, 21), valid_from=date(2026, 2, 21), title="New"),
    ]
    searches = [search(f"2026-02-{day} 10:00", "dress", results=["a"]) for day in (14, 26)]
    rows = memory_rows(remembered(*searches, versions=versions))
    titles = {(day, category): row.products[0].title for (day, category, _), row in rows.items()}
    assert titles == {(TWO_WEEKS_AGO, "Footwear"): "Old", (RUN_DATE, "Footwear"): "Old", (RUN_DATE, "Clothing"): "New"}


def test_the_commonest_wordings_are_kept_as_they_were_typed(remembered):
    typed = ["Red dress", " red DRESS ", "red dress!", "red dress", "red dress!", "Red dress", "Red dress", "red-dress"]
    searches = [search(f"2026-02-25 1{number}:00", wording, results=["a"]) for number, wording in enumerate(typed)]
    (row,) = memory_rows(remembered(*searches)).values()
    assert (row.query, row.wordings) == ("red dress", ["Red dress", "red dress!", "red DRESS"])


def test_beginnings_typed_on_the_way_to_a_longer_query_are_folded_into_it(remembered, sessions):
    events = [
        search("2026-02-25 10:00:00", "re", results=["b"]),
        search("2026-02-25 10:00:01", "Red", results=["b"]),
        search("2026-02-25 10:00:02", "red dre", results=["b"]),
        search("2026-02-25 10:00:03", "red dress", results=["a"]),
        click("2026-02-25 10:00:09", "a"),
    ]
    rows = memory_rows(remembered(*events))
    assert [(query, names(row), row.search_count, row.wordings) for (_, _, query), row in rows.items()] == [
        ("red dress", ["a"], 1, ["red dress"])
    ]
    folded = sessions(*events).where("is_prefix").select("query").collect()
    assert [row.query for row in folded] == ["red dress"] * 3


@pytest.mark.parametrize(
    "then",
    [
        [click("2026-02-25 10:01", "b"), search("2026-02-25 10:02", "red dress", results=["a"])],  # its results were what was wanted
        [search("2026-02-25 12:00", "red dress", results=["a"])],  # another session
        [search("2026-02-25 10:01", "red dress", results=["a"], user_id="v")],  # another user
        [search("2026-02-25 10:01", "dress red", results=["a"])],  # no beginning of it
        [search("2026-02-25 10:01", "RED", results=["a"])],  # not longer
    ],
)
def test_a_search_of_its_own_is_not_folded(sessions, then):
    assert sessions(search("2026-02-25 10:00", "red", results=["b"]), *then).where("is_prefix").isEmpty()


def test_what_is_typed_after_midnight_does_not_fold_the_day_before(remembered):
    past = [search("2026-02-22 23:59", "red", results=["a"])]
    rows = memory_rows(remembered(*past, search("2026-02-23 00:01", "red dress", results=["b"])))
    assert names(rows[WEEK_AGO, "Clothing", "red"]) == ["a"]


def test_spark_and_python_normalise_alike(spark):
    wild = [
        *(
            "Red  DRESS!",
            "décolleté",
            "de\u0301collete\u0301",
            "ｒｅｄ\u3000ｄｒｅｓｓ",
            "men's t-shirt_xl",
            "\u0130STANBUL",
            "ΟΔΟΣ",
            "ß ẞ",
        ),
        *(
            "👗 kleid 👠",
            "\u00a0a\u200bb\tc\nd",
            "ﬁne ½ ² ℂ Ⓐ",
            "हिन्दी",
            "한국어",
            "ワンピース",
            "red red DRESS red",
            "naïve—coöp",
            "\u1e9b\u0323",
            "A\u030a",
            "",
            " ",
            "?!",
        ),
        "".join(map(chr, range(0x20, 0x530))),
    ]
    frame = spark.createDataFrame([(number, text) for number, text in enumerate(wild)], "number int, query string")
    found = [row[0] for row in frame.orderBy("number").select(normalise_query(frame.query)).collect()]
    assert found == [normalise_text(text) for text in wild]
