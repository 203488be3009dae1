"""Searches by vectors: full lists of what may be given, in an order of their own, and nothing by what is no vector."""

import numpy as np
import pytest

from fashionrec.retrieval.candidates import find_candidates
from fashionrec.retrieval.features import features
from fashionrec.retrieval.indexes import RetrievalError
from fashionrec.retrieval.search import nearest
from tests.unit.category_made import ATTRIBUTES, SOLD, TONIGHT, asked_of, circle, click, drawn, found, on_circle, session_drawn

NEAREST = ("answer_title", "session", "last_item_id", "last_item_title", "last_query")


def test_the_lists_of_the_id_space_are_full_where_what_training_never_saw_lies_nearer(shop):
    items = [{"item_id": f"{n:03}", "title": f"at {n % 90}"} for n in range(300)]
    index = shop(items, untrained={f"{n:03}" for n in range(250)}, cold="at 0")
    asked = asked_of(index, {"touched": [click("270")]}, encode_sessions=lambda of: np.float32([[1, 0]]))
    (of_session,) = found("session", asked, k=40)
    assert len(of_session) == 40
    assert set(of_session) <= {f"{n:03}" for n in range(250, 300)}


@pytest.mark.parametrize("share", [0.1, 0.05])
def test_lists_are_full_where_little_is_in_stock(shop, share):
    rng = np.random.default_rng(3)
    items = [{"item_id": f"{n:04}", "title": f"t{n % 4000}", "in_stock": bool(rng.random() < share)} for n in range(5000)]
    index = shop(items, encode=drawn)
    asked = asked_of(
        index, {"item_id": "0007", "title": "x", "queries": ["y"], "touched": [click("0001")]}, encode=drawn, encode_sessions=session_drawn
    )
    stocked = {item["item_id"] for item in items if item["in_stock"]} - {"0001"}
    for source in (*NEAREST, "answer_id", *SOLD):
        (of_one,) = found(source, asked, k=150)
        assert len(set(of_one)) == 150
        assert set(of_one) <= stocked


def test_lists_are_full_on_an_evening_when_few_were_on_sale(shop):
    items = [{"item_id": f"{n:04}", "title": f"t{n}", "on_sale_from": TONIGHT - n // 10} for n in range(2000)]
    index = shop(items, encode=drawn)
    early = {"as_of": TONIGHT - 190, "title": "x"}
    asked = asked_of(index, early, {"title": "x"}, encode=drawn)
    few, all_of_them = found("answer_title", asked, k=150)
    # The evening's next day is the first on which 1890 to 1999 are on sale.
    assert sorted(few) == [f"{n:04}" for n in range(1890, 2000)]
    best = np.argsort(-(drawn([item["title"] for item in items]) @ drawn(["x"])[0]), kind="stable")[:150]
    assert all_of_them == [f"{n:04}" for n in best]


def test_a_shopper_who_touched_all_that_is_near_is_given_what_is_farther(shop):
    items = [{"item_id": f"{n:03}", "title": f"at {n // 10}"} for n in range(600)]
    index = shop(items)
    path = [click(f"{n:03}") for n in range(500)]
    (of_one, of_other) = found("answer_title", asked_of(index, {"title": "at 0", "touched": path}, {"title": "at 0"}), k=20)
    assert of_one == [f"{n:03}" for n in range(500, 520)]
    assert of_other == [f"{n:03}" for n in range(20)]


def test_equals_stand_in_the_order_of_their_ids_whatever_is_in_stock_tonight(shop):
    items = [{"item_id": name, "title": "at 0", "in_stock": name in "CE"} for name in "ABCDEF"]
    asked = asked_of(shop(items, [("u", "F", 5)]), {"title": "at 0", "as_of": TONIGHT - 1})
    assert found("answer_title", asked, k=6) == [list("ABCDEF")]
    assert found("popularity_7", asked, k=6) == [list("ABCDEF")]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("space", ["id", "title"])
def test_a_vector_that_is_none_is_refused_when_the_index_is_built(shop, wrong, space):
    calls = []

    def spoilt(texts):
        calls.append(texts)
        vectors = on_circle(texts)
        if len(calls) == ("id", "title").index(space) + 1:
            vectors[3] = wrong
        return vectors

    with pytest.raises(RetrievalError, match=rf"index of Bags, {space} space: the vectors of 1 items \(D\) are not of length 1"):
        shop(circle(), encode=spoilt)


def test_a_query_that_is_no_vector_finds_nothing_and_spoils_nothing_beside_it(shop):
    index = shop(circle(), [("u", "C", TONIGHT)])

    def encode(texts):
        return np.where(
            np.array([["bad" in text] for text in texts]), np.float32(np.nan), on_circle([text.replace("bad", "") for text in texts])
        )

    asked = asked_of(index, {"title": "bad 1", "queries": ["bad 1"]}, {"title": "at 1", "queries": ["at 1"]}, encode=encode)
    assert found("answer_title", asked, k=2) == found("last_query", asked, k=2) == [[], ["A", "B"]]
    _, _, values = features(asked, find_candidates(asked, k=3), ATTRIBUTES)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_search_for_what_is_no_vector_gives_no_row(shop, wrong):
    index = shop(circle())
    asked = asked_of(index, {}, {})
    rows, cosines = nearest(index.title, np.float32([[wrong, 0], [1, 0]]), np.arange(2), asked.allowed, k=3)
    assert rows.tolist() == [[-1, -1, -1], [0, 1, 2]]
    assert cosines[0].tolist() == [0, 0, 0]
