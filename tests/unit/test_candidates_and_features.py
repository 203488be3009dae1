"""What holds of all sources, of their union and of the features, in categories at random."""

import numpy as np
import pytest

from fashionrec.retrieval import candidates as candidates_of
from fashionrec.retrieval.candidates import SOURCES, find_candidates
from fashionrec.retrieval.features import features
from tests.unit.category_made import (
    ATTRIBUTES,
    SOLD,
    TONIGHT,
    asked_of,
    buy,
    category,
    circle,
    click,
    drawn,
    found,
    session_drawn,
    until_the_end,
)


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


@pytest.mark.parametrize("at_once", [1, 500])
def test_what_was_bought_together_is_the_same_however_many_pairs_are_looked_at_in_one_go(tmp_path, monkeypatch, at_once):
    index, _, _, requests = random_shop(tmp_path, np.random.default_rng(2))
    whole, go, went = ask_all(index, requests).together, candidates_of._together, []
    monkeypatch.setattr(candidates_of, "_PAIRS", at_once)
    monkeypatch.setattr(candidates_of, "_together", lambda *some: went.append(some) or go(*some))
    parts = ask_all(index, requests).together
    assert len(went) > 3
    assert len(whole[0]) > 100
    for one, other in zip(whole, parts, strict=True):
        assert np.array_equal(one, other)


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
    assert feature(asked, "log purchases so far")["A"] == pytest.approx(np.log(3))
    # An item without a family is no variant of others without one.
    of_family = {"A": np.log(4), "B": np.log(4), "C": 0, "D": np.log(2), "E": np.log(2), "F": 0}
    assert feature(asked, "log purchases of the family of 7 days") == pytest.approx(of_family)
    shares = feature(asked, "family, share of touches")
    assert (shares["A"], shares["B"], shares["D"], shares["E"]) == (pytest.approx(shares["B"]), pytest.approx(shares["A"]), 0, 0)
    assert feature(asked, "log days on sale")["C"] == pytest.approx(np.log(2))
    assert feature(asked, "price, log ratio") == pytest.approx({**dict.fromkeys("ACDEF", 0), "B": np.log(2)}, abs=1e-6)
    assert feature(asked, "unknown to training") == {**dict.fromkeys("ABCDE", 0), "F": 1}
    assert feature(asked, "co-purchase")["E"] == pytest.approx(1)
    # The one shopper of D and E bought two items; D was touched longest ago.
    assert feature(asked, "co-purchase by shoppers of few items, newest first")["E"] == pytest.approx((0.8**2 / 2) ** 0.5)


def test_tastes_are_how_much_more_often_than_chance_a_value_was_touched(shop):
    tastes = {"A": ["red", "slim"], "B": ["red", None], "C": ["red", "wide"], "D": ["red", None], "E": ["red", None], "F": ["red", None]}
    index = shop(circle(**{name: {"tastes": values} for name, values in tastes.items()}))
    lift = feature(asked_of(index, {"touched": [click("A"), click("B")], "elsewhere": [[None, "unheard of"]]}, again=True), "taste, fit")
    # Of the touches that have a fit, one of one is slim, which half of the catalogue's are; five touches of chance are added.
    slim, wide = np.log((1 + 5 * 0.5) / ((1 + 5) * 0.5)), np.log(5 * 0.5 / ((1 + 5) * 0.5))
    assert lift == pytest.approx({"A": slim, "C": wide, **dict.fromkeys("BDEF", 0)}, abs=1e-6)
