"""Each source of candidates on examples with known answers, and where there is little or nothing to find."""

import numpy as np
import pytest

from fashionrec.retrieval.candidates import LANGUAGE_MODEL, SOURCES, find_candidates
from fashionrec.retrieval.features import features
from fashionrec.retrieval.requests import STATES, read_requests
from tests.unit.category_made import ATTRIBUTES, SOLD, TONIGHT, asked_of, batch_of, buy, circle, click, found


def test_the_answered_item_comes_first_then_its_neighbours(shop):
    index = shop(circle(B={"in_stock": False}))
    assert found("answer_id", asked_of(index, {"item_id": "A"}, {"item_id": "C"}), k=3) == [["A", "C", "D"], ["C", "D", "A"]]


@pytest.mark.parametrize("gone", [{"in_stock": False}, {}], ids=["out of stock", "touched"])
def test_where_the_answered_item_cannot_be_given_its_neighbours_stand_from_the_first_place(shop, gone):
    index = shop(circle(A=gone))
    asked = asked_of(index, {"item_id": "A", "touched": [click("A")] if not gone else []})
    assert found("answer_id", asked, k=3) == [["B", "C", "D"]]
    places = find_candidates(asked, k=3)
    assert places.rank[list(SOURCES).index("answer_id")].max() == 3


def test_an_answer_that_names_no_item_of_the_category_or_nothing_finds_none(shop):
    asked = asked_of(shop(circle()), {"item_id": "Z"}, {}, {"title": "", "item_id": ""})
    for source in LANGUAGE_MODEL:
        assert found(source, asked) == [[], [], []]


def test_an_answered_title_and_the_newest_search_find_by_title(shop):
    asked = asked_of(shop(circle()), {"title": "any 31"}, {"queries": ["new 49", "old 0"]})
    assert found("answer_title", asked, k=2) == [["D", "E"], []]
    assert found("last_query", asked, k=2) == [[], ["F", "E"]]


def test_the_session_and_the_newest_item_that_is_known_find_their_neighbours(shop):
    index = shop(circle())
    path = [click("Z"), click("B"), click("F")]
    asked = asked_of(
        index, {"touched": path}, {}, encode_sessions=lambda of: np.float32([[1, 0] if one == ["F", "B", "Z"] else [0, 1] for one in of])
    )
    assert found("session", asked, k=2) == [["A", "C"], []]
    assert found("last_item_id", asked, k=9) == found("last_item_title", asked, k=9)
    (nearest, _) = found("last_item_title", asked, k=9)
    assert (set(nearest[:2]), nearest[2:]) == ({"A", "C"}, ["D", "E"])


def test_what_training_never_saw_has_no_neighbours_but_itself_and_is_in_no_list_of_the_id_space(shop):
    index = shop(circle(), untrained="DE", cold="at 20")
    asked = asked_of(
        index,
        {"item_id": "D", "touched": [click("E")]},
        {"item_id": "C", "touched": [click("A")]},
        encode_sessions=lambda of: np.float32([[1, 0]] * len(of)),
    )
    assert found("answer_id", asked) == [["D"], ["C", "B", "F"]]
    assert found("last_item_id", asked) == [[], ["B", "C", "F"]]
    assert found("session", asked) == [["A", "B", "C", "F"], ["B", "C", "F"]]
    assert set(found("last_item_title", asked, k=2)[0]) == {"D", "F"}


# --- what others did, and what the shopper did before ---


def test_the_memory_counts_older_searches_half(shop):
    remembered = [(0, "A", 0.42), (0, "Z", 9.0), (0, "C", 0.3), (1, "B", 0.7), (1, "C", 0.3), (2, "A", 0.2)]
    products = [{"place": place, "item_id": item, "score": score} for place, item, score in remembered]
    asked = asked_of(shop(circle()), {"remembered": products, "queries": ["x 1"]}, {})
    # A: 0.42 + 0.2 / 4, C: 0.3 + 0.3 / 2, B: 0.7 / 2.
    assert found("memory", asked) == [["A", "C", "B"], []]
    assert SOURCES["memory"].find(asked, 3).scores[0] == pytest.approx([0.47, 0.45, 0.35])


