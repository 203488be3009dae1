"""Ranks of the item to find, the metrics made of them (paper section 5.1), and their intervals. Pure NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Values = NDArray[np.float64]

# The rank of a target that is not in the list: worth 0 in every metric.
NOT_RANKED = 0
RESAMPLES = 1000


def target_ranks(of: Ints, scores: Floats, is_target: NDArray[np.bool_], *, lists: int) -> Ints:
    """Return the rank of each list's target, 1 is the top, all ties broken against it; NOT_RANKED where it is not in the list.

    Args:
        of: (candidates,) the list that each candidate is in.
        scores: (candidates,) higher is better; minus infinity for what the list leaves out. A score that is no number counts as a tie.
        is_target: (candidates,), at most one of a list.
        lists: how many lists there are.
    """
    target = np.full(lists, np.inf)
    target[of[is_target]] = scores[is_target]
    found = np.zeros(lists, bool)
    found[of[is_target]] = ~np.isneginf(scores[is_target])
    # "Not below" instead of "at least": what is no number can then only hurt.
    ranks = np.bincount(of, weights=~(scores < target[of]), minlength=lists).astype(np.int64)
    return np.where(found, ranks, NOT_RANKED)


def recall_at_k(ranks: NDArray[Any], k: int) -> Values:
    """Return (batch,) 1.0 where the target is within the first k, else 0.0; Recall@k is their mean."""
    found: Values = ((ranks != NOT_RANKED) & (ranks <= k)).astype(np.float64)
    return found


def ndcg_at_k(ranks: NDArray[Any], k: int) -> Values:
    """Return (batch,) 1 / log2(1 + rank) where the target is within the first k, else 0.0; with one target a list, NDCG@k is their mean."""
    gains: Values = recall_at_k(ranks, k) / np.log2(1.0 + np.maximum(ranks, 1))
    return gains


def reciprocal_rank(ranks: NDArray[Any]) -> Values:
    """Return (batch,) 1 / rank, 0.0 where the target is not ranked; MRR is their mean."""
    return np.where(ranks == NOT_RANKED, 0.0, 1.0 / np.maximum(ranks, 1))


def resampled_sums(users: NDArray[np.uint64], values: Values) -> Values:
    """Return the sums of values over bootstrap samples of shoppers, (RESAMPLES, columns).

    A sample counts a shopper as often as a Poisson variable of mean 1 says, drawn from the shopper's own number: it can be summed part by
    part, wherever the parts are, and each part counts the shopper alike (Chamandy et al. 2012, "Estimating uncertainty for massive data").

    Args:
        users: (rows,) a number per shopper; rows of one shopper have one.
        values: (rows, columns).
    """
    distinct, places = np.unique(users, return_inverse=True)
    of_user = np.zeros((len(distinct), values.shape[1]))
    np.add.at(of_user, places, values)
    sums = np.zeros((RESAMPLES, values.shape[1]))
    for start in range(0, len(distinct), 2000):
        part = distinct[start : start + 2000]
        draws = np.stack([np.random.Generator(np.random.Philox(key=int(user))).poisson(1.0, RESAMPLES) for user in part])
        sums += draws.T.astype(np.float64) @ of_user[start : start + 2000]
    return sums


def interval(sums: Values, counts: Values) -> tuple[float, float]:
    """Return the middle 95% of resampled means: of sums (RESAMPLES,) by counts (RESAMPLES,); nothing is known of an empty sample."""
    given = counts > 0
    if not given.any():
        return (-np.inf, np.inf)
    low, high = np.percentile(sums[given] / counts[given], [2.5, 97.5])
    return float(low), float(high)
