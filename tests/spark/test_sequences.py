"""Sessions, categories of searches, examples and their splits."""

from datetime import UTC, date

import pytest
from pyspark.sql import Observation

from fashionrec.sequences import attribute_searches, build_examples, describe_items, left_out, sessionize, set_robots_aside, with_prices
from tests.builders import click, item, purchase, search, table_rows
from tests.conftest import RUN_DATE

ALWAYS = {"describes_from": date(1970, 1, 1), "describes_to": date(9999, 12, 31)}
ITEMS = [item(name) for name in "abcdefghijklmnopq"] + [item("shoe", category="Footwear")]


@pytest.fixture
def attributed(spark):
    def make(*events, items=ITEMS):
        versions = [{**ALWAYS, **{name: value for name, value in one.items() if name != "price"}} for one in items]
        priced = with_prices(table_rows(spark, "item_versions", *versions), table_rows(spark, "items", *items))
        frame = describe_items(table_rows(spark, "interactions", *events), priced)
        return frame.transform(sessionize, gap_minutes=30).transform(attribute_searches)

    return make


@pytest.fixture
def examples(attributed):
    """Return a function from events to the examples: {split: rows in order of time}."""

    def make(*events, items=ITEMS, **settings):
        settings = {
            "run_date": RUN_DATE,
            "max_actions": 50,
            "max_train_examples": 10,
            "min_actions": 1,
            "validation_days": 7,
            "test_days": 7,
            **settings,
        }
        rows = build_examples(attributed(*events, items=items), **settings).collect()
        rows.sort(key=lambda row: (row.user_id, row.category, str(row.target_at)))
        return {split: [row for row in rows if row.split == split] for split in ("train", "validation", "test", "score")}

    return make


def words(row):
    """Return an example's actions in short: s:query, c:item, p:item."""
    return [f"{step.action[0]}:{step.query or step.item_id}" for step in row.actions]


def sessions(spark, *events):
    """Return the session of each event, in order of time."""
    found = sessionize(table_rows(spark, "interactions", *events), gap_minutes=30)
    return [row.session_id for row in found.orderBy("event_at").select("session_id").collect()]


def test_a_session_across_midnight_stays_whole_and_is_named_by_its_first_event(spark):
    first, second = sessions(spark, click("2026-02-01 23:50", "a"), click("2026-02-02 00:10", "b"))
    assert first == second == sessions(spark, click("2026-02-01 23:50", "c", event_id="another"))[0]
    assert len(first) == 16
    assert int(first, 16) >= 0
    assert "u" not in first, "a session's name tells nobody's"


def test_a_session_ends_after_its_gap_to_the_microsecond(spark):
    times = ("2026-02-01 10:00", "2026-02-01 10:29:59.999999", "2026-02-01 10:59:59.999999")
    first, second, third = sessions(spark, *(click(at, "a") for at in times))
    assert first == second != third


def test_each_user_has_sessions_of_their_own(spark):
    one, two = sessions(spark, click("2026-02-01 10:00", "a"), click("2026-02-01 10:00", "a", user_id="v"))
    assert one != two


def test_a_search_has_the_category_of_what_it_led_to_in_its_session_else_of_its_top_result(attributed):
    frame = attributed(
        search("2026-02-01 10:00", "next", results=["a"]),
        click("2026-02-01 10:01", "gone"),
        click("2026-02-01 10:02", "shoe"),
        search("2026-02-01 10:03", "top result", results=["a", "shoe"]),
        search("2026-02-01 10:04", "nothing", results=["gone", "a"]),
        search("2026-02-01 10:05", "no results"),
        click("2026-02-01 11:00", "shoe"),
        search("2026-02-01 10:00", "other user", user_id="v"),
        click("2026-02-01 10:01", "a", user_id="v"),
    )
    found = {row.query: row.category for row in frame.where("action = 'search'").collect()}
    assert found == {"next": "Footwear", "top result": "Clothing", "nothing": None, "no results": None, "other user": "Clothing"}
    assert frame.agg(*left_out()).first().asDict() == {"searches_without_category": 2, "events_without_item": 1}


