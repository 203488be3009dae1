"""Ranks of the item to find among all items, and the metrics made of them (paper section 5.1). Pure NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Values = NDArray[np.float64]

# The rank of a target that is not among the ranked items (it left the catalogue): worth 0 in every metric.
NOT_RANKED = 0


def pessimistic_rank(scores: Floats, target: Ints) -> Ints:
    """Return the rank, 1 is the top, of each row's target when every item is sorted by score and all ties are broken against the target.

    Args:
        scores: (batch, items) float32. A score that is no number counts as a tie.
        target: (batch,) positions of the targets among the items.
    """
    target_score = np.take_along_axis(scores, target[:, None], axis=1)
    # "Not below" instead of "at least": a NaN can then only hurt.
    ranks: Ints = np.count_nonzero(~(scores < target_score), axis=1).astype(np.int64)
    return ranks


def mixup_rank(id_scores: Floats, title_scores: Floats, target: Ints, *, m: Ints) -> Ints:
    """Return each target's rank in the mixup of both full rankings, without writing the lists down.

    The list that is meant (`retrieval.mixup`, paper section 4.4): the top m of the ID ranking, then the title ranking from position m + 1
    on, then its skipped positions 1 to m, each item once. In both rankings the target stands behind all its ties; other ties keep the
    items' order.

    Args:
        id_scores: (batch, items) float32.
        title_scores: (batch, items) float32.
        target: (batch,) positions of the targets among the items.
        m: (batch,) length of the head, of each list its own.
    """
    item_count = id_scores.shape[1]
    m = np.minimum(m, item_count - 1)
    places = np.arange(m.max(initial=0))
    id_rank, title_rank = pessimistic_rank(id_scores, target), pessimistic_rank(title_scores, target)
    # The target is no part of either; where it is within the ID's top m, nothing of what follows matters.
    head, skipped = top_others(id_scores, target, len(places)), top_others(title_scores, target, len(places))
    in_tail = title_rank > m
    # With the target among the title's top m, only m - 1 others are skipped.
    skipped_count = np.where(in_tail, m, m - 1)
    is_head, is_skipped = places < m[:, None], places < skipped_count[:, None]
    head_is_skipped = ((head[:, :, None] == skipped[:, None, :]) & is_skipped[:, None, :]).any(axis=2)
    target_score = np.take_along_axis(title_scores, target[:, None], axis=1)
    head_is_before = is_head & (np.take_along_axis(title_scores, head, axis=1) >= target_score)
    # Items of the head leave the title list, and those that stood before the target no longer do.
    tail_rank = title_rank - (head_is_before & ~head_is_skipped).sum(axis=1)
    skipped_rank = item_count - (is_head & ~head_is_skipped).sum(axis=1) + title_rank - head_is_before.sum(axis=1)
    return np.where(id_rank <= m, id_rank, np.where(in_tail, tail_rank, skipped_rank)).astype(np.int64)


def top_others(scores: Floats, target: Ints, count: int) -> Ints:
    """Return (batch, count) positions of the highest scores of each row without its target, ties in the items' order."""
    left = scores.copy()
    np.put_along_axis(left, target[:, None], -np.inf, axis=1)
    top = np.empty((len(scores), count), np.int64)
    for place in range(count):
        top[:, place] = left.argmax(axis=1)
        np.put_along_axis(left, top[:, place, None], -np.inf, axis=1)
    return top


def recall_at_k(ranks: NDArray[Any], k: int) -> Values:
    """Return (batch,) 1.0 where the target is within the first k, else 0.0; Recall@k is their mean."""
    found: Values = ((ranks != NOT_RANKED) & (ranks <= k)).astype(np.float64)
    return found


def ndcg_at_k(ranks: NDArray[Any], k: int) -> Values:
    """Return (batch,) 1 / log2(1 + rank) where the target is within the first k, else 0.0; with one target a list, NDCG@k is their mean."""
    gains: Values = recall_at_k(ranks, k) / np.log2(1.0 + np.maximum(ranks, 1))
    return gains


def reciprocal_rank(ranks: NDArray[Any]) -> Values:
    """Return (batch,) 1 / rank over the full ranking, 0.0 where the target is not ranked; MRR is their mean."""
    return np.where(ranks == NOT_RANKED, 0.0, 1.0 / np.maximum(ranks, 1))
