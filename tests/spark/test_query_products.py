# ruff: noqa: RUF001 - queries of every script are what some of this is about
"""The query-product memory: which query an event belongs to, what is remembered of it, as of which date."""

from datetime import date
from math import log2

import pytest

from fashionrec.memory import attribute_queries, build_query_products, catalogue, exposures, results_without_item
from fashionrec.memory.normalise import normalise_query, normalise_text
from fashionrec.sequences import sessionize
from tests.builders import click, interval_rows, item, purchase, search, table_rows
from tests.conftest import RUN_DATE

GRID = {"run_date": RUN_DATE, "as_of_every_days": 7, "half_life_days": 10}
WEEK_AGO, TWO_WEEKS_AGO = date(2026, 2, 22), date(2026, 2, 15)
EVER, FOREVER = date(1970, 1, 1), date(9999, 12, 31)


def version(item_id, **fields):
    """Return the only version of an item, in the catalogue to this day."""
    return item(item_id, **{"valid_from": date(2026, 1, 1), "describes_from": EVER, "describes_to": FOREVER, **fields})


VERSIONS = [version("a"), version("b"), version("c"), version("shoe", category="Footwear"), version("w", valid_to=date(2026, 2, 20))]
ITEMS = [item("a"), item("b"), item("c", in_stock=False), item("shoe", category="Footwear")]


@pytest.fixture
def sessions(spark):
    """Return a function from events to those of `attribute_queries`."""

    def make(*events):
        return sessionize(table_rows(spark, "interactions", *events), gap_minutes=30).transform(attribute_queries)

    return make


@pytest.fixture
def shown(spark, sessions):
    """Return a function from events to their exposures."""

    def make(*events, versions=VERSIONS):
        described = catalogue(interval_rows(spark, *versions), table_rows(spark, "items", *ITEMS))
        return exposures(sessions(*events), described, **GRID)

    return make


@pytest.fixture
def remembered(sessions, shown):
    """Return a function from events to the table query_products."""

    def make(*events, versions=VERSIONS, **settings):
        settings = {"min_support": 1, "top_products": 10, **settings}
        return build_query_products(sessions(*events), shown(*events, versions=versions), **GRID, **settings)

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
    assert (then.holds_to, today.holds_to) == (date(2026, 2, 28), RUN_DATE)


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


def test_the_top_products_are_kept_without_what_was_never_shown_or_is_in_no_catalogue(remembered, shown):
    events = [search("2026-02-25 10:00", "dress", results=["gone", "b", "a"]), click("2026-02-25 10:01", "c")]
    assert names(memory_rows(remembered(*events))[RUN_DATE, "Clothing", "dress"]) == ["b", "a"]
    assert names(memory_rows(remembered(*events, top_products=1))[RUN_DATE, "Clothing", "dress"]) == ["b"]
    assert shown(*events).agg(results_without_item()).first().results_without_item == 1


def test_only_the_run_dates_memory_asks_for_todays_stock(remembered):
    rows = memory_rows(remembered(search("2026-02-20 10:00", "dress", results=["c", "a"])))
    assert names(rows[RUN_DATE, "Clothing", "dress"]) == ["a"]
    assert names(rows[WEEK_AGO, "Clothing", "dress"]) == ["c", "a"]


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
    assert {key: after[key] for key in known_then} == {key: before[key] for key in known_then}
    assert {p.item_id: p.purchase_count for p in after[RUN_DATE, "Clothing", "dress"].products} == {"a": 0, "b": 1}


def test_a_query_has_rows_for_the_dates_on_which_it_was_asked_and_they_hold_up_to_the_next(remembered):
    rows = memory_rows(remembered(*(search(f"2026-{day} 10:00", "dress", results=["a", "w"]) for day in ("01-20", "02-14"))))
    assert {day: row.holds_to for (day, _, _), row in rows.items()} == {
        date(2026, 1, 25): date(2026, 2, 14),
        TWO_WEEKS_AGO: date(2026, 2, 28),
        RUN_DATE: RUN_DATE,
    }


def test_what_has_left_the_catalogue_is_left_out_from_then_on(remembered):
    searches = [search(f"2026-02-{day} 10:00", "dress", results=["w", "a"]) for day in (14, 19)]
    rows = memory_rows(remembered(*searches))
    assert names(rows[TWO_WEEKS_AGO, "Clothing", "dress"]) == ["w", "a"]
    assert names(rows[WEEK_AGO, "Clothing", "dress"]) == names(rows[RUN_DATE, "Clothing", "dress"]) == ["a"]


def test_nothing_on_sale_today_is_no_row_today(remembered):
    rows = memory_rows(remembered(search("2026-02-20 10:00", "dress", results=["c"])))
    assert {day: row.holds_to for (day, _, _), row in rows.items()} == {WEEK_AGO: date(2026, 2, 28)}


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
