"""What a category's purchases say as of a day: how popular its items are, and which are bought by the same shoppers. Pure NumPy.

Every purchase keeps its day, so that one set of arrays answers for tonight and for any evening before, from what had happened by then.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashionrec.retrieval.arrays import Floats, Ints, runs

# Items that a shopper bought one after the other and that are paired: all pairs would grow with the square of what one shopper bought.
_PAIRED = 60
# More than any day's number.
_SPAN = 1 << 17


class Purchases(NamedTuple):
    """Purchases of a category's items, which are named by their rows in its index; days count from 1970-01-01.

    `days` (purchases,) ascending, with `rows` (purchases,): every purchase. `buyers` (buyers,) ascending: for each different shopper of an
    item, the item's row times _SPAN plus the day of the first purchase. `pair_starts` (items + 1,): where the pairs of an item begin
    among `pair_days`, ascending within an item, `pair_rows`, `pair_gaps` and `pair_sizes`, all (pairs,): for each other item and shopper of
    both, the day since which both were bought, the other item, how many days lay between, and how many items the shopper had bought then.
    """

    days: NDArray[np.int32]
    rows: NDArray[np.int32]
    buyers: Ints
    pair_starts: Ints
    pair_days: NDArray[np.int32]
    pair_rows: NDArray[np.int32]
    pair_gaps: NDArray[np.int32]
    pair_sizes: NDArray[np.int32]


def count_purchases(users: Ints, rows: Ints, days: Ints, *, items: int) -> Purchases:
    """Return the arrays for purchases (purchases,) by users (any numbers), rows of items and days."""
    in_time = np.argsort(days, kind="stable")
    first = np.lexsort((days, rows, users))
    is_first = np.ones(len(first), bool)
    is_first[1:] = (np.diff(users[first]) != 0) | (np.diff(rows[first]) != 0)
    first = first[is_first]
    first = first[np.lexsort((rows[first], days[first], users[first]))]
    users, of_item, since = users[first], rows[first], days[first]
    here, there = _pairs(users)
    completed, gaps = np.maximum(since[here], since[there]), np.abs(since[here] - since[there])
    # Counted by the end of the day: of one day's purchases none is the first.
    by_day = users * _SPAN + since
    so_far = np.searchsorted(by_day, by_day, side="right") - np.searchsorted(users, users)
    sizes = np.maximum(so_far[here], so_far[there])
    order = np.lexsort((completed, of_item[here]))
    return Purchases(
        days[in_time].astype(np.int32),
        rows[in_time].astype(np.int32),
        np.sort(of_item * _SPAN + since),
        _starts(of_item[here], items),
        completed[order].astype(np.int32),
        of_item[there][order].astype(np.int32),
        gaps[order].astype(np.int32),
        sizes[order].astype(np.int32),
    )


def popularity(purchases: Purchases, as_of: int, window: int, *, items: int) -> Floats:
    """Return how often each item was bought in the `window` days up to and including `as_of`, (items,) float32."""
    start, end = np.searchsorted(purchases.days, [as_of - window + 1, as_of + 1])
    return np.bincount(purchases.rows[start:end], minlength=items).astype(np.float32)


class Together(NamedTuple):
    """Pairs of an asking place and an item that goes with it, (found,) each: the item's row, and the cosine of both items' buyers.

    `near` is the part of the cosine from shoppers who bought both within a day; in `shared` each common shopper counts one by the number of
    items bought: who buys everything says little of what goes together.
    """

    places: Ints
    rows: Ints
    cosine: Floats
    near: Floats
    shared: Floats


def bought_together(purchases: Purchases, rows: Ints, as_of: Ints) -> Together:
    """Return what shoppers of items also bought, as of a day for each: number of common buyers / sqrt(product of both numbers of buyers).

    Args:
        rows: (asked,) rows of items.
        as_of: (asked,) days up to which purchases count.
    """
    starts = purchases.pair_starts[rows]
    places, offsets = runs(purchases.pair_starts[rows + 1] - starts)
    found = starts[places] + offsets
    known = purchases.pair_days[found] <= as_of[places]
    places, found = places[known], found[known]
    others = purchases.pair_rows[found].astype(np.int64)
    # One row per place and item, with the number of shoppers.
    items = len(purchases.pair_starts)
    keys, inverse = np.unique(places * items + others, return_inverse=True)
    common = np.bincount(inverse, minlength=len(keys))
    near = np.bincount(inverse, weights=purchases.pair_gaps[found] <= 1, minlength=len(keys))
    shared = np.bincount(inverse, weights=1 / purchases.pair_sizes[found], minlength=len(keys))
    places, others = keys // items, keys % items
    both = np.sqrt(np.maximum(buyers(purchases, rows, as_of)[places], 1) * np.maximum(buyers(purchases, others, as_of[places]), 1))
    return Together(places, others, *((part / both).astype(np.float32) for part in (common, near, shared)))


def buyers(purchases: Purchases, rows: Ints, as_of: Ints) -> NDArray[np.float64]:
    """Return how many different shoppers had bought each item by its day."""
    first, last = (np.searchsorted(purchases.buyers, keys) for keys in (rows * _SPAN, rows * _SPAN + as_of + 1))
    return (last - first).astype(np.float64)


def _pairs(users: Ints) -> tuple[Ints, Ints]:
    """Return the places of all ordered pairs of one user's first purchases, which lie fewer than _PAIRED purchases apart.

    `users` is sorted, and of one user the older purchases come first: what is bought later adds pairs and takes none away.
    """
    places = np.arange(len(users))
    oldest = np.maximum(np.searchsorted(users, users), places - _PAIRED + 1)
    later, offsets = runs(places - oldest)
    earlier = oldest[later] + offsets
    return np.concatenate([later, earlier]), np.concatenate([earlier, later])


def _starts(rows: Ints, items: int) -> Ints:
    return np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=items))]).astype(np.int64)
