"""What Spark prepares for the indexes and the lists: items that may be ranked, their purchases, and what shoppers ask with."""

from datetime import UTC, date, datetime
from functools import reduce

import pytest
from pyspark.sql import functions as f

from fashionrec.retrieval.catalogue import purchases_by_category, rankable_items
from fashionrec.retrieval.requests import COLUMNS, STATES, list_requests, read_requests
from tests.builders import RUN_DATE, action, click, interval_rows, item, purchase, table_rows
from tests.unit.category_made import category

EPOCH, FOREVER = date(1970, 1, 1), date(9999, 12, 31)
FIRST = date(2026, 2, 1)


def feb(day):
    return date(2026, 2, day)


def number(day):
    return (day - EPOCH).days


def version(item_id, since=FIRST, until=None, **fields):
    return item(item_id, valid_from=since, valid_to=until, describes_from=EPOCH, describes_to=FOREVER, **fields)


TODAY = {"colour": "red", "attributes": {"fit": "slim"}, "price": 5.0}
ITEMS = [
    item("always", **TODAY, title="Dress, black"),
    item("dated", in_stock=False),
    item("newer", attributes={"season": "x"}),
    item("early"),
    item("unversioned"),
]
VERSIONS = [
    version("always", title="Dress, as it was"),
    version("dated", first_available_date=feb(3)),
    version("newer", feb(15)),
    version("early", feb(15)),
    version("renamed", FIRST, feb(8), title="Old, x", colour="blue"),
    version("renamed", feb(8), feb(22), title=" New , y", colour="green"),
    version("sold_later", FIRST, feb(8)),
    version("long_gone", FIRST, feb(9)),
    version("just_reached", FIRST, feb(10)),
]
BOUGHT = [
    purchase("2026-02-10 10:00", "early"),
    purchase("2026-02-12 10:00", "early", user_id="v"),
    purchase("2026-02-20 10:00", "sold_later"),
    purchase("2026-02-05 10:00", "long_gone"),
]


@pytest.fixture
def ranked(spark):
    """Return a function from settings to the rows of `rankable_items` by ID."""
    stock = {feb(22): ["always"], feb(15): ["always", "renamed"], RUN_DATE: ["dated"]}
    frames = [
        table_rows(spark, "items", *(item(name, in_stock=name in out) for name in ("always", "renamed", "dated"))).withColumn(
            "run_date", f.lit(day)
        )
        for day, out in ((day, {"always", "renamed", "dated"} - set(missing)) for day, missing in stock.items())
    ]
    snapshots = reduce(lambda one, other: one.union(other), frames)

    def make(family="", attributes=("colour", "fit"), items=ITEMS, versions=VERSIONS):
        return rankable_items(
            table_rows(spark, "items", *items),
            interval_rows(spark, *versions),
            snapshots,
            table_rows(spark, "interactions", *BOUGHT),
            run_date=RUN_DATE,
            history_days=20,
            family=family,
            attributes=attributes,
        )

    return make


