"""Ranks and metrics against values counted by hand and against the list that a shopper would see."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionrec.evaluate.metrics import NOT_RANKED, mixup_rank, ndcg_at_k, pessimistic_rank, recall_at_k, reciprocal_rank
from fashionrec.retrieval.mixup import mixup


def floats(*rows):
    return np.array(rows, np.float32)


def test_a_tie_is_broken_against_the_target():
    scores = floats([0.9, 0.5, 0.5, 0.1, 0.5], [0.9, 0.5, 0.5, 0.1, 0.5], [1, 1, 1, 1, 1])
    assert pessimistic_rank(scores, np.array([1, 0, 2])).tolist() == [4, 1, 5]


def test_a_score_that_is_no_number_never_helps():
    scores = floats([np.nan, 0.5, 0.4], [0.3, np.nan, 0.4])
    assert pessimistic_rank(scores, np.array([1, 1])).tolist() == [2, 3]


def test_metrics_of_ranks_counted_by_hand():
    ranks = np.array([1, 3, 10, 11, NOT_RANKED])
    assert recall_at_k(ranks, 10).tolist() == [1, 1, 1, 0, 0]
    assert ndcg_at_k(ranks, 10) == pytest.approx([1, 0.5, 1 / np.log2(11), 0, 0])
    assert reciprocal_rank(ranks) == pytest.approx([1, 1 / 3, 0.1, 1 / 11, 0])


def test_a_mixed_list_counted_by_hand():
    # ID ranking: c a d b e; title ranking: a b c d e; m = 2: c a | d e | b, as a is in the head already and c is no longer in the tail.
    id_scores = np.repeat(floats([4, 2, 5, 3, 1]), 5, axis=0)
    title_scores = np.repeat(floats([5, 4, 3, 2, 1]), 5, axis=0)
    assert mixup_rank(id_scores, title_scores, np.arange(5), m=np.full(5, 2)).tolist() == [2, 5, 1, 3, 4]


def sorted_with_target_last(scores, target):
    """Positions, best first; among equals the items' order, the target behind them."""
    return sorted(range(len(scores)), key=lambda item: (-scores[item], item == target, item))


@st.composite
def rankings(draw):
    item_count = draw(st.integers(1, 7))
    # Few different scores, so that ties are the rule.
    scores = st.lists(st.integers(0, 3), min_size=item_count, max_size=item_count)
    return draw(scores), draw(scores), draw(st.integers(0, item_count - 1)), draw(st.integers(0, item_count + 1))


@settings(max_examples=1000)
@given(rankings())
def test_the_rank_without_lists_is_the_place_in_the_mixed_list(case):
    id_scores, title_scores, target, m = case
    lists = (sorted_with_target_last(scores, target) for scores in (id_scores, title_scores))
    mixed = mixup(*lists, m=m, n=len(id_scores))
    # Another row with a longer head must not matter.
    pair = [floats(scores, scores) for scores in (id_scores, title_scores)]
    assert mixup_rank(*pair, np.array([target, target]), m=np.array([m, m + 2]))[0] == mixed.index(target) + 1