def test_what_shoppers_of_the_paths_items_also_bought_as_of_the_evening(shop):
    bought = [(1, "A", 10), (1, "B", 10), (2, "A", 10), (2, "B", 12), (3, "A", 10), (3, "C", 10), (4, "E", 10), (4, "C", 11)]
    planted = [(user, item, TONIGHT) for user in range(9) for item in "ADEF"]
    index = shop(circle(), [*bought, *planted])
    path = {"touched": [click("A", 13), click("E", 12), click("A", 11)], "as_of": 14}
    asked = asked_of(index, path, {"as_of": 14})
    assert found("co_purchase", asked) == [["C", "B"], []]
    # B: 2 / sqrt(3 * 2); C: with A 1 / sqrt(3 * 2), with E 1 / sqrt(1 * 2).
    assert SOURCES["co_purchase"].find(asked, 2).scores[0] == pytest.approx([1 / 6**0.5 + 1 / 2**0.5, 2 / 6**0.5])


def test_variants_of_touched_products_those_of_the_newest_first(shop):
    families = {"A": "x", "B": "y", "C": "x", "D": "y", "E": None, "F": None}
    index = shop(circle(**{name: {"family": family} for name, family in families.items()}))
    asked = asked_of(index, {"touched": [click("D"), click("A"), click("E")]}, {"touched": [click("F")]})
    assert found("family", asked) == [["B", "C"], []]
    assert found("family", asked_of(index, {"touched": [click("A"), click("D")]}, again=True)) == [["A", "C", "B", "D"]]


def test_what_was_bought_before_comes_again_only_where_it_may(shop):
    path = {"touched": [buy("C"), click("B"), buy("A"), buy("C"), buy("Z")]}
    index = shop(circle())
    assert found("bought_again", asked_of(index, path, {}, again=True)) == [["C", "A"], []]
    assert found("bought_again", asked_of(index, path)) == [[]]


def test_what_sold_most_in_the_days_up_to_the_evening(shop):
    day = TONIGHT - 100
    bought = [(n, "A", day - 50) for n in range(3)] + [(n, "B", day - 10) for n in range(2)] + [(0, "C", day)]
    planted = [(n, "F", day + 1) for n in range(9)]
    asked = asked_of(shop(circle(), [*bought, *planted]), {"as_of": day}, {"as_of": day + 1}, {"as_of": day, "touched": [click("B")]})
    assert found("popularity_7", asked, k=2) == [["C", "A"], ["F", "C"], ["C", "A"]]
    assert found("popularity_28", asked, k=2) == [["B", "C"], ["F", "B"], ["C", "A"]]
    assert found("popularity_90", asked, k=3) == [["A", "B", "C"], ["F", "A", "B"], ["A", "C", "D"]]


def test_tastes_raise_what_sells_and_is_like_what_was_touched_here_and_elsewhere(shop):
    tastes = {"A": ["red", "slim"], "B": ["blue", "slim"], "C": ["blue", "wide"], "D": ["red", None], "E": ["blue", "wide"]}
    items = circle(**{name: {"tastes": values} for name, values in tastes.items()})
    bought = [(n, name, TONIGHT) for name in "ABCD" for n in range(4)]
    index = shop(items, bought)
    elsewhere = [["blue", "wide"]] * 4 + [["green", None]]
    asked = asked_of(index, {"elsewhere": elsewhere}, {}, {"touched": [click("E")] * 3})
    # E and F are sold to nobody.
    assert found("taste", asked) == [["C", "B", "D", "A"], ["A", "B", "C", "D"], ["C", "B", "D", "A"]]


