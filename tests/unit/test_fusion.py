"""The learnt fusion and its guard, on lists in which it is known what finds the target."""

import numpy as np
import pytest

from fashionrec.retrieval.candidates import SOURCES
from fashionrec.retrieval.fusion import FUSION, MIXUP, Fusion, Lists, Weights, learn, scores_of
from fashionrec.retrieval.requests import STATES

NAMES = list(SOURCES)
SIZE = 12  # candidates of a list


def lists_where(found_by, *, lists=300, seed=1, categories=("Hats",), noise=0.1):
    """Return lists and features: every source ranks the candidates at random, and `found_by(signals)` of two signals is bought."""
    dice = np.random.default_rng(seed)
    of = np.repeat(np.arange(lists), SIZE)
    signals = dice.normal(size=(lists * SIZE, 2)).astype(np.float32)
    wanted = found_by(signals, np.arange(lists)[of]) + noise * dice.normal(size=len(of))
    best = wanted.reshape(lists, SIZE).argmax(axis=1)
    is_target = np.zeros(len(of), bool)
    is_target[np.arange(lists) * SIZE + best] = True
    rank = np.stack([np.concatenate([dice.permutation(SIZE) + 1 for _ in range(lists)]) for _ in SOURCES])
    # Two of the sources rank by one signal each.
    for number, signal in ((NAMES.index("session"), 0), (NAMES.index("memory"), 1)):
        order = np.argsort(-signals[:, signal].reshape(lists, SIZE), axis=1)
        places = np.empty_like(order)
        np.put_along_axis(places, order, np.arange(SIZE)[None, :], axis=1)
        rank[number] = places.ravel() + 1
    users = np.arange(lists, dtype=np.uint64)
    category = np.array([categories[number % len(categories)] for number in range(lists)], object)
    return Lists(of, rank, signals, is_target, category, np.ones(lists, np.int64), np.ones(lists, bool), users, users[:0])


def learnt(lists, **options):
    settings = {"attributes": ("brand",), "made_with": {"id": "id@1"}, "serves": "fusion", **options}
    return learn(lists, ["session cosine", "memory share"], ["session", "memory"], **settings)


def test_it_learns_what_two_sources_know_together_and_serves():
    fusion = learnt(lists_where(lambda signals, _: signals[:, 0] + signals[:, 1]))
    common = fusion.weights[FUSION].common
    assert common["session cosine"] == pytest.approx(common["memory share"], rel=0.4)
    assert common["session cosine"] > 0.2
    assert fusion.serves == FUSION, fusion.why
    assert all(rival.low > 0 for rival in fusion.rivals.values() if rival is not fusion.rivals["without_llm"])


def test_it_does_not_serve_where_a_single_row_is_as_good():
    fusion = learnt(lists_where(lambda signals, _: signals[:, 0], noise=0.0))
    assert fusion.serves == "session"
    assert "not better than every row for sure" in fusion.why
    assert fusion.rivals["session"].low <= 0


def test_purchases_by_chance_are_no_reason_to_serve_what_was_learnt_from_them():
    fusion = learnt(lists_where(lambda signals, _: 0 * signals[:, 0], noise=1.0, lists=60))
    assert fusion.serves != FUSION


def test_a_category_departs_from_the_others_where_its_shoppers_do():
    def found_by(signals, number):
        return np.where(number % 2 == 0, signals[:, 0], -signals[:, 0])

    fusion = learnt(lists_where(found_by, lists=2000, categories=("Hats", "Bags")))
    hats, bags = (fusion.weights[FUSION].of(["session cosine"], name, np.array([1]))[0, 0] for name in ("Hats", "Bags"))
    assert hats > 0.5
    assert bags < -0.5
    strange = fusion.weights[FUSION].of(["session cosine"], "a category without validation purchases", np.array([1]))
    assert abs(strange[0, 0]) < 0.2


