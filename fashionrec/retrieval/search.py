"""From generated IDs and titles to candidates of one category."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionrec.candidates import Candidate, Retrieve, Retrieved
from fashionrec.index_folders import slug
from fashionrec.retrieval.indexes import CategoryIndex, Encode, load_index
from fashionrec.retrieval.mixup import mixup

_Hits = dict[int, float]  # row of the index -> similarity, nearest first


def open_category(folder: Path, category: str, *, encode: Encode, candidates: int, m: int) -> Retrieve:
    """Return a function that retrieves from a category's indexes below `folder`: `candidates` items of each space, fused by mixup with `m`.

    Raises:
        RetrievalError: the category has no readable index.
    """
    index = load_index(folder / slug(category))
    rows = {item_id: row for row, item_id in enumerate(index.item_ids)}

    def retrieve(item_ids: Sequence[str], titles: Sequence[str | None]) -> list[Retrieved]:
        known = [rows.get(item_id) for item_id in item_ids]
        by_id = id_hits(index, known, k=candidates)
        by_title = title_hits(index, titles, encode=encode, k=candidates)
        return [
            Retrieved(row is not None, fuse(index, ids, found, m=m, n=candidates))
            for row, ids, found in zip(known, by_id, by_title, strict=True)
        ]

    return retrieve


def id_hits(index: CategoryIndex, known: Sequence[int | None], *, k: int) -> list[_Hits]:
    """Return the items in stock nearest to each generated item in the ID space, itself first; none for an ID of no item of the category.

    An untrained item has no neighbours but itself: it shares its vector with all others that training never saw.
    """
    hits: list[_Hits] = [{row: 1.0} if row is not None and row < index.in_stock_count else {} for row in known]
    asking = [place for place, row in enumerate(known) if row is not None and index.trained[row]]
    if asking:
        queries = np.stack([index.ids.reconstruct(known[place]) for place in asking])
        for place, found in zip(asking, _search(index.ids, queries, k, index.in_stock_count), strict=True):
            hits[place] = {**hits[place], **{row: s for row, s in found.items() if row != known[place]}}
    return hits


def title_hits(index: CategoryIndex, titles: Sequence[str | None], *, encode: Encode, k: int) -> list[_Hits]:
    """Return the items in stock nearest to each generated title in the title space; none where there is no title."""
    hits: list[_Hits] = [{} for _ in titles]
    given = [(place, title) for place, title in enumerate(titles) if title]
    if given:
        found = _search(index.title, encode([title for _, title in given]), k, index.in_stock_count)
        for (place, _), near in zip(given, found, strict=True):
            hits[place] = near
    return hits


def fuse(index: CategoryIndex, by_id: _Hits, by_title: _Hits, *, m: int, n: int) -> list[Candidate]:
    """Return the mixup of two lists as candidates. The head of the ID list counts as found there."""
    head = set(list(by_id)[:m])
    fused = []
    for row in mixup(list(by_id), list(by_title), m=m, n=n):
        source, hits = ("id", by_id) if row in head or row not in by_title else ("title", by_title)
        fused.append(Candidate(index.item_ids[row], index.titles[row], source, hits[row]))
    return fused


def _search(index: Any, queries: NDArray[np.float32], k: int, in_stock_count: int) -> list[_Hits]:
    """Return the nearest of the first `in_stock_count` rows for each query; none for a query that holds something that is no number."""
    import faiss

    if in_stock_count == 0:
        return [{} for _ in queries]
    in_stock = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, in_stock_count))  # type: ignore[call-arg]
    similarity, rows = index.search(np.ascontiguousarray(queries), min(k, in_stock_count), params=in_stock)
    # FAISS says -1 where it finds nothing. Rounding takes a cosine a hair above 1.
    found = zip(rows.tolist(), np.clip(similarity, -1, 1).tolist(), strict=True)
    return [{row: cosine for row, cosine in zip(*one, strict=True) if row >= 0} for one in found]