def test_lists_end_where_there_is_no_more(shop):
    index = shop([{"item_id": "A", "title": "at 3"}], [("u", "A", TONIGHT)])
    request = {"item_id": "A", "title": "at 1", "queries": ["at 2"], "touched": [click("Z")]}
    asked = asked_of(index, request, encode_sessions=lambda of: np.float32([[1, 0]]))
    for source in ("answer_id", "answer_title", "session", "last_query", "taste", *SOLD):
        assert found(source, asked, k=7) == [["A"]]
    assert find_candidates(asked, k=7).rows.tolist() == [0]


def test_where_everything_is_out_of_stock_nothing_is_found(shop):
    index = shop([{**item, "in_stock": False} for item in circle()], [("u", "A", TONIGHT), ("u", "B", TONIGHT)])
    asked = asked_of(index, {"item_id": "A", "title": "at 1", "queries": ["at 2"], "touched": [click("B")]}, again=True)
    candidates = find_candidates(asked, k=5)
    assert len(candidates.of) == 0
    assert features(asked, candidates, ATTRIBUTES)[2].shape[0] == 0


def test_an_empty_path_is_given_what_is_popular(shop):
    asked = asked_of(shop(circle(), [("u", "E", TONIGHT)]), {"horizon": "overnight"})
    given = {source for source in SOURCES if found(source, asked) != [[]]}
    assert given == {*SOLD, "taste"}
    assert STATES[asked.requests.states[0]] == "empty"


def test_no_requests_and_no_purchases_are_no_error(shop):
    asked = asked_of(shop(circle()))
    candidates = find_candidates(asked, k=5)
    assert len(candidates.of) == 0
    names, _, values = features(asked, candidates, ATTRIBUTES)
    assert values.shape == (0, len(names))
    assert found("popularity_7", asked_of(asked.index, {}), k=2) == [["A", "B"]]


def test_a_category_whose_attributes_nobody_names_has_no_tastes(shop):
    index = shop([{**item, "tastes": []} for item in circle()], [("u", "E", TONIGHT)])
    asked = asked_of(index, {"touched": [click("A")], "elsewhere": [[], []]})
    assert found("taste", asked) == [["E"]]
    assert features(asked, find_candidates(asked, k=5), ())[2].shape[0] == 5


@pytest.mark.parametrize(
    ("touched", "state"),
    [
        ([click("Z", TONIGHT - 2), buy("A", TONIGHT - 9)], "looking"),
        ([click("A", TONIGHT - 3)], "overnight"),
        ([buy("A", TONIGHT), click("A", TONIGHT)], "overnight"),
        ([], "empty"),
    ],
)
def test_who_clicked_in_the_last_days_and_did_not_buy_since_is_looking(shop, touched, state):
    paths = batch_of({"touched": touched, "horizon": "overnight"}, {"touched": touched or [click("A")]})
    assert [STATES[one] for one in read_requests(paths, shop(circle())).states] == [state, "in_session"]


def test_requests_say_what_the_path_says(shop):
    index = shop(circle())
    rows = [
        {
            "touched": [buy("B", TONIGHT + 1), click("Z", TONIGHT - 2)],
            "log_prob": np.log(0.25),
            "elsewhere": [["red", None], ["mauve", "slim"]],
        },
        {"horizon": "overnight", "queries": ["newest", "older"]},
        {"horizon": "overnight"},
    ]
    batch = batch_of({"touched": [click("A")] * 3}, *rows)
    read = read_requests(batch.slice(1), index)
    assert [STATES[state] for state in read.states] == ["in_session", "overnight", "empty"]
    assert (read.touched_of.tolist(), read.touched.tolist(), read.touched_place.tolist()) == ([0, 0], [1, -1], [0, 1])
    assert (read.touched_days.tolist(), read.bought.tolist()) == ([0, 2], [True, False])
    assert read.sessions == [["Z", "B"], [], []]
    assert read.queries == [None, "newest", None]
    assert read.elsewhere_of.tolist() == [0, 0]
    assert read.elsewhere.tolist() == [[1, 0], [0, 1]]
    assert read.answer_probability.tolist() == pytest.approx([0.25, 0, 0])
