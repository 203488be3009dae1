"""Ranks, metrics and intervals against values counted by hand and against a sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionrec.metrics import (
    NOT_RANKED,
    RESAMPLES,
    interval,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank,
    resampled_sums,
    target_ranks,
)


def ranks_of(*lists):
    """Return the rank of the target of each list, which is (scores, the target's place or None)."""
    of = np.concatenate([np.full(len(scores), number) for number, (scores, _) in enumerate(lists)]).astype(np.int64)
    scores = np.concatenate([scores for scores, _ in lists]).astype(np.float32)
    is_target = np.concatenate([np.arange(len(scores)) == (-1 if target is None else target) for scores, target in lists])
    return target_ranks(of, scores, is_target, lists=len(lists)).tolist()


def test_a_tie_is_broken_against_the_target():
    scores = [0.9, 0.5, 0.5, 0.1, 0.5]
    assert ranks_of((scores, 1), (scores, 0), ([1, 1, 1, 1, 1], 2)) == [4, 1, 5]


def test_a_score_that_is_no_number_never_helps():
    assert ranks_of(([np.nan, 0.5, 0.4], 1), ([0.3, np.nan, 0.4], 1)) == [2, 3]


def test_a_target_that_is_no_candidate_or_left_out_is_not_ranked():
    assert ranks_of(([3, 2, 1], None), ([3, -np.inf, 1], 1), ([3, -np.inf, 1], 2)) == [NOT_RANKED, NOT_RANKED, 2]
    nothing = np.zeros(0, np.int64)
    assert target_ranks(nothing, nothing.astype(np.float32), nothing > 0, lists=2).tolist() == [NOT_RANKED, NOT_RANKED]


scores_of_a_list = st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=1, max_size=7)


@settings(max_examples=500)
@given(st.lists(scores_of_a_list.flatmap(lambda s: st.tuples(st.just(s), st.none() | st.integers(0, len(s) - 1))), min_size=1, max_size=4))
def test_the_rank_is_the_place_in_the_sorted_list_with_the_target_behind_its_equals(lists):
    def place(scores, target):
        if target is None or scores[target] == -np.inf:
            return NOT_RANKED
        return sorted(range(len(scores)), key=lambda item: (-scores[item], item == target)).index(target) + 1

    assert ranks_of(*lists) == [place(*one) for one in lists]


def test_metrics_of_ranks_counted_by_hand():
    ranks = np.array([1, 3, 10, 11, NOT_RANKED])
    assert recall_at_k(ranks, 10).tolist() == [1, 1, 1, 0, 0]
    assert ndcg_at_k(ranks, 10) == pytest.approx([1, 0.5, 1 / np.log2(11), 0, 0])
    assert reciprocal_rank(ranks) == pytest.approx([1, 1 / 3, 0.1, 1 / 11, 0])


def users_of(*names):
    return np.array(names, np.uint64)


def test_the_samples_of_the_parts_add_up_to_those_of_the_whole():
    dice = np.random.default_rng(4)
    users, values = users_of(*dice.integers(0, 30, 100)), dice.normal(size=(100, 2))
    whole = resampled_sums(users, values)
    assert whole.shape == (RESAMPLES, 2)
    parts = [resampled_sums(users[at], values[at]) for at in (slice(None, 37), slice(37, None))]
    assert np.allclose(sum(parts), whole)
    order = dice.permutation(100)
    assert np.allclose(resampled_sums(users[order], values[order]), whole)


def test_the_rows_of_one_shopper_are_drawn_together():
    # One shopper's two purchases cancel out in every sample; those of two shoppers do not.
    assert not resampled_sums(users_of(7, 7), np.array([[1.0], [-1.0]])).any()
    assert resampled_sums(users_of(7, 8), np.array([[1.0], [-1.0]])).any()


def test_a_sample_holds_as_many_shoppers_as_there_are_on_average():
    sums = resampled_sums(np.arange(400, dtype=np.uint64), np.ones((400, 1)))[:, 0]
    assert sums.mean() == pytest.approx(400, rel=0.01)
    assert sums.std() == pytest.approx(20, rel=0.1)


def test_an_interval_holds_the_middle_of_the_means_as_the_formula_gives_it():
    values = np.repeat([1.0, 0.0], [120, 280])
    sums = resampled_sums(np.arange(400, dtype=np.uint64), np.stack([values, np.ones(400)], axis=1))
    low, high = interval(sums[:, 0], sums[:, 1])
    by_formula = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert (0.3 - low, high - 0.3) == pytest.approx((by_formula, by_formula), rel=0.15)


def test_nothing_is_known_of_no_shoppers_and_of_samples_that_drew_none():
    nobody = resampled_sums(np.zeros(0, np.uint64), np.zeros((0, 2)))
    assert not nobody.any()
    assert interval(nobody[:, 0], nobody[:, 1]) == (-np.inf, np.inf)
    alone = resampled_sums(users_of(3), np.array([[0.5, 1.0]]))
    assert (alone[:, 1] == 0).any()
    assert interval(alone[:, 0], alone[:, 1]) == (0.5, 0.5)
