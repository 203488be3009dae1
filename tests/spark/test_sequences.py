"""Sessions, categories of searches, examples and their splits."""

from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest
from pyspark.sql import Observation

from fashionrec.embeddings.examples import training_inputs
from fashionrec.sequences import as_of_today, attribute_searches, build_examples, describe_items, left_out, sessionize, set_robots_aside
from tests.builders import click, interval_rows, item, purchase, search, table_rows
from tests.conftest import RUN_DATE

ALWAYS = {"describes_from": date(1970, 1, 1), "describes_to": date(9999, 12, 31)}
ITEMS = [item(name) for name in "abcdefghijklmnopq"] + [item("shoe", category="Footwear")]


@pytest.fixture
def attributed(spark):
    def make(*events, items=ITEMS):
        versions = [{**ALWAYS, **{name: value for name, value in one.items() if name != "price"}} for one in items]
        newest = {one["item_id"]: one for one in items}  # of an item's descriptions, the last is today's
        priced = as_of_today(interval_rows(spark, *versions), table_rows(spark, "items", *newest.values()))
        frame = describe_items(table_rows(spark, "interactions", *events), priced)
        return frame.transform(sessionize, gap_minutes=30).transform(attribute_searches)

    return make


SETTINGS = {
    "run_date": RUN_DATE,
    "max_actions": 50,
    "max_train_examples": 10,
    "min_actions": 1,
    "overnight_rate": 1.0,
    "bought_again": (),
    "validation_days": 7,
    "test_days": 7,
}
BOUGHT = ("train", "validation", "test")


@pytest.fixture
def examples(attributed):
    """Return a function from events to the examples: {split: rows in order of time}, "test overnight" those of the night before."""

    def make(*events, items=ITEMS, **settings):
        rows = build_examples(attributed(*events, items=items), **{**SETTINGS, **settings}).collect()
        rows.sort(key=lambda row: (row.user_id, row.category, str(row.target_at)))
        found = {split: [] for split in (*BOUGHT, "score", *(f"{split} overnight" for split in BOUGHT))}
        for row in rows:
            # Of an open path, there is one row only.
            assert (row.split, row.horizon) != ("score", "in_session")
            found[row.split if row.split == "score" or row.horizon == "in_session" else f"{row.split} {row.horizon}"].append(row)
        return found

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


def test_what_one_moment_holds_is_a_search_then_clicks_then_purchases_whatever_their_ids(attributed, examples):
    at = "2026-02-01 10:00"
    events = purchase(at, "a", event_id="1"), click(at, "shoe", event_id="2"), click(at, "b", event_id="3"), search(at, "red", event_id="4")
    assert {row.category for row in attributed(*events).where("action = 'search'").collect()} == {"Footwear"}
    same = search(at, "red", event_id="9"), click(at, "b", event_id="10"), purchase(at, "a", event_id="11")
    (found,) = examples(*same)["test"]
    assert (words(found), found.target_item_id) == (["s:red", "c:b"], "a")


def test_what_one_action_did_in_one_moment_is_in_order_of_arrival(examples):
    at, later = "2026-02-01 10:00", {"arrival_date": date(2026, 2, 2)}
    clicks = (
        click(at, "b", event_id="1", arrival_number=1, **later),
        click(at, "c", event_id="e10", arrival_number=10),
        click(at, "d", event_id="e9", arrival_number=9),
    )
    (found,) = examples(*clicks, purchase("2026-02-01 10:01", "a"))["test"]
    assert words(found) == ["c:d", "c:c", "c:b"]


@pytest.mark.parametrize(("count", "train", "validation", "test"), [(1, "", "", "b"), (2, "", "b", "c"), (3, "b", "c", "d")])
def test_the_last_purchase_is_test_the_one_before_validation_earlier_ones_train(examples, count, train, validation, test):
    bought = [purchase(f"2026-02-0{day + 1} 10:00", "abcd"[day]) for day in range(1, count + 1)]
    found = examples(click("2026-02-01 10:00", "a"), *bought)
    targets = {split: "".join(row.target_item_id or "" for row in rows) for split, rows in found.items()}
    whole = {"train": train, "validation": validation, "test": test}
    assert targets == {**whole, "score": "", **{f"{split} overnight": target for split, target in whole.items()}}
    assert len(found["score"]) == 1
    assert not any(row.target_bought_before for rows in found.values() for row in rows)


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