@pytest.mark.parametrize(("count", "train", "validation", "test"), [(1, "", "", "b"), (2, "", "b", "c"), (3, "b", "c", "d")])
def test_the_last_purchase_is_test_the_one_before_validation_earlier_ones_train(examples, count, train, validation, test):
    bought = [purchase(f"2026-02-0{day + 1} 10:00", "abcd"[day]) for day in range(1, count + 1)]
    found = examples(click("2026-02-01 10:00", "a"), *bought)
    targets = {split: "".join(row.target_item_id or "" for row in rows) for split, rows in found.items()}
    assert targets == {"train": train, "validation": validation, "test": test, "score": ""}
    assert len(found["score"]) == 1


def test_of_twelve_purchases_the_newest_train_examples_are_kept_and_the_first_has_nothing_before_it(examples):
    bought = [purchase(f"2026-02-{day:02d} 10:00", "abcdefghijkl"[day - 1]) for day in range(1, 13)]
    assert [row.target_item_id for row in examples(*bought)["train"]] == list("bcdefghij")
    assert [row.target_item_id for row in examples(*bought, max_train_examples=3)["train"]] == list("hij")


def test_an_example_holds_what_came_before_its_target_and_its_memory_ends_the_day_before(examples):
    found = examples(
        search("2026-02-01 10:00", "red dress"),
        click("2026-02-01 10:01", "a", position=3),
        purchase("2026-02-01 10:02", "b"),
        click("2026-02-02 10:00", "c"),
        items=[item("a", brand="Vera", price=9.5, attributes={"season": "Summer"}), *ITEMS[1:]],
    )
    (row,), (score,) = found["test"], found["score"]
    assert words(row) == ["s:red dress", "c:a"]
    assert (row.as_of_date, row.target_title) == (date(2026, 1, 31), "Item b")
    assert row.target_at.astimezone(UTC).isoformat() == "2026-02-01T10:02:00+00:00"
    step = row.actions[1]
    assert (step.position, step.title, step.brand, step.price, step.attributes) == (3, "Item a", "Vera", 9.5, {"season": "Summer"})
    assert (words(score), score.as_of_date) == (["s:red dress", "c:a", "p:b", "c:c"], RUN_DATE)


def test_the_answer_is_never_among_the_actions(examples):
    found = examples(
        click("2026-02-01 10:00", "a"),
        click("2026-02-01 10:01", "b"),
        purchase("2026-02-01 10:02", "b"),
        click("2026-02-01 10:03", "b"),
        click("2026-02-01 10:04", "c"),
        purchase("2026-02-01 10:05", "b"),
    )
    assert [words(row) for row in found["validation"]] == [["c:a"]]
    assert [words(row) for row in found["test"]] == [["c:a", "c:c"]]
    assert words(found["score"][0]) == ["c:a", "c:b", "p:b", "c:b", "c:c", "p:b"]


def test_immediate_repeats_collapse_also_where_removed_clicks_stood_between(examples):
    found = examples(
        search("2026-02-01 10:00", "red dress"),
        search("2026-02-01 10:01", "red dress"),
        click("2026-02-01 10:02", "a"),
        click("2026-02-01 10:03", "b"),
        click("2026-02-01 10:04", "a"),
        purchase("2026-02-01 10:05", "b"),
    )
    assert [words(row) for row in found["test"]] == [["s:red dress", "c:a"]]
    assert words(found["score"][0]) == ["s:red dress", "c:a", "c:b", "c:a", "p:b"]


