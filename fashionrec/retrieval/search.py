"""Nearest items by vectors, among those that a request may be given."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionrec.retrieval.arrays import Floats, Ints
from fashionrec.retrieval.indexes import CategoryIndex
from fashionrec.retrieval.requests import Requests

# Items beyond those wanted that are searched at first: most shoppers touched fewer that may not come again.
_SPARE = 64
# Digits of a cosine that do not depend on how a product is cut into blocks.
_DIGITS = 5


class Allowed:
    """Which items a request may be given: on sale the day after its evening, and not touched before (paper section 5.1)."""

    def __init__(self, index: CategoryIndex, requests: Requests, excluded: NDArray[np.bool_]) -> None:
        """`excluded` (touched,) says which of the touched items may not come again."""
        days, self._day = np.unique(requests.as_of, return_inverse=True)
        self._on_sale = np.stack([index.on_sale(int(day)) for day in days]) if len(days) else np.zeros((0, index.item_count), bool)
        self._items = index.item_count
        self._id_place = index.id_place
        known = excluded & (requests.touched >= 0)
        # One beyond the last key, which no question reaches.
        keys = np.unique(requests.touched_of[known] * self._items + requests.touched[known])
        self._keys = np.append(keys, requests.size * self._items)
        self.most_excluded = int(np.bincount(requests.touched_of[known]).max(initial=0))

    def __call__(self, of: Ints, rows: Ints) -> NDArray[np.bool_]:
        """Return whether each request of `of` may be given the row beside it; both of one shape. Row -1 is no item."""
        keys = of * self._items + rows
        barred = self._keys[np.searchsorted(self._keys, keys)] == keys
        allowed: NDArray[np.bool_] = (rows >= 0) & self._on_sale[self._day[of], rows] & ~barred
        return allowed

    def on_sale(self, request: int) -> NDArray[np.bool_]:
        """Return which items are on sale the day after a request's evening, (items,)."""
        on_sale: NDArray[np.bool_] = self._on_sale[self._day[request]]
        return on_sale

    def evenings(self, of: Ints) -> Iterator[tuple[NDArray[np.bool_], Ints]]:
        """Yield for each different evening of the requests `of` what is on sale the day after it, (items,), and the places in `of`."""
        days = self._day[of]
        for day in np.unique(days):
            yield self._on_sale[day], np.flatnonzero(days == day)

    def in_order(self, of: Ints, rows: Ints, scores: Floats) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the order that puts allowed rows first, best first, equals by ID, and which of the rows are allowed.

        Both, like the rows, are (asked, found).
        """
        good = self(of, rows)
        return np.lexsort((self._id_place[rows], -scores, ~good), axis=1), good


def nearest(
    space: Any, queries: Floats, of: Ints, allowed: Allowed, *, k: int, among: NDArray[np.bool_] | None = None
) -> tuple[Ints, Floats]:
    """Return the `k` allowed items nearest to each query, (queries, k) rows and cosines, -1 and 0 where there are fewer.

    What may be found tonight stands first in the index, and a search of the first rows is as fast as one of an index that holds nothing
    else. Of an earlier evening, what was not on sale lies between; who finds too few because of it is asked again, among what was.

    Args:
        space: a FAISS index of the category.
        queries: (queries, dim) float32. One that holds something that is no number finds nothing.
        of: (queries,) the request that each belongs to.
        allowed: what may be found.
        k: how many.
        among: (items,) which items have a place in the space; by default all.
    """
    import faiss

    rows, cosines = np.full((len(queries), k), -1, np.int64), np.zeros((len(queries), k), np.float32)
    finite = np.flatnonzero(np.isfinite(queries).all(axis=1))
    for on_sale, places in allowed.evenings(of[finite]):
        searched = on_sale if among is None else on_sale & among
        end, most = int(np.flatnonzero(searched)[-1]) + 1 if searched.any() else 0, int(searched.sum())
        asking, wanted, is_range = finite[places], min(k + _SPARE, end), True
        while len(asking) and wanted:
            selector = faiss.IDSelectorRange(0, end) if is_range else faiss.IDSelectorBitmap(np.packbits(searched, bitorder="little"))  # type: ignore[call-arg, arg-type]
            found, similar = _search(space, queries[asking], wanted, selector)
            order, good = allowed.in_order(np.broadcast_to(of[asking, None], found.shape), np.where(searched[found], found, -1), similar)
            first = order[:, :k]
            width = first.shape[1]
            kept = np.take_along_axis(good, first, axis=1)
            rows[asking, :width] = np.where(kept, np.take_along_axis(found, first, axis=1), -1)
            cosines[asking, :width] = np.where(kept, np.take_along_axis(similar, first, axis=1), 0)
            asking = asking[good.sum(axis=1) < k] if wanted < (end if is_range else most) else asking[:0]
            wanted, is_range = min(4 * wanted, most), False
    return rows, cosines


def vectors_of(space: Any, rows: Ints) -> Floats:
    """Return the vectors of rows, of any shape, (*shape, dim) float32; that of row 0 for -1."""
    vectors: Floats = space.reconstruct_batch(np.maximum(rows, 0).ravel()).reshape(*rows.shape, space.d)
    return vectors


def _search(space: Any, queries: Floats, k: int, selector: Any) -> tuple[Ints, Floats]:
    import faiss

    # FAISS multiplies a few hundred queries one by one otherwise, at a fifth of the speed.
    faiss.cvar.distance_compute_blas_threshold = 1
    cosines, rows = space.search(np.ascontiguousarray(queries, dtype=np.float32), k, params=faiss.SearchParameters(sel=selector))  # type: ignore[call-arg]
    # FAISS says -1 where it finds nothing. The last digits depend on the queries beside one: without them equals are equal, none above 1.
    return rows, np.clip(np.round(cosines, _DIGITS), -1, 1)