def test_where_things_are_bought_again_earlier_purchases_of_the_target_stay_and_clicks_on_it_never(examples):
    events = [
        click("2026-02-01 10:00", "a"),
        click("2026-02-01 10:01", "b"),
        purchase("2026-02-01 10:02", "b"),
        click("2026-02-01 10:03", "b"),
        purchase("2026-02-02 10:04", "c"),
        click("2026-02-03 10:05", "b"),
        purchase("2026-02-03 10:06", "b"),
        click("2026-02-03 10:07", "shoe"),
        purchase("2026-02-03 10:08", "shoe"),
        click("2026-02-03 10:09", "shoe"),
        purchase("2026-02-03 10:10", "shoe"),
    ]
    kept = {
        ("Clothing", "train", "b"): (["c:a"], False),
        ("Clothing", "validation", "c"): (["c:a", "c:b", "p:b", "c:b"], False),
        ("Clothing", "test", "b"): (["c:a", "p:b", "p:c"], True),
        ("Footwear", "test", "shoe"): (["p:shoe"], True),
    }
    dropped = {**kept, ("Clothing", "test", "b"): (["c:a", "p:c"], True)}
    # Without their purchases, nothing comes before the second pair of shoes.
    del dropped["Footwear", "test", "shoe"]

    def whole(found):
        rows = [row for split in BOUGHT for row in found[split]]
        return {(row.category, row.split, row.target_item_id): (words(row), row.target_bought_before) for row in rows}

    assert whole(examples(*events, bought_again=("Clothing", "Footwear"))) == kept
    assert whole(examples(*events)) == dropped
    only_shoes = examples(*events, bought_again=("Footwear",))
    assert whole(only_shoes) == {**kept, ("Clothing", "test", "b"): dropped["Clothing", "test", "b"]}
    night = examples(*events, bought_again=("Clothing",))["test overnight"]
    assert [(words(row), row.target_bought_before) for row in night] == [(["c:a", "p:b", "p:c"], True)]
    assert not any(row.target_bought_before for row in only_shoes["score"])


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


def test_an_action_shows_its_item_as_it_was_that_day_at_the_price_and_in_the_category_of_the_run_date(examples):
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
    (clothes,) = found["score"]
    assert clothes.category == "Clothing"
    assert [step.title for step in clothes.actions] == ["Coat", "Item a", "Warm coat", "Item b"]
    assert {step.price for step in clothes.actions if step.item_id == "coat"} == {9.5}
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
        rows = [row for split, rows in found.items() if split != "score" for row in rows]
        return {row.example_id: {**row.asDict(), "split": None} for row in rows}

    first, then = examples(*past), examples(*past, *future)
    before, after = by_target(first), by_target(then)
    (empty,) = first["validation overnight"]
    assert (len(before), empty.actions) == (4, [])
    # It is a train example then, and those need an action.
    del before[empty.example_id]
    assert empty.example_id not in after
    assert {name: after[name] for name in before} == before


def test_what_happens_on_the_day_of_a_purchase_changes_nothing_of_the_night_before(examples):
    past = [
        search("2026-02-01 10:00", "dress", results=["a"]),
        click("2026-02-01 10:01", "a", marketplace="DE"),
        click("2026-02-04 23:59:59.999999", "b"),
    ]
    day = [
        search("2026-02-05 00:00", "coat", results=["a"], marketplace="AU"),
        click("2026-02-05 00:00:01", "d", marketplace="AU"),
        click("2026-02-05 10:00", "c"),
        purchase("2026-02-05 10:01", "e"),
    ]
    bought, later = purchase("2026-02-05 10:02", "c", marketplace="JP"), [click("2026-02-05 10:03", "f"), purchase("2026-02-06 10:00", "g")]
    (alone,) = examples(*past, bought)["test overnight"]
    (with_day,) = examples(*past, *day, bought)["test overnight"]
    (with_future,) = (row for row in examples(*past, *day, bought, *later)["validation overnight"] if row.target_item_id == "c")
    assert words(alone) == ["s:dress", "c:a", "c:b"]
    assert alone.marketplace == "DE"
    assert with_day == alone
    assert {**with_future.asDict(), "split": "test"} == alone.asDict()


def many_paths():
    """Return the events of shoppers who search, click and buy at all hours, some things again, and by whom they are."""
    random, kinds = Random(3), ("search", "click", "click", "purchase")
    for user in "uvwxyz":
        minutes = [*sorted(random.sample(range(20 * 24 * 60), 60)), 20 * 24 * 60]
        for minute in minutes:
            at = (datetime(2026, 2, 1, tzinfo=UTC) + timedelta(minutes=minute)).strftime("%Y-%m-%d %H:%M")
            thing, fields = random.choice("abcdef"), {"user_id": user, "marketplace": random.choice(("DE", "AU", None, None))}
            match random.choice(kinds):
                case "search":
                    yield search(at, f"query {thing}", results=["a"], **fields)
                case "click":
                    yield click(at, thing, **fields)
                case "purchase":
                    yield purchase(at, thing, **fields)


