"""Each source of candidates on examples with known answers, and what holds of all of them."""

import numpy as np
import pytest

from fashionrec.retrieval.candidates import LANGUAGE_MODEL, SOURCES, find_candidates
from fashionrec.retrieval.features import features
from fashionrec.retrieval.indexes import RetrievalError
from fashionrec.retrieval.requests import STATES, read_requests
from fashionrec.retrieval.search import nearest
from tests.unit.category_made import (
    ATTRIBUTES,
    TONIGHT,
    asked_of,
    batch_of,
    buy,
    category,
    click,
    drawn,
    found,
    on_circle,
    session_drawn,
    until_the_end,
)

SOLD = ("popularity_7", "popularity_28", "popularity_90")
NEAREST = ("answer_title", "session", "last_item_id", "last_item_title", "last_query")


def circle(**special):
    """Return items A to F at 0, 10, ... 50 degrees, with what is special about some."""
    return [{"item_id": name, "title": f"at {10 * place}", **special.get(name, {})} for place, name in enumerate("ABCDEF")]


@pytest.fixture
def shop(tmp_path):
    return lambda *args, **kwargs: category(tmp_path, *args, **kwargs)


# --- nearest items ---


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


# --- what holds of all ---


def random_shop(folder, rng, *, later=(), stock_of=None, count=120):
    """Return a category at random, and requests of several evenings for it."""
    names = [f"i{n:03}" for n in range(count)]
    since = rng.integers(TONIGHT - 100, TONIGHT + 3, count)
    lasts = since + rng.integers(1, 150, count)
    items = [
        {
            "item_id": name,
            "title": f"t{rng.integers(60)}",
            "in_stock": bool(rng.random() < 0.6),
            "family": rng.choice(["f1", "f2", "f3", None]),
            "tastes": [rng.choice(["red", "blue", None]), rng.choice(["slim", "wide", None])],
            "price": rng.choice([10.0, 20.0, 0.0, np.nan]),
            "on_sale_from": int(since[n]),
            "on_sale_to": int(lasts[n]),
            "sold_out": sorted({int(day) for day in rng.integers(TONIGHT - 60, TONIGHT + 1, 2)}),
        }
        for n, name in enumerate(names)
    ]
    bought = [(int(rng.integers(30)), rng.choice(names), int(TONIGHT - rng.integers(120))) for _ in range(500)]
    untrained = set(rng.choice(names, count // 4))
    named = [*names, "unknown"]
    evenings = (TONIGHT, TONIGHT, TONIGHT - 1, TONIGHT - 30, TONIGHT + 1)

    def request():
        as_of = int(rng.choice(evenings))
        return {
            "as_of": as_of,
            "horizon": rng.choice(["in_session", "overnight"]),
            "touched": [click(rng.choice(named), as_of - n, bool(rng.random() < 0.4)) for n in range(rng.choice([0, 1, 4, 30]))],
            "elsewhere": [[rng.choice(["red", "green", None]), rng.choice(["slim", None])] for _ in range(rng.integers(4))] or None,
            "queries": [f"q{rng.integers(9)}" for _ in range(rng.integers(3))],
            "remembered": [
                {"place": int(rng.integers(3)), "item_id": rng.choice(named), "score": float(rng.random())} for _ in range(rng.integers(6))
            ],
            "item_id": rng.choice([*named, None]),
            "title": rng.choice(["t1", "t77", None]),
            "log_prob": rng.choice([-1.5, None]),
        }

    requests = [request() for _ in range(40)]
    if stock_of is not None:
        items = [{**item, "in_stock": bool(stock_of.random() < 0.5)} for item in items]
    index = category(folder, items, [*bought, *later], encode=drawn, untrained=untrained, cold="t1")
    return index, {item["item_id"]: item for item in items}, untrained, requests


def ask_all(index, requests, again=False):
    return asked_of(index, *requests, again=again, encode=drawn, encode_sessions=session_drawn)


def may_be_given(request, item, again):
    day = request["as_of"] + 1
    on_sale = item["on_sale_from"] <= day < item["on_sale_to"] and request["as_of"] not in item["sold_out"]
    on_sale = item["in_stock"] if request["as_of"] >= TONIGHT else on_sale
    return on_sale and (again or item["item_id"] not in {step["item_id"] for step in request["touched"]})


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_every_entry_of_every_source_may_be_given(tmp_path, seed, again):
    index, items, untrained, requests = random_shop(tmp_path, np.random.default_rng(seed))
    asked = ask_all(index, requests, again)
    allowed = [{name for name, item in items.items() if may_be_given(request, item, again)} for request in requests]
    for source, (find, _) in SOURCES.items():
        for k in (1, 10, 200):
            hits = find(asked, k)
            for of_one, scores, permitted, request in zip(until_the_end(hits.rows), hits.scores, allowed, requests, strict=True):
                names = [index.item_ids[row].decode() for row in of_one]
                assert len(set(names)) == len(names)
                assert set(names) <= permitted
                assert (np.diff(scores[: len(names)]) <= 0).all()
                assert not scores[len(names) :].any()
                if source in SOLD:
                    assert len(names) == min(k, len(permitted))
                if source == "last_query" and request["queries"]:
                    assert len(names) == min(k, len(permitted))
                if source == "session":
                    assert len(names) == min(k, len(permitted - untrained) if request["touched"] else 0)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_known_of_a_request_does_not_depend_on_those_beside_it(tmp_path, seed):
    index, _, _, requests = random_shop(tmp_path, np.random.default_rng(seed))

    def of_each(asked):
        candidates = find_candidates(asked, k=20)
        _, _, values = features(asked, candidates, ATTRIBUTES)
        for number in range(asked.requests.size):
            at = candidates.of == number
            yield candidates.rows[at], candidates.rank[:, at], candidates.score[:, at], values[at]

    together = of_each(ask_all(index, requests))
    for request, beside_others in zip(requests, together, strict=True):
        (alone,) = of_each(ask_all(index, [request]))
        (rows, ranks, *values), (others_rows, others_ranks, *others_values) = alone, beside_others
        assert np.array_equal(rows, others_rows)
        assert np.array_equal(ranks, others_ranks)
        # A product's last digits depend on how it is cut into blocks; they are rounded away before anything is ordered.
        for one, other in zip(values, others_values, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)


def test_which_of_very_many_equals_are_found_does_not_depend_on_what_others_touched(shop):
    # What is nearer comes later in the index, and takes places that equals had.
    index = shop([{"item_id": f"{n:03}", "title": f"at {5 if n % 9 else 4 - n // 200}"} for n in range(800)])
    request, busy = {"title": "at 0"}, {"touched": [click(f"{n:03}") for n in range(0, 600, 2)]}
    (alone,), (beside, _) = (
        found("answer_title", asked_of(index, request), k=110),
        found("answer_title", asked_of(index, request, busy), k=110),
    )
    assert len(alone) == 110
    assert alone == beside


@pytest.mark.parametrize("seed", range(3))
def test_what_happens_after_an_evening_changes_nothing_of_it(tmp_path, seed):
    """Purchases of later days, and what is in stock tonight."""
    planted = [(user, f"i{item:03}", TONIGHT - 29 + item % 20) for user in range(40) for item in range(0, 120, 7)]
    known = []
    for name, later, stock_of in (("as it was", (), None), ("later", planted, np.random.default_rng(99))):
        index, _, _, requests = random_shop(tmp_path / name, np.random.default_rng(seed), later=later, stock_of=stock_of)
        asked = ask_all(index, [{**request, "as_of": TONIGHT - 30} for request in requests])
        candidates = find_candidates(asked, k=10)
        _, _, values = features(asked, candidates, ATTRIBUTES)
        order = np.lexsort((index.item_ids[candidates.rows], candidates.of))
        known.append((candidates.of[order], index.item_ids[candidates.rows[order]], candidates.rank[:, order], values[order]))
    for one, other in zip(*known, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_the_union_holds_each_item_of_a_request_once_with_its_places(tmp_path, seed):
    index, _, _, requests = random_shop(tmp_path, np.random.default_rng(seed))
    asked = ask_all(index, requests)
    candidates = find_candidates(asked, k=15)
    keys = list(zip(candidates.of.tolist(), candidates.rows.tolist(), strict=True))
    assert keys == sorted(set(keys))
    for number, (find, _) in enumerate(SOURCES.values()):
        hits = find(asked, 15)
        listed = {
            (of, row): (place, score)
            for of in range(len(requests))
            for place, (row, score) in enumerate(zip(hits.rows[of].tolist(), hits.scores[of].tolist(), strict=True), start=1)
            if row >= 0
        }
        places = zip(candidates.rank[number].tolist(), candidates.score[number].tolist(), strict=True)
        assert {key: place for key, place in zip(keys, places, strict=True) if place[0]} == listed
    assert (candidates.rank > 0).any(axis=0).all()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_features_are_one_finite_row_per_candidate_and_the_same_each_time(tmp_path, seed, again):
    index, _, _, requests = random_shop(tmp_path, np.random.default_rng(seed))
    asked = ask_all(index, requests, again)
    candidates = find_candidates(asked, k=15)
    names, sources, values = features(asked, candidates, ATTRIBUTES)
    assert values.shape == (len(candidates.of), len(names))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert len(set(names)) == len(names) == len(sources)
    assert set(sources) <= set(SOURCES)
    assert np.array_equal(features(asked, find_candidates(asked, k=15), ATTRIBUTES)[2], values)


def feature(asked, name, k=6):
    """Return a feature by item, of the only request."""
    candidates = find_candidates(asked, k=k)
    names, _, values = features(asked, candidates, ATTRIBUTES)
    items = [item.decode() for item in asked.index.item_ids[candidates.rows]]
    return dict(zip(items, values[:, names.index(name)].tolist(), strict=True))


def test_features_say_what_their_names_say(shop):
    special = {"A": {"family": "x"}, "B": {"family": "x", "price": 20.0}, "C": {"on_sale_from": TONIGHT}, "F": {"price": np.nan}}
    bought = [(1, "A", TONIGHT - 3), (1, "A", TONIGHT - 2), (2, "B", TONIGHT), (3, "D", TONIGHT), (3, "E", TONIGHT), (9, "C", TONIGHT - 60)]
    path = {
        "touched": [buy("A", TONIGHT - 2), buy("A", TONIGHT - 3), click("D")],
        "item_id": "E",
        "title": "at 40",
        "log_prob": np.log(0.5),
    }
    index = shop(circle(**special), bought, untrained="F")
    asked = asked_of(index, path, again=True, encode_sessions=lambda of: np.float32([[1, 0]]))
    assert feature(asked, "session, cosine")["A"] == pytest.approx(1)
    assert feature(asked, "session, cosine")["F"] == 0
    assert feature(asked, "answered ID, cosine")["E"] == pytest.approx(1)
    assert feature(asked, "answered ID, cosine x probability")["E"] == pytest.approx(0.5)
    assert feature(asked, "answered ID, cosine")["F"] == 0
    assert feature(asked, "answered title, cosine")["F"] == pytest.approx(np.cos(np.radians(10)))
    assert [name for name, value in feature(asked, "bought before").items() if value] == ["A"]
    assert feature(asked, "log times bought before")["A"] == pytest.approx(np.log(3))
    assert feature(asked, "bought before, log days ago")["A"] == pytest.approx(np.log(3))
    # Of the family x three were bought, one of them again.
    assert feature(asked, "bought before x repeat rate of its family")["A"] == pytest.approx((1 + 1) / (3 + 20))
    assert feature(asked, "log purchases of 7 days") == pytest.approx({**dict.fromkeys("DEB", np.log(2)), "A": np.log(3), "C": 0, "F": 0})
    # An item without a family is no variant of others without one.
    of_family = {"A": np.log(4), "B": np.log(4), "C": 0, "D": np.log(2), "E": np.log(2), "F": 0}
    assert feature(asked, "log purchases of the family of 7 days") == pytest.approx(of_family)
    shares = feature(asked, "family, share of touches")
    assert (shares["A"], shares["B"], shares["D"], shares["E"]) == (pytest.approx(shares["B"]), pytest.approx(shares["A"]), 0, 0)
    assert feature(asked, "log days on sale")["C"] == pytest.approx(np.log(2))
    assert feature(asked, "price, log ratio") == pytest.approx({**dict.fromkeys("ACDEF", 0), "B": np.log(2)}, abs=1e-6)
    assert feature(asked, "unknown to training") == {**dict.fromkeys("ABCDE", 0), "F": 1}
    assert feature(asked, "co-purchase")["E"] == pytest.approx(1)


def test_tastes_are_how_much_more_often_than_chance_a_value_was_touched(shop):
    tastes = {"A": ["red", "slim"], "B": ["red", None], "C": ["red", "wide"], "D": ["red", None], "E": ["red", None], "F": ["red", None]}
    index = shop(circle(**{name: {"tastes": values} for name, values in tastes.items()}))
    lift = feature(asked_of(index, {"touched": [click("A"), click("B")], "elsewhere": [[None, "unheard of"]]}, again=True), "taste, fit")
    # Of the touches that have a fit, one of one is slim, which half of the catalogue's are; five touches of chance are added.
    slim, wide = np.log((1 + 5 * 0.5) / ((1 + 5) * 0.5)), np.log(5 * 0.5 / ((1 + 5) * 0.5))
    assert lift == pytest.approx({"A": slim, "C": wide, **dict.fromkeys("BDEF", 0)}, abs=1e-6)


# --- edges ---


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