def test_an_action_shows_its_item_as_it_was_that_day_and_at_the_price_of_the_run_date(examples):
    changed = date(2026, 2, 10)
    found = examples(
        click("2026-02-01 10:00", "coat"),
        click("2026-02-10 00:00", "coat"),
        click("2026-02-11 10:00", "a"),
        purchase("2026-02-12 10:00", "coat"),
        click("2026-02-13 10:00", "b"),
        items=[
            *ITEMS,
            item("coat", title="Coat", category="Footwear", price=9.5, describes_to=changed),
            item("coat", title="Warm coat", category="Clothing", price=9.5, describes_from=changed),
        ],
    )
    (shoes,) = (row for row in found["score"] if row.category == "Footwear")
    (clothes,) = (row for row in found["score"] if row.category == "Clothing")
    assert [(step.title, step.price) for step in shoes.actions] == [("Coat", 9.5)]
    assert [step.title for step in clothes.actions] == ["Warm coat", "Item a", "Warm coat", "Item b"]
    assert [row.target_title for row in found["test"]] == ["Warm coat"]


@pytest.mark.parametrize(
    ("bought", "split"),
    [("2026-03-01", "test"), ("2026-02-23", "test"), ("2026-02-22", "validation"), ("2026-02-19", "validation"), ("2026-02-18", "train")],
)
def test_the_split_by_time_goes_by_the_day_of_the_purchase(examples, bought, split):
    found = examples(
        click("2026-01-01 10:00", "a"),
        purchase(f"{bought} 23:59", "b"),
        purchase("2026-03-01 23:59:59", "c"),
        test_days=7,
        validation_days=4,
    )
    assert [row.split_by_time for row in found["validation"]] == [split]
    assert [row.split_by_time for row in found["test"]] == ["test"]
    assert [row.split_by_time for row in found["score"]] == ["score"]


ROBOTS = {"max_events_per_minute": 3, "max_events_per_day": 5, "max_purchases": 2}


@pytest.mark.parametrize(
    ("events", "is_robot"),
    [
        ([click(f"2026-02-01 10:00:{second:02d}", "a") for second in (0, 20, 59)], False),
        ([click(f"2026-02-01 10:00:{second:02d}", "a") for second in (0, 20, 40, 59)], True),
        ([click(f"2026-02-01 10:0{minute}", "a") for minute in (0, 1, 2, 3)], False),
        ([click(f"2026-02-01 1{hour}:00", "a") for hour in range(5)], False),
        ([click(f"2026-02-01 1{hour}:00", "a") for hour in range(6)], True),
        ([click(f"2026-02-{day:02d} 10:00", "a") for day in range(1, 20)], False),
        ([purchase(f"2026-02-{day:02d} 10:00", "a") for day in (1, 9)], False),
        ([purchase(f"2026-02-{day:02d} 10:00", "a") for day in (1, 9, 17)], True),
    ],
)
def test_who_acts_faster_or_more_than_a_person_or_buys_more_than_a_household_is_set_aside(spark, events, is_robot):
    counts = Observation()
    rows = table_rows(spark, "interactions", click("2026-02-01 10:00", "a", user_id="person"), *events)
    left = {row.user_id for row in set_robots_aside(rows, counts, **ROBOTS).collect()}
    assert left == ({"person"} if is_robot else {"person", "u"})
    assert counts.get == {"robot_events": len(events) if is_robot else 0, "robot_users": int(is_robot)}


def test_the_newest_actions_are_kept(examples):
    clicks = [click(f"2026-02-01 10:{minute:02d}", "abcdef"[minute]) for minute in range(6)]
    (row,) = examples(*clicks, purchase("2026-02-01 10:30", "g"), max_actions=2)["test"]
    assert words(row) == ["c:e", "c:f"]


def test_a_purchase_with_too_little_before_it_makes_no_example_but_keeps_its_place(examples):
    found = examples(click("2026-02-01 10:00", "a"), purchase("2026-02-02 10:00", "b"), purchase("2026-02-03 10:00", "c"), min_actions=2)
    assert [row.target_item_id for row in found["test"]] == ["c"]
    assert found["validation"] == found["train"] == []
    assert len(found["score"]) == 1