@pytest.mark.parametrize("bought_again", [(), ("Clothing",)])
def test_the_path_of_the_night_before_is_the_whole_one_up_to_midnight(examples, bought_again):
    # All of the path, so that the newest actions of both begin alike.
    found = examples(*many_paths(), max_actions=1000, bought_again=bought_again)
    differs = {"example_id": None, "horizon": None, "actions": None, "marketplace": None}
    shorter = 0
    for split in BOUGHT:
        nights = {(row.user_id, row.target_at): row for row in found[f"{split} overnight"]}
        for whole in found[split]:
            midnight = whole.target_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            known = [step for step in whole.actions if step.event_at.astimezone(UTC) < midnight]
            night = nights.pop((whole.user_id, whole.target_at), None)
            if night is None:
                assert (split, known) == ("train", [])
                continue
            assert night.actions == known == whole.actions[: len(known)]
            assert night.asDict() | differs == whole.asDict() | differs
            assert night.example_id != whole.example_id
            shorter += len(known) < len(whole.actions)
        assert nights == {}
    assert shorter > 10


def test_an_empty_path_of_the_night_before_is_kept_for_held_out_purchases_only(examples):
    events = [click("2026-02-01 10:00", "a"), *(purchase(f"2026-02-01 10:0{minute}", "abcde"[minute]) for minute in (1, 2, 3, 4))]
    found = examples(*events)
    assert [words(row) for row in found["validation overnight"] + found["test overnight"]] == [[], []]
    assert [row.target_item_id for row in found["train"]] == ["b", "c"]
    assert found["train overnight"] == []
    assert [row.marketplace for row in found["test overnight"]] == [None]


def test_a_train_example_of_the_night_before_needs_its_actions_too(examples):
    bought = [purchase(f"2026-02-{day:02d} 10:00", "abcdefgh"[day - 1]) for day in range(1, 9)]
    found = examples(*bought, click("2026-02-03 09:00", "q"), min_actions=3)
    assert [row.target_item_id for row in found["train"]] == ["c", "d", "e", "f"]
    assert [row.target_item_id for row in found["train overnight"]] == ["d", "e", "f"]
    clicks = [click("2026-02-01 09:00", "a"), click("2026-02-02 09:00", "b"), click("2026-02-02 09:01", "c")]
    assert [words(row) for row in examples(*clicks, purchase("2026-02-02 09:02", "d"), min_actions=3)["test overnight"]] == [["c:a"]]


def test_the_rate_draws_train_examples_only_the_same_in_every_run(examples):
    events = [purchase(f"2026-02-{day:02d} 10:00", "abcdefghijklmnopq"[day - 1], user_id=user) for user in "uvwxyz" for day in range(1, 13)]
    none, half, again, every = (examples(*events, overnight_rate=rate) for rate in (0, 0.5, 0.5, 1))
    assert half == again
    for found in (none, half, every):
        assert len(found["validation overnight"]) == len(found["test overnight"]) == 6
        assert [found[split] for split in (*BOUGHT, "score")] == [every[split] for split in (*BOUGHT, "score")]
    assert none["train overnight"] == []
    # Of each path the first purchase has nothing before it.
    assert len(every["train overnight"]) == len(every["train"]) == 6 * 9
    drawn = {row.example_id for row in half["train overnight"]}
    assert 15 < len(drawn) < 39
    assert drawn < {row.example_id for row in every["train overnight"]}
    # Whatever else there is, the draw of an example stays.
    more = [click("2026-02-20 10:00", "a", user_id="another"), *(purchase("2026-02-20 10:00", "q", user_id=user) for user in "uv")]
    assert drawn < {row.example_id for row in examples(*events, *more, overnight_rate=0.5)["train overnight"]}


def test_the_training_examples_of_a_user_end_before_the_validation_target(examples):
    found = examples(*(purchase(f"2026-02-{day:02d} 10:00", "abcdefgh"[day - 1]) for day in range(1, 9)))
    (validation,), (test,) = found["validation"], found["test"]
    assert validation.target_at < test.target_at
    for row in found["train"] + found["train overnight"]:
        assert max(step.event_at for step in row.actions) < row.target_at < validation.target_at
        assert not {validation.target_item_id, test.target_item_id} & {row.target_item_id, *(step.item_id for step in row.actions)}


def test_all_that_is_by_user_takes_one_shuffle(attributed):
    people = attributed(click("2026-02-01 10:00", "a")).transform(set_robots_aside, **ROBOTS)
    plan = build_examples(people, **SETTINGS)._jdf.queryExecution().executedPlan().toString()
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


def test_the_rows_of_the_night_before_change_nothing_that_the_embeddings_learn(spark, attributed):
    events, catalogue = attributed(*many_paths()).cache(), table_rows(spark, "items", *ITEMS)

    def learnt(rate, only_whole=False):
        rows = build_examples(events, **SETTINGS | {"overnight_rate": rate})
        rows = rows.where("split = 'score' OR horizon = 'in_session'") if only_whole else rows
        inputs = training_inputs(rows, catalogue, max_actions=50, session_gap_minutes=24 * 60)
        return {name: sorted(map(str, inputs[name].collect())) for name in ("examples", "pairs")}

    never, always = learnt(0.0), learnt(1.0)
    assert never == always == learnt(1.0, only_whole=True)
    assert min(map(len, never.values())) > 6
    assert len(set(never["examples"])) == len(never["examples"])
    assert sum("split='validation'" in row for row in never["examples"]) == 6
    events.unpersist()
