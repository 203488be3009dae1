"""What purchases say as of a day, against the same said by counting one by one."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.retrieval import purchases as module
from fashionrec.retrieval.purchases import bought_together, buyers, count_purchases, popularity

ITEMS, DAYS = 6, 40
events = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, ITEMS - 1), st.integers(1, DAYS)), max_size=60)


def counted(rows, items=ITEMS):
    users, of_item, days = np.array(rows, np.int64).reshape(-1, 3).T
    return count_purchases(users, of_item, days, items=items)


def together(purchases, row, as_of):
    """Return {other row: (cosine, near, shared)} of one item."""
    found = bought_together(purchases, np.array([row]), np.array([as_of]))
    assert not found.places.any()
    parts = (part.tolist() for part in (found.cosine, found.near, found.shared))
    return {int(other): values for other, *values in zip(found.rows, *parts, strict=True)}


def one_by_one(rows, row, as_of):
    """Return the same, with the sets of shoppers written out."""
    since = defaultdict(dict)
    for user, of_item, day in sorted(rows, key=lambda event: event[2]):
        if day <= as_of:
            since[of_item].setdefault(user, day)

    def size(user, day):
        return sum(bought.get(user, DAYS + 1) <= day for bought in since.values())

    expected = {}
    for other in since:
        common = since[row].keys() & since[other].keys() if row in since else set()
        if other != row and common:
            both = np.sqrt(len(since[row]) * len(since[other]))
            near = sum(abs(since[row][user] - since[other][user]) <= 1 for user in common)
            shared = sum(1 / size(user, max(since[row][user], since[other][user])) for user in common)
            expected[other] = [pytest.approx(part / both) for part in (len(common), near, shared)]
    return expected


@given(events, st.integers(0, DAYS + 1), st.integers(1, DAYS + 5))
def test_numbers_are_those_of_counting_one_by_one(rows, as_of, window):
    purchases = counted(rows)
    sold = popularity(purchases, as_of, window, items=ITEMS)
    had = buyers(purchases, np.arange(ITEMS), np.full(ITEMS, as_of))
    assert sold.dtype == np.float32
    for row in range(ITEMS):
        assert sold[row] == sum(of_item == row and as_of - window < day <= as_of for _, of_item, day in rows)
        assert had[row] == len({user for user, of_item, day in rows if of_item == row and day <= as_of})
        assert together(purchases, row, as_of) == one_by_one(rows, row, as_of)


@given(events, events, st.integers(1, DAYS))
def test_what_is_bought_later_changes_nothing(rows, later, as_of):
    before = counted([event for event in rows if event[2] <= as_of])
    after = counted([event for event in rows if event[2] <= as_of] + [(user, row, as_of + day) for user, row, day in later])
    asked, evenings = np.arange(ITEMS), np.full(ITEMS, as_of)
    assert np.array_equal(popularity(before, as_of, 7, items=ITEMS), popularity(after, as_of, 7, items=ITEMS))
    assert np.array_equal(buyers(before, asked, evenings), buyers(after, asked, evenings))
    for one, other in zip(bought_together(before, asked, evenings), bought_together(after, asked, evenings), strict=True):
        assert np.array_equal(one, other)


def test_many_questions_at_once_are_answered_like_each_alone():
    rng = np.random.default_rng(1)
    purchases = counted(np.stack([rng.integers(20, size=300), rng.integers(ITEMS, size=300), rng.integers(1, DAYS, size=300)], axis=1))
    rows, as_of = rng.integers(ITEMS, size=30), rng.integers(DAYS, size=30)
    found = bought_together(purchases, rows, as_of)
    for place in range(30):
        at = found.places == place
        alone = together(purchases, rows[place], as_of[place])
        beside_others = np.stack([found.cosine[at], found.near[at], found.shared[at]], axis=1).tolist()
        assert dict(zip(found.rows[at].tolist(), beside_others, strict=True)) == alone


def test_the_near_part_counts_who_bought_both_within_a_day():
    purchases = counted([(1, 0, 10), (1, 1, 11), (2, 0, 10), (2, 1, 20)])
    assert together(purchases, 0, 30) == {1: [1.0, 0.5, 0.5]}
    assert together(purchases, 0, 15) == {
        1: [pytest.approx(1 / np.sqrt(2)), pytest.approx(1 / np.sqrt(2)), pytest.approx(0.5 / np.sqrt(2))]
    }
    assert together(purchases, 0, 10) == {}


def test_in_the_shared_part_a_shopper_counts_less_the_more_was_bought_up_to_then():
    purchases = counted([(1, 0, 10), (1, 1, 10), (1, 2, 10), (1, 3, 11), (2, 0, 10), (2, 4, 10)])
    shared = {other: values[2] for other, values in together(purchases, 0, 30).items()}
    assert shared == {
        1: pytest.approx(1 / 3 / 2**0.5),
        2: pytest.approx(1 / 3 / 2**0.5),
        3: pytest.approx(1 / 4 / 2**0.5),
        4: pytest.approx(1 / 2 / 2**0.5),
    }


def test_one_shopper_alone_and_one_item_bought_again_and_again():
    assert together(counted([(7, 0, 1), (7, 0, 2), (7, 0, 3)]), 0, 9) == {}
    assert buyers(counted([(7, 0, 1), (7, 0, 2)]), np.array([0]), np.array([9])) == [1]
    assert together(counted([(7, 0, 1), (7, 2, 2)]), 2, 9) == {0: [1.0, 1.0, 0.5]}


def test_nothing_bought_is_nothing_sold_and_nothing_together():
    purchases = counted([])
    assert popularity(purchases, 9, 7, items=ITEMS).tolist() == [0] * ITEMS
    assert together(purchases, 0, 9) == {}
    assert len(bought_together(counted([(1, 0, 1), (1, 1, 1)]), np.empty(0, np.int64), np.empty(0, np.int64)).rows) == 0


def test_of_a_shopper_of_very_much_only_what_was_bought_one_after_the_other_is_paired(monkeypatch):
    monkeypatch.setattr(module, "_PAIRED", 3)
    rows = [(1, item, 10 + item) for item in range(5)]
    paired = [sorted(together(counted(rows, items=7), item, 99)) for item in range(5)]
    assert paired == [[1, 2], [0, 2, 3], [0, 1, 3, 4], [1, 2, 4], [2, 3]]
    # The next purchases push out no pair that was known before them.
    more = counted([*rows, (1, 5, 50), (1, 6, 51)], items=7)
    assert [sorted(together(more, item, 49)) for item in range(5)] == paired


def test_pairs_do_not_grow_with_the_square_of_what_one_shopper_bought():
    purchases = counted([(1, item, 1 + item % 300) for item in range(5000)], items=5000)
    assert len(purchases.pair_rows) < 2 * 5000 * module._PAIRED