def test_targets_that_are_no_candidates_count_for_nobody():
    lists = lists_where(lambda signals, _: signals[:, 0] + signals[:, 1])
    missed = np.arange(10_000, 10_000 + len(lists.users), dtype=np.uint64)
    all_found, half_found = learnt(lists), learnt(lists._replace(missed_users=missed))
    assert half_found.rivals["session"].ndcg == pytest.approx(all_found.rivals["session"].ndcg / 2, abs=1e-5)
    assert half_found.rivals["session"].gain == pytest.approx(all_found.rivals["session"].gain / 2, abs=1e-5)


@pytest.mark.parametrize("count", [0, 1, 19])
def test_too_few_lists_leave_the_papers_mixup(count):
    fusion = learnt(lists_where(lambda signals, _: signals[:, 0], lists=count) if count else nothing())
    assert fusion.serves == MIXUP
    assert "too few to learn from" in fusion.why
    assert fusion.weights == {}


def nothing():
    empty = lists_where(lambda signals, _: signals[:, 0], lists=1)
    none = np.zeros(0, np.int64)
    cut = {name: getattr(empty, name)[:0] for name in ("is_target", "categories", "states", "overnight", "users", "missed_users")}
    return Lists(none, np.zeros((len(SOURCES), 0), np.int64), np.zeros((0, 2), np.float32), **cut)


def test_the_settings_may_want_the_papers_mixup():
    fusion = learnt(lists_where(lambda signals, _: signals[:, 0] + signals[:, 1]), serves="mixup")
    assert fusion.serves == MIXUP
    assert "retrieval.fusion" in fusion.why


def test_the_mixups_head_is_chosen_by_category_on_validation():
    lists = lists_where(lambda signals, _: signals[:, 0], lists=200, categories=("Hats", "Bags"))
    rank = lists.rank.copy()
    by_id, by_title = (NAMES.index(name) for name in ("answer_id", "answer_title"))
    # In Hats the ID list finds the target at its second place, in Bags the title list at its first.
    is_hats = lists.categories[lists.of] == "Hats"
    for number in range(200):
        part = slice(number * SIZE, (number + 1) * SIZE)
        target = int(lists.is_target[part].argmax())
        others = [place for place in range(SIZE) if place != target]
        first, second = (by_id, by_title) if is_hats[part.start] else (by_title, by_id)
        order = [others[0], target, *others[1:]] if is_hats[part.start] else [target, *others]
        rank[first, part] = np.argsort(order) + 1
        rank[second, part] = np.argsort([*others, target]) + 1
    fusion = learnt(lists._replace(rank=rank))
    assert fusion.m("Hats") >= 2
    assert fusion.m("Bags") == 0


def test_its_file_is_readable_and_gives_the_same_scores():
    lists = lists_where(lambda signals, _: signals[:, 0] + signals[:, 1])
    fusion = learnt(lists)
    read = Fusion.model_validate_json(fusion.model_dump_json())
    assert read == fusion
    asked = (FUSION, lists.of, lists.rank, ["session cosine", "memory share"], lists.values, lists.states)
    assert np.array_equal(scores_of(*asked, category="Hats", fusion=read), scores_of(*asked, category="Hats", fusion=fusion))


def test_a_rows_list_is_filled_up_with_what_is_popular_and_leaves_out_the_rest():
    rank = np.zeros((len(SOURCES), 4), np.int64)
    rank[NAMES.index("memory")] = [0, 1, 0, 0]
    rank[NAMES.index("popularity_28")] = [2, 3, 1, 0]
    fusion = Fusion(serves="memory", why="", mixup_m={"": 1}, weights={}, rivals={}, attributes=(), made_with={})
    scores = scores_of(
        "memory", np.zeros(4, np.int64), rank, [], np.zeros((4, 0), np.float32), np.zeros(1, np.int64), category="Hats", fusion=fusion
    )
    assert np.argsort(-scores, kind="stable").tolist() == [1, 2, 0, 3]
    assert np.isneginf(scores[3])


def test_a_state_adds_to_the_common_weights():
    weights = Weights(common={"a": 1.0}, categories={"Hats": {"a": 0.5}}, states={"empty": {"a": 2.0}})
    assert weights.of(["a", "unknown"], "Hats", np.array([0, STATES.index("empty")])).tolist() == [[1.5, 0.0], [3.5, 0.0]]