def test_an_example_has_the_marketplace_of_its_newest_event_that_names_one_and_none_of_its_future(examples):
    found = examples(
        click("2026-02-01 10:00", "a"),
        purchase("2026-02-02 10:00", "b"),
        click("2026-02-03 10:00", "c", marketplace="DE"),
        click("2026-02-04 10:00", "d"),
        purchase("2026-02-05 10:00", "e", marketplace="AU"),
        purchase("2026-02-06 10:00", "f"),
        click("2026-02-07 10:00", "shoe", marketplace="JP"),
    )
    assert [row.marketplace for row in found["train"]] == [None]
    assert [row.marketplace for row in found["validation"]] == ["DE"]
    assert [row.marketplace for row in found["test"]] == ["AU"]
    assert [(row.category, row.marketplace) for row in found["score"]] == [("Clothing", "AU"), ("Footwear", "JP")]


def test_each_category_is_a_path_of_its_own(examples):
    found = examples(click("2026-02-01 10:00", "a"), click("2026-02-01 10:01", "shoe"), purchase("2026-02-01 10:02", "b"))
    assert [(row.category, words(row)) for row in found["score"]] == [("Clothing", ["c:a", "p:b"]), ("Footwear", ["c:shoe"])]
    assert [words(row) for row in found["test"]] == [["c:a"]]


def test_what_comes_after_a_target_changes_nothing_but_its_split(examples):
    past = [
        search("2026-02-01 10:00", "dress", results=["shoe"]),
        click("2026-02-01 10:01", "a"),
        purchase("2026-02-01 10:02", "b"),
        search("2026-02-05 10:00", "coat"),
        purchase("2026-02-05 10:02", "c"),
    ]
    future = [
        click("2026-02-05 10:03", "shoe"),
        click("2026-02-05 10:04", "b"),
        search("2026-02-05 10:05", "coat", results=["shoe"]),
        purchase("2026-02-06 10:00", "d"),
    ]

    def by_target(found):
        rows = [row for split in ("train", "validation", "test") for row in found[split]]
        return {row.example_id: (row.as_of_date, row.actions, row.target_item_id, row.target_at) for row in rows}

    before, after = by_target(examples(*past)), by_target(examples(*past, *future))
    assert len(before) == 2
    assert {name: after[name] for name in before} == before


def test_the_training_examples_of_a_user_end_before_the_validation_target(examples):
    found = examples(*(purchase(f"2026-02-{day:02d} 10:00", "abcdefgh"[day - 1]) for day in range(1, 9)))
    (validation,), (test,) = found["validation"], found["test"]
    assert validation.target_at < test.target_at
    for row in found["train"]:
        assert max(step.event_at for step in row.actions) < row.target_at < validation.target_at
        assert not {validation.target_item_id, test.target_item_id} & {row.target_item_id, *(step.item_id for step in row.actions)}


def test_all_that_is_by_user_takes_one_shuffle(attributed):
    settings = {"max_actions": 50, "max_train_examples": 10, "min_actions": 1, "validation_days": 7, "test_days": 7}
    people = attributed(click("2026-02-01 10:00", "a")).transform(set_robots_aside, **ROBOTS)
    plan = build_examples(people, run_date=RUN_DATE, **settings)._jdf.queryExecution().executedPlan().toString()
    assert plan.count("Exchange hashpartitioning(user_id") == 1
    assert plan.count("Exchange") == 4, "the others bring the events to their items: events, versions, prices"


def test_examples_whose_user_and_category_read_alike_have_different_names(examples):
    found = examples(
        click("2026-02-01 10:00", "a", user_id="u"),
        click("2026-02-01 10:00", "b", user_id="uC"),
        items=[item("a", category="CC"), item("b", category="C")],
    )
    names = {row.example_id for row in found["score"]}
    assert len(names) == 2
    assert all(len(name) == 16 for name in names)
