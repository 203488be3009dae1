"""Who gets which products by e-mail."""

from datetime import UTC, date, datetime

import pytest

from fashionrec.recommend.campaign import SuppressionError, campaign_feed, suppressed_users
from tests.builders import RUN_DATE, table_rows


def offered(user, category, *item_ids):
    plain = {"user_id": user, "category": category, "source": "session", "reason": "why", "release": "release@1"}
    return [{**plain, "rank": rank, "item_id": item_id, "title": item_id} for rank, item_id in enumerate(item_ids, start=1)]


def event(action, user, item_id, day=20):
    at = {"event_at": datetime(2026, 2, day, tzinfo=UTC), "event_date": date(2026, 2, day)}
    return {"event_id": f"{action}{user}{item_id}{day}", "action": action, "user_id": user, "item_id": item_id, **at}


def products(spark, recommended, events=(), missing=(), max_items=12, bought_again=()):
    known = {row["item_id"]: row["category"] for row in recommended}
    items = [{"item_id": i, "category": c, "price": 5.0, "in_stock": i not in missing} for i, c in known.items()]
    items.append({"item_id": "newest", "category": "B"})
    feed = campaign_feed(
        table_rows(spark, "recommendations", *recommended),
        table_rows(spark, "items", *items),
        table_rows(spark, "interactions", *(events or [event("click", "nobody", "newest")])),
        run_date=RUN_DATE,
        max_items=max_items,
        valid_days=2,
        bought_again=bought_again,
    )
    rows = feed.collect()
    assert all(row.valid_until == date(2026, 3, 3) and row.products[0].price == 5.0 for row in rows)
    return {row.user_id: " ".join(product.item_id for product in row.products) for row in rows}


def test_categories_take_turns_the_one_with_the_newest_activity_first(spark):
    recommended = [*offered("u", "A", "a1", "a2", "a3"), *offered("u", "B", "b1", "b2"), *offered("v", "A", "a1"), *offered("v", "B", "b1")]
    events = [event("click", "u", "newest", day=21), event("click", "u", "a3", day=20), event("click", "v", "a1")]
    assert products(spark, recommended, events) == {"u": "b1 a1 b2 a2 a3", "v": "a1 b1"}


def test_what_the_user_bought_or_is_out_of_stock_is_left_out_and_the_next_moves_up(spark):
    recommended = [*offered("u", "A", "a1", "a2", "a3"), *offered("u", "B", "b1", "b2"), *offered("v", "A", "a1")]
    events = [event("purchase", "u", "a1"), event("click", "u", "a2"), event("purchase", "v", "a2")]
    assert products(spark, recommended, events, missing=("b1",)) == {"u": "a2 b2 a3", "v": "a1"}


def test_what_the_user_bought_stays_in_categories_in_which_things_are_bought_again(spark):
    recommended = [*offered("u", "A", "a1", "a2"), *offered("u", "B", "b1", "b2")]
    events = [event("purchase", "u", "a1"), event("purchase", "u", "b1")]
    assert products(spark, recommended, events, bought_again=("A",)) == {"u": "a1 b2 a2"}


def test_no_more_than_the_most_products_and_no_row_without_one(spark):
    recommended = [*offered("u", "A", "a1", "a2", "a3"), *offered("v", "A", "a1")]
    assert products(spark, recommended, [event("purchase", "v", "a1")], max_items=2) == {"u": "a1 a2"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("s.csv", "user_id,why\n007,x\n8,\n 8 ,\n,\n"), ("s.jsonl", '{"user_id": "007"}\n{"user_id": 8, "why": "x"}\n{"why": "y"}\n')],
)
def test_the_suppression_list_is_read_from_csv_and_json_lines_as_text(spark, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert sorted(row.user_id for row in suppressed_users(spark, str(tmp_path / name)).collect()) == ["007", "8"]


def test_no_list_suppresses_nobody(spark):
    assert suppressed_users(spark, "").isEmpty()


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("s.csv", "user;why\n1;x\n", "no column user_id"),
        ("s.csv", "", "no column user_id"),
        ("s.jsonl", '{"user_id": "1"}\nnot json\n', "cannot be read"),
        ("s.csv", None, "does not exist"),
    ],
)
def test_a_list_that_cannot_be_read_stops_the_mailing(spark, tmp_path, name, text, problem):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SuppressionError, match=problem):
        suppressed_users(spark, str(tmp_path / name))
