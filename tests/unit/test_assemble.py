"""How one category's answers become rows."""

import pandas as pd

from fashionrec.candidates import Candidate, Retrieved
from fashionrec.recommend.assemble import Popular, as_popular, recommend

POPULAR = [Popular(item_id, item_id.lower(), "bought") for item_id in "ABCD"]


def rows(found, per_category=4, popular=POPULAR, parse_error=None):
    answers = {"user_id": ["u"], "category": ["Bags"], "item_id": ["X"], "title": ["x"], "parse_error": [parse_error], "models": ["1/1/1"]}
    retrieved = [] if parse_error else [Retrieved(True, [Candidate(item, item.lower(), source, 0.5) for item, source in found])]
    frame = recommend(pd.DataFrame(answers), retrieve=lambda ids, titles: retrieved, popular=popular, per_category=per_category)
    return [(row["rank"], row["item_id"], row["source"]) for row in frame.to_dict("records")]


def test_what_retrieval_lacks_is_filled_by_what_is_popular_and_not_shown_yet():
    found = [("X", "id"), ("B", "title")]
    assert rows(found) == [(1, "X", "id"), (2, "B", "title"), (3, "A", "popular"), (4, "C", "popular")]


def test_a_full_list_needs_no_filling_and_is_cut():
    assert rows([(item, "title") for item in "VWXYZ"], per_category=3) == [(1, "V", "title"), (2, "W", "title"), (3, "X", "title")]


def test_an_unreadable_answer_gets_popular_items_only():
    assert rows([], parse_error="no_title", per_category=2) == [(1, "A", "popular"), (2, "B", "popular")]


def test_a_category_with_less_in_stock_than_asked_gives_what_there_is():
    assert rows([("A", "title")], popular=POPULAR[:2]) == [(1, "A", "title"), (2, "B", "popular")]
    assert rows([], popular=()) == []


def test_popular_items_stand_by_category_in_their_order_with_a_true_reason():
    found = [("Bags", 2, "b", 1), ("Shoes", 1, "s", 0), ("Bags", 1, "a", 1200)]
    given = [{"category": c, "rank": r, "item_id": i, "title": i, "purchase_count": n} for c, r, i, n in found]
    assert as_popular(given, history_days=30) == {
        "Bags": [Popular("a", "a", "bought 1,200 times in 30 days"), Popular("b", "b", "in stock in Bags")],
        "Shoes": [Popular("s", "s", "in stock in Shoes")],
    }
