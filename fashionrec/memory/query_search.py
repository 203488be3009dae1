"""The search for the remembered queries nearest to one that was never seen (paper section 4.2).

A search sees the queries of one date only. Up to a number of them it compares all their vectors. Above it, vectors of two bits a component
(a product quantiser: one code of four bits for two components) are scanned first, and the best of them compared for real. On 200,000
n-gram vectors of real words that takes less than half the time, at a recall@10 of 0.99 (docs/measurements.md), and is built in a second.
Graphs and cells did worse, for hashed n-grams form no clusters: HNSW took 72 s to build and 0.95 ms a query at 0.98, cells (IVF) more than
1.6 ms at 0.95.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Vectors held in memory at once, of those that are compared.
CHUNK = 65536
# Candidates beyond those asked for: float32 similarities that differ in the last bits may come in another order than the true ones.
_SPARE = 16
# Queries whose candidates are compared at once.
_BLOCK = 256


@dataclass(frozen=True)
class QueryIndex:
    """The remembered queries of a category, ascending by name; the arrays are mapped: processes of one machine share their pages."""

    queries: NDArray[np.object_]  # (queries,)
    vectors: NDArray[np.float32]  # (queries, dim)
    remembered: dict[date, NDArray[np.uint8]]  # bits, one per query, lowest first
    exact_up_to: int
    candidates: int = 0
    codes: NDArray[np.uint8] | None = None  # (queries, code bytes)
    quantiser: Any = None  # faiss.IndexPQ, trained and empty

    def nearest(self, wanted: NDArray[np.float32], memory_date: date, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return which of the queries remembered on a date are nearest to each vector of `wanted` (n, dim), and their cosines.

        Both have the shape (n, min(count, queries of the date)), nearest first, equally near ones by name; cosines have six digits. An
        answer depends on its own vector alone, not on those beside it. On a date without memory there are none.
        """
        rows = self.rows(memory_date)
        count = min(count, len(rows))
        if not count or not len(wanted):
            return np.zeros((len(wanted), count), dtype=np.int64), np.zeros((len(wanted), count))
        wanted = np.ascontiguousarray(wanted, dtype=np.float32)
        few = len(rows) <= self.exact_up_to or self.codes is None
        found = self._compared(wanted, rows, count + _SPARE) if few else self._scanned(wanted, rows, max(self.candidates, count + _SPARE))
        return self._ranked(wanted, found, count)

    def rows(self, memory_date: date) -> NDArray[np.int64]:
        """Return the places of the queries remembered on a date, ascending."""
        if memory_date not in self.remembered:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero(np.unpackbits(self.remembered[memory_date], count=len(self.queries), bitorder="little"))

    def _compared(self, wanted: NDArray[np.float32], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the nearest of `rows` by all their vectors, (n, min(count, rows)), in no order."""
        import faiss

        best = np.zeros((len(wanted), 0), dtype=np.float32)
        places = np.zeros((len(wanted), 0), dtype=np.int64)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            cosines, found = faiss.knn(wanted, self.vectors[chunk], min(count, len(chunk)), faiss.METRIC_INNER_PRODUCT)
            best, places = np.hstack([best, cosines]), np.hstack([places, chunk[found]])
            if best.shape[1] > count:
                kept = np.argpartition(-best, count - 1, axis=1)[:, :count]
                best, places = np.take_along_axis(best, kept, axis=1), np.take_along_axis(places, kept, axis=1)
        return places

    def _scanned(self, wanted: NDArray[np.float32], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the nearest of `rows` by their codes, (n, min(count, rows)), in no order."""
        import faiss

        assert self.codes is not None
        quantised = faiss.clone_index(self.quantiser)
        quantised.add_sa_codes(np.ascontiguousarray(self.codes[rows]))
        scan: Any = faiss.IndexPQFastScan(quantised)  # type: ignore[arg-type]
        _, found = scan.search(wanted, min(count, len(rows)))
        chosen: NDArray[np.int64] = rows[found]
        return chosen

    def _ranked(self, wanted: NDArray[np.float32], found: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the `count` nearest of the candidates `found` (n, candidates), and their cosines, both (n, count)."""
        places = np.empty((len(wanted), count), dtype=np.int64)
        cosines = np.empty((len(wanted), count))
        for start in range(0, len(wanted), _BLOCK):
            block = slice(start, start + _BLOCK)
            # In float64, whose noise is far below the six digits; BLAS's float32 would depend on the size of the batch.
            exact = np.einsum("nd,nkd->nk", wanted[block], self.vectors[found[block]], dtype=np.float64).round(6)
            order = np.lexsort((found[block], -exact))[:, :count]
            places[block], cosines[block] = np.take_along_axis(found[block], order, axis=1), np.take_along_axis(exact, order, axis=1)
        return places, cosines
