"""What the fusion knows of a candidate: its place in every source, its nearness to what the shopper did, and how it sells. Pure NumPy."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionrec.retrieval.arrays import Floats, Ints, look_up
from fashionrec.retrieval.candidates import SOURCES, Asked, Candidates, last_items
from fashionrec.retrieval.purchases import buyers
from fashionrec.retrieval.search import vectors_of
from fashionrec.retrieval.tastes import lifts, touches_of

# A feature: its name, the source whose reason it speaks for, its values (candidates,).
Feature = tuple[str, str, NDArray[Any]]

_WINDOWS = (7, 28, 90)
_FAR = 60  # days on sale after which it does not matter how long
# Purchases' worth of no repeats that every family begins with.
_REPEATS, _REPEATS_OF = 1, 20


def features(asked: Asked, candidates: Candidates, attributes: Sequence[str]) -> tuple[list[str], list[str], Floats]:
    """Return what is known of candidates: names, the source that each speaks for, and values (candidates, features) float32.

    Args:
        asked: the requests.
        candidates: their candidates.
        attributes: names of the attributes that the index numbers.
    """
    parts = (_places(candidates), _nearness(asked, candidates), _bought(asked, candidates), _sells(asked, candidates))
    every = [feature for part in parts for feature in part]
    every += [*_shopper(asked, candidates), *_tastes(asked, candidates, attributes)]
    values = np.stack([values for _, _, values in every], axis=1).astype(np.float32)
    return [name for name, _, _ in every], [source for _, source, _ in every], values


def _places(candidates: Candidates) -> Iterator[Feature]:
    for name, rank in zip(SOURCES, candidates.rank, strict=True):
        listed = rank > 0
        yield f"in {name}", name, listed
        yield f"place in {name}", name, np.where(listed, 1 / np.log2(1 + np.maximum(rank, 1)), 0)


def _nearness(asked: Asked, candidates: Candidates) -> Iterator[Feature]:
    index, requests, of, rows = asked.index, asked.requests, candidates.of, candidates.rows
    known = index.trained[rows]
    ids, titles = vectors_of(index.ids, rows), vectors_of(index.title, rows)
    answer, last = requests.answer, last_items(requests)
    probability = requests.answer_probability[of]

    def cosine(vectors: Floats, queries: Floats) -> Floats:
        found: Floats = np.einsum("ij,ij->i", vectors, queries[of])
        return found

    def of_row(space: Any, places: Ints, usable: NDArray[np.bool_]) -> Floats:
        return (vectors_of(space, places) * usable[:, None]).astype(np.float32)

    # An item that training never saw is near to nothing in the ID space, whatever its shared vector says.
    near_answer = known * cosine(ids, of_row(index.ids, answer, (answer >= 0) & index.trained[answer]))
    answer_id = np.where(answer[of] == rows, 1, near_answer)
    answer_title = cosine(titles, asked.answer_vectors)
    yield "answered ID, cosine", "answer_id", answer_id
    yield "answered ID, cosine x probability", "answer_id", answer_id * probability
    yield "answered title, cosine", "answer_title", answer_title
    yield "answered title, cosine x probability", "answer_title", answer_title * probability
    yield "session, cosine", "session", known * cosine(ids, asked.session_vectors)
    near_last = known * cosine(ids, of_row(index.ids, last, (last >= 0) & index.trained[last]))
    yield "last item's ID, cosine", "last_item_id", near_last
    yield "last item's title, cosine", "last_item_title", cosine(titles, of_row(index.title, last, last >= 0))
    yield "path's titles, cosine", "last_item_title", cosine(titles, asked.path_vectors)
    yield "last query, cosine", "last_query", cosine(titles, asked.query_vectors)


def _bought(asked: Asked, candidates: Candidates) -> Iterator[Feature]:
    items = max(asked.index.item_count, 1)
    keys = candidates.of * items + candidates.rows
    of, rows, *cosines = asked.together
    names = ("co-purchase", "co-purchase within a day", "co-purchase, newest first", "co-purchase by shoppers of few items, newest first")
    for name, values in zip(names, cosines, strict=True):
        yield name, "co_purchase", np.sqrt(look_up(of * items + rows, values, keys)[1])
    scores = candidates.score[list(SOURCES).index("memory")]
    best = np.zeros(asked.requests.size, np.float32)
    np.maximum.at(best, candidates.of, scores)
    yield "memory, share of the best", "memory", scores / np.maximum(best, 1e-9)[candidates.of]


def _sells(asked: Asked, candidates: Candidates) -> Iterator[Feature]:
    index, as_of, rows = asked.index, asked.requests.as_of[candidates.of], candidates.rows
    families = int(index.family.max(initial=0)) + 1
    shape = (len(_WINDOWS), len(rows))
    counts, of_family = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    ever, repeats = np.zeros(len(rows), np.float32), np.zeros(len(rows), np.float32)
    every = np.arange(index.item_count)
    for day in np.unique(as_of):
        at = np.flatnonzero(as_of == day)
        for number, window in enumerate(_WINDOWS):
            sold = asked.sold(int(day), window)
            counts[number, at] = sold[rows[at]]
            in_family = np.bincount(index.family, weights=sold, minlength=families)[index.family[rows[at]]]
            of_family[number, at] = np.where(index.family[rows[at]] > 0, in_family, sold[rows[at]])
        so_far = asked.sold(int(day), int(day) + 1)
        ever[at] = so_far[rows[at]]
        shoppers = buyers(index.purchases, every, np.full(len(every), day))
        times, firsts = (np.bincount(index.family, weights=part, minlength=families) for part in (so_far, shoppers))
        repeats[at] = ((times - firsts + _REPEATS) / (times + _REPEATS_OF))[index.family[rows[at]]]
    for window, of_item, family in zip(_WINDOWS, counts, of_family, strict=True):
        yield f"log purchases of {window} days", f"popularity_{window}", np.log1p(of_item)
        yield f"log purchases of the family of {window} days", f"popularity_{window}", np.log1p(family)
    yield "log purchases so far", "popularity_90", np.log1p(ever)
    yield "rise of a week", "popularity_7", np.log1p(counts[0] * _WINDOWS[1] / _WINDOWS[0]) - np.log1p(counts[1])
    yield "unknown to training", "popularity_90", ~index.trained[rows]
    yield "log days on sale", "popularity_7", np.log1p(np.clip(as_of + 1 - index.on_sale_from[rows], 0, _FAR))
    before, times, ago = _bought_before(asked, candidates)
    yield "bought before", "bought_again", before
    yield "log times bought before", "bought_again", np.log1p(times)
    yield "bought before, log days ago", "bought_again", before * np.log1p(ago)
    yield "bought before x repeat rate of its family", "bought_again", before * repeats


def _bought_before(asked: Asked, candidates: Candidates) -> tuple[NDArray[np.bool_], Ints, Ints]:
    """Return whether the shopper bought each candidate before, how often, and how many days ago the last time."""
    requests, items = asked.requests, max(asked.index.item_count, 1)
    bought = np.flatnonzero(requests.bought & (requests.touched >= 0))
    # Entries are newest first, and of equal keys the first is taken.
    keys, first, times = np.unique(requests.touched_of[bought] * items + requests.touched[bought], return_index=True, return_counts=True)
    wanted = candidates.of * items + candidates.rows
    before, how_often = look_up(keys, times, wanted)
    return before, how_often, look_up(keys, requests.touched_days[bought][first], wanted)[1]


def _shopper(asked: Asked, candidates: Candidates) -> Iterator[Feature]:
    index, requests, of, rows = asked.index, asked.requests, candidates.of, candidates.rows
    known = np.flatnonzero(requests.touched >= 0)
    weights, owner, touched = asked.weights[known], requests.touched_of[known], requests.touched[known]

    def share(chosen: NDArray[np.bool_]) -> NDArray[Any]:
        """Return which weighted share of the chosen touches is of the candidate's family, 0 where it has none."""
        total = np.maximum(np.bincount(owner[chosen], weights=weights[chosen], minlength=requests.size), 1e-9)
        span = int(index.family.max(initial=0)) + 1
        keys, inverse = np.unique(owner[chosen] * span + index.family[touched[chosen]], return_inverse=True)
        sums = np.bincount(inverse, weights=weights[chosen], minlength=len(keys))
        _, same = look_up(keys, sums, of * span + index.family[rows])
        shares: NDArray[Any] = np.where(index.family[rows] > 0, same, 0) / total[of]
        return shares

    yield "family, share of touches", "family", share(np.ones(len(touched), bool))
    yield "family, share of purchases", "family", share(requests.bought[known])
    priced = np.isfinite(index.prices[touched])
    weight = np.bincount(owner[priced], weights=weights[priced], minlength=requests.size)
    logs = weights[priced] * np.log(np.maximum(index.prices[touched[priced]], 0.01))
    usual = np.bincount(owner[priced], weights=logs, minlength=requests.size) / np.maximum(weight, 1e-9)
    both = (weight > 0)[of] & np.isfinite(index.prices[rows])
    ratio = np.where(both, np.log(np.maximum(index.prices[rows], 0.01)) - usual[of], 0)
    yield "price, log ratio", "taste", ratio
    yield "price, distance of logs", "taste", np.abs(ratio)


def _tastes(asked: Asked, candidates: Candidates, attributes: Sequence[str]) -> Iterator[Feature]:
    index, requests = asked.index, asked.requests
    for name, touches, values in zip(attributes, touches_of(index, requests), index.tastes.T, strict=True):
        yield f"taste, {name}", "taste", lifts(touches, candidates.of, values[candidates.rows], requests=requests.size)