def by_id(frame):
    rows = frame.collect()
    found = {row.item_id: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_items_of_today_and_of_the_days_of_history_with_their_days_on_sale(ranked):
    rows = by_id(ranked())
    days = {name: (row.in_stock, row.on_sale_from, row.on_sale_to) for name, row in rows.items()}
    assert days == {
        "always": (True, 0, number(FOREVER)),
        "dated": (False, number(feb(3)), number(FOREVER)),
        "newer": (True, number(feb(15)), number(FOREVER)),
        # It was bought before the first catalogue that held it.
        "early": (True, number(feb(10)), number(FOREVER)),
        "unversioned": (True, 0, number(FOREVER)),
        # Withdrawn: up to the first catalogue that lacked it, or to its last purchase.
        "renamed": (False, 0, number(feb(22))),
        "sold_later": (False, 0, number(feb(21))),
        # history_days reach back to 9 February, before which long_gone was on sale the last time.
        "just_reached": (False, 0, number(feb(10))),
    }


def test_items_are_described_as_they_were_last_and_priced_as_of_today(ranked):
    rows = by_id(ranked())
    assert (rows["always"].title, rows["always"].tastes, rows["always"].price) == ("Dress, black", ["red", "slim"], 5.0)
    assert (rows["renamed"].title, rows["renamed"].tastes, rows["renamed"].price) == (" New , y", ["green", None], None)
    assert rows["newer"].tastes == [None, None]
    assert by_id(ranked(attributes=()))["always"].tastes == []


def test_sold_out_are_the_evenings_without_stock(ranked):
    rows = by_id(ranked())
    assert {name: row.sold_out for name, row in rows.items() if row.sold_out} == {
        "always": [number(feb(15)), number(feb(22))],
        "renamed": [number(feb(15))],
        "dated": [number(RUN_DATE)],
    }


def test_a_family_is_an_attribute_or_the_title_up_to_its_first_comma(ranked):
    families = {name: row.family for name, row in by_id(ranked()).items()}
    assert (families["always"], families["renamed"], families["newer"]) == ("dress", "new", "item newer")
    by_attribute = {name: row.family for name, row in by_id(ranked(family="fit")).items()}
    assert (by_attribute["always"], by_attribute["newer"], by_attribute["early"]) == ("slim", None, None)
    assert by_id(ranked(family="colour"))["renamed"].family == "green"


def test_the_first_catalogue_of_all_leaves_nothing_withdrawn_and_all_on_sale_for_ever_back(ranked):
    rows = by_id(ranked(items=[item("a")], versions=[version("a")]))
    assert [(row.on_sale_from, row.on_sale_to) for row in rows.values()] == [(0, number(FOREVER))]


def test_purchases_stand_beside_the_category_that_their_item_has_now(spark, ranked):
    events = [*BOUGHT, click("2026-02-10 10:00", "always"), purchase("2026-02-10 10:00", "nobody_knows_it")]
    found = purchases_by_category(table_rows(spark, "interactions", *events), ranked())
    assert sorted(tuple(row) for row in found.collect()) == [
        ("Clothing", "u", "early", number(feb(10))),
        ("Clothing", "u", "sold_later", number(feb(20))),
        ("Clothing", "v", "early", number(feb(12))),
    ]


# --- requests ---


EVENING = feb(19)


def at(day, hour=12):
    return datetime(2026, 2, day, hour, tzinfo=UTC)


PATH = [
    action("search", event_at=at(16), query="old"),
    action("click", event_at=at(16, 13), item_id="A"),
    action("search", event_at=at(17), query="newest"),
    action("search", event_at=at(17, 13), query="second"),
    action("search", event_at=at(17, 14), query="third"),
    action("click", event_at=at(18), item_id="A"),
    action("search", event_at=at(18, 13), query="newest"),
    action("purchase", event_at=at(19, 23), item_id="B"),
]
ELSEWHERE = [
    action("click", event_at=at(18), item_id="S0", colour="grey"),
    action("search", event_at=at(19, 1), query="not an item"),
    action("purchase", event_at=at(19, 22), item_id="S1", colour="red", attributes={"fit": "slim"}),
    action("click", event_at=at(20, 0), item_id="S2", colour="blue"),
    action("click", event_at=at(20, 11), item_id="S3", attributes={"fit": "wide"}),
    action("click", event_at=at(20, 12), item_id="S4", colour="at the target's own time"),
    action("purchase", event_at=at(25), item_id="S5", colour="later"),
]
SHARED = {"user_id": "u", "category": "Bags", "target_at": at(20), "target_item_id": "T", "as_of_date": feb(19), "split": "test"}
OPEN = {"target_at": None, "target_item_id": None, "as_of_date": RUN_DATE, "split": "score", "horizon": "overnight"}
PATHS = [
    {**SHARED, "example_id": "in", "horizon": "in_session", "actions": PATH},
    {**SHARED, "example_id": "over", "horizon": "overnight", "actions": PATH[:2]},
    {**SHARED, **OPEN, "example_id": "open", "actions": PATH},
    {**SHARED, "example_id": "none", "user_id": "stranger", "horizon": "overnight", "actions": []},
]
OPEN_PATHS = [
    {**SHARED, **OPEN, "example_id": "o1", "actions": [*PATH, action("click", event_at=at(1), item_id="X", colour="own category")]},
    {**SHARED, **OPEN, "example_id": "o2", "category": "Shoes", "actions": ELSEWHERE},
    {
        **SHARED,
        **OPEN,
        "example_id": "o3",
        "category": "Hats",
        "actions": [action("click", event_at=at(19, 23), item_id="H", colour="black")],
    },
    {**SHARED, **OPEN, "example_id": "o4", "user_id": "other", "category": "Hats", "actions": ELSEWHERE},
]


def hit(query, *products, as_of=EVENING, category="Bags"):
    found = [{"item_id": name, "title": name, "score": score} for name, score in products]
    return {
        "as_of_date": as_of,
        "category": category,
        "query": query,
        "products": found,
        "neighbours": [],
        "match": "exact" if found else "none",
    }


HITS = [
    hit("newest", ("M1", 0.5), ("M2", 0.25)),
    hit("third", ("M1", 1.0)),
    hit("second"),
    hit("old", ("M3", 1.0)),
    hit("newest", ("later", 1.0), as_of=RUN_DATE),
    hit("newest", ("other category", 1.0), category="Shoes"),
]
ANSWERS = [
    {"example_id": "in", "item_id": "T", "title": "t", "log_prob": -0.5},
    {"example_id": "over", "title": "half an answer", "parse_error": "no_id", "log_prob": -9.0},
]


@pytest.fixture
def requested(spark):
    """Return a function from open paths and hits to the rows of `list_requests` by example."""

    def make(open_paths=OPEN_PATHS, hits=HITS, attributes=("colour", "fit")):
        return list_requests(
            table_rows(spark, "sequences", *PATHS),
            table_rows(spark, "sequences", *open_paths),
            table_rows(spark, "query_hits", *hits),
            table_rows(spark, "generations", *ANSWERS, user_id="u", category="Bags"),
            attributes=attributes,
        )

    return make


def by_example(frame):
    rows = frame.collect()
    found = {row.example_id: row for row in rows}
    assert len(found) == len(rows) == len(PATHS)
    return found


def test_touched_items_and_different_searches_stand_newest_first(requested):
    rows = by_example(requested())
    a, b = (number(feb(18)), False), (number(feb(19)), True)
    assert [tuple(step) for step in rows["in"].touched] == [("B", *b), ("A", *a), ("A", number(feb(16)), False)]
    assert rows["in"].queries == ["newest", "third", "second"]
    assert [tuple(step) for step in rows["over"].touched] == [("A", number(feb(16)), False)]
    assert (rows["none"].touched, rows["none"].queries) == ([], [])
    assert {name: row.as_of for name, row in rows.items()} == {
        **dict.fromkeys(("in", "over", "none"), number(feb(19))),
        "open": number(RUN_DATE),
    }


def test_the_memory_answers_as_of_the_examples_date(requested):
    rows = by_example(requested())
    remembered = {name: [tuple(product) for product in row.remembered or []] for name, row in rows.items()}
    assert remembered == {
        "in": [(0, "M1", 0.5), (0, "M2", 0.25), (1, "M1", 1.0)],
        "over": [(0, "M3", 1.0)],
        "open": [(0, "later", 1.0)],
        "none": [],
    }


def test_tastes_come_from_other_categories_up_to_the_end_of_the_path(requested):
    rows = by_example(requested())
    overnight = [["black", None], ["red", "slim"], ["grey", None]]
    in_session = [[None, "wide"], ["blue", None], *overnight]
    assert rows["over"].elsewhere == overnight
    assert rows["in"].elsewhere == in_session
    assert rows["open"].elsewhere == [["later", None], ["at the target's own time", None], *in_session]
    assert rows["none"].elsewhere is None


def test_what_happens_later_changes_no_path_that_ended(requested):
    later = [action("click", event_at=at(day, hour), item_id="L", colour="planted") for day in range(21, 28) for hour in range(23)]
    planted = [*OPEN_PATHS, {**OPEN_PATHS[1], "example_id": "o9", "category": "Belts", "actions": later}]
    hits = [*HITS, *(hit(query, ("P", 9.0), as_of=RUN_DATE) for query in ("third", "old"))]
    before, after = by_example(requested()), by_example(requested(planted, hits))
    assert {name for name in before if before[name] != after[name]} == {"open"}
    assert len(after["open"].elsewhere) == 30


def test_an_answer_that_could_not_be_read_is_none(requested):
    rows = by_example(requested())
    assert {name: (row.item_id, row.title, row.log_prob) for name, row in rows.items()} == {
        "in": ("T", "t", -0.5),
        **dict.fromkeys(("over", "open", "none"), (None, None, None)),
    }


def test_rows_become_arrays_of_the_category(requested, tmp_path):
    index = category(tmp_path, [{"item_id": name, "title": "at 1", "tastes": ["red", "slim"]} for name in ("A", "B", "M1")])
    table = requested().select(*COLUMNS).orderBy("example_id").toArrow().combine_chunks()
    read = read_requests(table.to_batches()[0], index)
    assert table["example_id"].to_pylist() == ["in", "none", "open", "over"]
    assert [STATES[state] for state in read.states] == ["in_session", "empty", "overnight", "overnight"]
    assert read.sessions == [["A", "A", "B"], [], ["A", "A", "B"], ["A"]]
    assert read.queries == ["newest", None, "newest", "old"]
    assert read.touched.tolist() == [1, 0, 0, 1, 0, 0, 0]
    assert read.touched_days.tolist() == [0, 1, 3, 10, 11, 13, 3]
    assert read.remembered.tolist() == [2, -1, 2, -1, -1]
    assert read.answer.tolist() == [-1, -1, -1, -1]
    assert [(of, *values) for of, values in zip(read.elsewhere_of.tolist(), read.elsewhere.tolist(), strict=True) if any(values)] == [
        (0, 1, 1),
        (2, 1, 1),
        (3, 1, 1),
    ]


def test_no_attributes_are_no_tastes(requested, tmp_path):
    index = category(tmp_path, [{"item_id": "A", "title": "at 1", "tastes": []}])
    (batch,) = requested(attributes=()).select(*COLUMNS).toArrow().combine_chunks().to_batches()
    assert read_requests(batch, index).elsewhere.size == 0
