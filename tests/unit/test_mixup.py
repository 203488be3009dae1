"""The fusion of the ID list and the title list."""

from hypothesis import given
from hypothesis import strategies as st

from fashionrec.retrieval.mixup import mixup

lists = st.lists(st.integers(0, 20), unique=True)


def test_the_head_comes_from_the_id_list_and_the_rest_from_the_title_list_at_its_own_positions():
    assert mixup(list("ABC"), list("pqrs"), m=1, n=4) == list("Aqrs")
    assert mixup(list("ABC"), list("pqrs"), m=2, n=4) == list("ABrs")


def test_room_left_by_a_duplicate_is_filled_from_the_titles_skipped_head():
    assert mixup(list("AB"), list("pAqr"), m=1, n=4) == list("Aqrp")


def test_without_an_id_list_the_title_list_stands_as_it_is():
    assert mixup([], list("pqr"), m=2, n=3) == list("pqr")


def test_without_a_title_list_the_id_list_stands_as_it_is():
    assert mixup(list("ABC"), [], m=1, n=3) == list("ABC")


@given(lists, lists, st.integers(0, 5), st.integers(1, 25))
def test_no_item_stands_twice_and_none_is_lost_while_there_is_room(ids, titles, m, n):
    fused = mixup(ids, titles, m=m, n=n)
    assert len(fused) == len(set(fused)) == min(n, len({*ids, *titles}))
    assert set(fused) <= {*ids, *titles}
    assert fused[: min(m, len(ids), n)] == ids[: min(m, n)]


@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(0, 4))
def test_two_full_rankings_give_a_full_ranking(ids, titles, m):
    assert sorted(mixup(ids, titles, m=m, n=12)) == list(range(12))
