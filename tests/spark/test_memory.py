# ruff: noqa: RUF001 - queries of every script are what some of this is about
"""The query-product memory, its as-of dates and its answers."""

from datetime import date
from math import log2

import pytest

from fashionrec.memory import attribute_queries, build_query_products, exposures, hit_rates, look_up, results_without_item
from fashionrec.memory.encoder import encode
from fashionrec.memory.normalise import normalise_query, normalise_text
from fashionrec.sequences import sessionize
from tests.builders import action, click, item, purchase, search, table_rows
from tests.conftest import RUN_DATE

ITEMS = [item("a"), item("b"), item("c", in_stock=False), item("shoe", category="Footwear")]
GRID = {"run_date": RUN_DATE, "as_of_every_days": 7, "half_life_days": 10}
WEEK_AGO, TWO_WEEKS_AGO = date(2026, 2, 22), date(2026, 2, 15)


@pytest.fixture
def remembered(spark):
    """Return a function from events to the table query_products."""

    def make(*events, **settings):
        settings = {"min_support": 1, "top_products": 10, "encoder_dim": 256, **settings}
        sessions = sessionize(table_rows(spark, "interactions", *events), gap_minutes=30).transform(attribute_queries)
        shown = exposures(sessions, table_rows(spark, "items", *ITEMS), **GRID)
        return build_query_products(sessions, shown, **GRID, **settings)

    return make


@pytest.fixture
def answers(spark):
    """Return a function from remembered (as-of date, category, query, exposures) and asked (as-of date, category, query) to answers."""

    def make(remembered, asked, **settings):
        settings = {"neighbours": 5, "min_similarity": 0.45, "top_products": 10, **settings}
        memory = [
            {
                "as_of_date": day,
                "category": category,
                "query": query,
                "products": [{"item_id": name, "title": name, "exposure": exposure} for name, exposure in products.items()],
                "embedding": encode([query], dim=256)[0].tolist(),
            }
            for day, category, query, products in remembered
        ]
        steps = [{"as_of_date": day, "category": category, "actions": [action("search", query=query)]} for day, category, query in asked]
        frames = table_rows(spark, "sequences", *steps, *steps), table_rows(spark, "query_products", *memory)
        rows = look_up(*frames, **settings).collect()
        assert len(rows) == len(asked)
        return {row.query if row.as_of_date == RUN_DATE else row.as_of_date: row for row in rows}

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


def test_a_query_is_remembered_from_its_support_on(remembered):
    searches = [search(f"2026-02-{day} 10:00", "red dress", results=["a", "shoe"]) for day in (10, 20, 25)]
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


def test_the_top_products_are_kept_without_what_was_never_shown_or_is_in_no_catalogue(remembered, spark):
    events = [search("2026-02-25 10:00", "dress", results=["gone", "b", "a"]), click("2026-02-25 10:01", "c")]
    assert names(memory_rows(remembered(*events))[RUN_DATE, "Clothing", "dress"]) == ["b", "a"]
    assert names(memory_rows(remembered(*events, top_products=1))[RUN_DATE, "Clothing", "dress"]) == ["b"]
    sessions = sessionize(table_rows(spark, "interactions", *events), gap_minutes=30).transform(attribute_queries)
    shown = exposures(sessions, table_rows(spark, "items", *ITEMS), **GRID)
    assert shown.agg(results_without_item()).first().results_without_item == 1


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


def test_the_newest_memory_up_to_the_as_of_date_answers_and_none_before_the_first(answers):
    remembered = [(WEEK_AGO, "Clothing", "dress", {"b": 2.0}), (RUN_DATE, "Clothing", "dress", {"b": 1.0, "a": 3.0})]
    before, between = date(2026, 2, 21), date(2026, 2, 28)
    found = answers(remembered, [(day, "Clothing", "dress") for day in (before, WEEK_AGO, between, RUN_DATE)])
    assert (found[before].match, found[before].products) == ("none", [])
    assert names(found[WEEK_AGO]) == names(found[between]) == ["b"]
    assert (found["dress"].match, names(found["dress"])) == ("exact", ["a", "b"])


def test_exact_beats_near_a_misspelling_finds_its_query_and_a_stranger_finds_nothing(answers):
    remembered = [
        (RUN_DATE, "Clothing", "red dress", {"a": 2.0, "c": 1.0}),
        (RUN_DATE, "Clothing", "red dresses", {"b": 0.5, "a": 0.25}),
        (RUN_DATE, "Footwear", "red dresses", {"shoe": 1.0}),
    ]
    questions = [("Clothing", query) for query in ("Red-DRESS", "red dres", "wallet", "?!")]
    questions += [("Footwear", "red dress"), ("Luggage & Bags", "red dresses")]
    found = answers(remembered, [(RUN_DATE, *question) for question in questions])
    exact, near = found["Red-DRESS"], found["red dres"]
    assert (exact.match, exact.similarity, [(p.item_id, p.score) for p in exact.products]) == ("exact", 1.0, [("a", 2.0), ("c", 1.0)])
    similar, less = (float(encode(["red dres"], dim=256)[0] @ encode([query], dim=256)[0]) for query in ("red dress", "red dresses"))
    assert (near.match, names(near), near.similarity) == ("near", ["a", "c", "b"], pytest.approx(similar, abs=1e-5))
    assert [p.score for p in near.products] == pytest.approx([2 * similar + 0.25 * less, similar, 0.5 * less], abs=1e-5)
    assert (found["red dress"].match, names(found["red dress"])) == ("near", ["shoe"])
    for stranger in ("wallet", "?!", "red dresses"):
        assert (found[stranger].match, found[stranger].similarity, found[stranger].products) == ("none", None, [])


def test_only_so_many_neighbours_that_are_near_enough_answer_with_so_many_products(answers):
    remembered = [(RUN_DATE, "Clothing", f"red {word}", {word: 1.0}) for word in ("dress", "dresses", "shirt")]
    asked = [(RUN_DATE, "Clothing", "red dres")]
    assert names(answers(remembered, asked, neighbours=3, min_similarity=0.0)["red dres"]) == ["dress", "dresses", "shirt"]
    assert names(answers(remembered, asked, neighbours=1, min_similarity=0.0)["red dres"]) == ["dress"]
    assert names(answers(remembered, asked, top_products=1)["red dres"]) == ["dress"]
    assert answers(remembered, asked, min_similarity=0.99)["red dres"].match == "none"


def test_a_log_without_searches_gives_an_empty_memory_and_no_answers(remembered, spark):
    memory = remembered(purchase("2026-02-20 10:00", "a"))
    sequences = table_rows(spark, "sequences", {"actions": [action("purchase", item_id="a")]})
    hits = look_up(sequences, memory, neighbours=5, min_similarity=0.45, top_products=10)
    assert memory.isEmpty()
    assert hits.agg(*hit_rates()).first().asDict() == dict.fromkeys(("memory_exact_rate", "memory_near_rate", "memory_none_rate"))


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
