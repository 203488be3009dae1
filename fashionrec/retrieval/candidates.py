"""The sources of candidates: each a small function that gives every request a ranked list with scores. Their union is what is fused.

To add one: a function below, a line in SOURCES with the words for its reason, and the row that it makes in the evaluation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashionrec.retrieval.arrays import Floats, Ints, runs
from fashionrec.retrieval.indexes import CategoryIndex, Encode
from fashionrec.retrieval.purchases import bought_together, popularity
from fashionrec.retrieval.requests import Requests
from fashionrec.retrieval.search import Allowed, nearest, vectors_of
from fashionrec.retrieval.tastes import lifts, touches_of

_FORGETTING = 0.8  # weight of a touched item against the next newer one
_POOL = 2000  # best sold items of the season that tastes choose from
_PAIRS = 2_000_000  # pairs of items bought together that are looked at in one go, some 300 MB

# (sessions, dim) float32, L2-normalised, for item IDs oldest to newest.
EncodeSessions = Callable[[Sequence[Sequence[str]]], Floats]


class Hits(NamedTuple):
    """A source's lists, best first: (batch, k) rows of items, -1 where a list ends, and their scores.

    Scores are cosines, sums of weights from 0 up, or for tastes a sum of logarithms; 0 where a list ended.
    """

    rows: Ints
    scores: Floats


@dataclass(frozen=True)
class Asked:
    """What a source may look at: a batch of requests of one category, and the vectors that models made of them.

    Vectors are (batch, dim) float32, zeros where the request has none.
    """

    index: CategoryIndex
    requests: Requests
    allowed: Allowed
    session_vectors: Floats
    answer_vectors: Floats  # of the answered title, in the title space
    query_vectors: Floats  # of the newest search, in the title space
    path_vectors: Floats  # mean of the touched items' titles, weighted by recency, of length 1
    weights: Floats  # (touched,): how much each touched item counts, less the older it is

    @cached_property
    def sold(self) -> Callable[[int, int], Floats]:
        """Gives how often each item was bought in so many days up to an evening, (items,); several sources and features ask the same.

        Kept are the windows of an evening or two, which serving asks; those of all evenings of an evaluation would fill the memory.
        """
        return lru_cache(8)(lambda as_of, window: popularity(self.index.purchases, as_of, window, items=self.index.item_count))

    @cached_property
    def together(self) -> tuple[Ints, Ints, Floats, Floats, Floats, Floats]:
        """What `together` gives: a source and features both read it."""
        return together(self)


def ask(index: CategoryIndex, requests: Requests, *, excluded: NDArray[np.bool_], encode: Encode, encode_sessions: EncodeSessions) -> Asked:
    """Return the requests with their vectors; `excluded` (touched,) says which touched items may not come again."""
    weights = (_FORGETTING ** requests.touched_place.astype(np.float32)).astype(np.float32)
    known = requests.touched >= 0
    path_vectors = np.zeros((requests.size, index.title.d), np.float32)
    np.add.at(path_vectors, requests.touched_of[known], vectors_of(index.title, requests.touched[known]) * weights[known, None])
    path_vectors /= np.maximum(np.linalg.norm(path_vectors, axis=1, keepdims=True), 1e-9)
    return Asked(
        index,
        requests,
        Allowed(index, requests, excluded),
        session_vectors=_filled(requests.sessions, index.ids.d, encode_sessions),
        answer_vectors=_filled(requests.answer_titles, index.title.d, encode),
        query_vectors=_filled(requests.queries, index.title.d, encode),
        path_vectors=path_vectors,
        weights=weights,
    )


def near_answered_item(asked: Asked, k: int) -> Hits:
    """The answered item, then its neighbours in the ID space; of an item that training never saw, only itself."""
    index, answer = asked.index, asked.requests.answer
    hits = _near_rows(asked, index.ids, np.where(index.trained[answer], answer, -1), k, among=index.trained)
    itself = np.where(asked.allowed(np.arange(len(answer)), answer), answer, -1)
    return _put_first(hits, itself)


def near_answered_title(asked: Asked, k: int) -> Hits:
    return _near_vectors(asked, asked.index.title, asked.answer_vectors, k)


def near_session(asked: Asked, k: int) -> Hits:
    """CORE's own ranking by the path's vector."""
    return _near_vectors(asked, asked.index.ids, asked.session_vectors, k, among=asked.index.trained)


def near_last_item(asked: Asked, k: int) -> Hits:
    index, last = asked.index, last_items(asked.requests)
    return _near_rows(asked, index.ids, np.where(index.trained[last], last, -1), k, among=index.trained)


def titled_like_last_item(asked: Asked, k: int) -> Hits:
    return _near_rows(asked, asked.index.title, last_items(asked.requests), k)


def near_query(asked: Asked, k: int) -> Hits:
    return _near_vectors(asked, asked.index.title, asked.query_vectors, k)


def remembered(asked: Asked, k: int) -> Hits:
    """What the memory answered to the newest searches, older ones at a discount."""
    requests = asked.requests
    weights = requests.remembered_score * 0.5**requests.remembered_place
    return _best(asked, requests.remembered_of, requests.remembered, weights.astype(np.float32), k)


def co_purchased(asked: Asked, k: int) -> Hits:
    """What shoppers of the path's items also bought: the sum of the cosines of their buyers."""
    of, rows, cosine, *_ = asked.together
    return _best(asked, of, rows, cosine, k)


def same_family(asked: Asked, k: int) -> Hits:
    """Variants of the touched products, those of newer ones first."""
    index, requests = asked.index, asked.requests
    of, family, weight = _weighed(asked, np.where(requests.touched >= 0, index.family[requests.touched], 0))
    sorted_family = index.family[index.family_order]
    starts = np.searchsorted(sorted_family, family)
    places, offsets = runs(np.searchsorted(sorted_family, family, side="right") - starts)
    return _best(asked, of[places], index.family_order[starts[places] + offsets], weight[places], k)


def bought_again(asked: Asked, k: int) -> Hits:
    """What the shopper bought before, newest first; nothing where such items are excluded."""
    requests = asked.requests
    return _best(asked, requests.touched_of[requests.bought], requests.touched[requests.bought], asked.weights[requests.bought], k)


def popular(days: int) -> Callable[[Asked, int], Hits]:
    """Return the source of what was bought most in the `days` up to the evening."""

    def source(asked: Asked, k: int) -> Hits:
        index, as_of = asked.index, asked.requests.as_of
        rows, scores = np.full((len(as_of), k), -1, np.int64), np.zeros((len(as_of), k), np.float32)
        for day in np.unique(as_of):
            of = np.flatnonzero(as_of == day)
            counts = np.where(asked.allowed.on_sale(of[0]), asked.sold(int(day), days), -1)
            top = _highest(index, counts, k + asked.allowed.most_excluded)
            top = top[counts[top] >= 0]
            if not len(top):
                continue
            good = asked.allowed(np.broadcast_to(of[:, None], (len(of), len(top))), np.broadcast_to(top, (len(of), len(top))))
            first = np.argsort(~good, axis=1, kind="stable")[:, :k]
            kept = np.take_along_axis(good, first, axis=1)
            rows[of, : first.shape[1]] = np.where(kept, top[first], -1)
            scores[of, : first.shape[1]] = np.where(kept, counts[top[first]], 0)
        return Hits(rows, scores)

    return source


def tasteful(asked: Asked, k: int) -> Hits:
    """What sells in the season and shares most attributes with what the shopper touched, here and in other categories."""
    index, requests = asked.index, asked.requests
    every = list(touches_of(index, requests))
    rows, scores = np.full((requests.size, k), -1, np.int64), np.zeros((requests.size, k), np.float32)
    for day in np.unique(requests.as_of):
        of = np.flatnonzero(requests.as_of == day)
        sold = np.where(asked.allowed.on_sale(of[0]), asked.sold(int(day), 90), 0)
        pool = _highest(index, sold, _POOL)
        pool = pool[sold[pool] > 0]
        if not len(pool):
            continue
        asking, choices = (np.broadcast_to(part, (len(of), len(pool))) for part in (of[:, None], pool))
        total = np.log1p(sold[pool])[None, :] + sum(
            lifts(touches, asking, index.tastes[choices, number], requests=requests.size) for number, touches in enumerate(every)
        )
        total = np.where(asked.allowed(asking, choices), total, -np.inf)
        best = np.argsort(-total, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(total, best, axis=1)
        rows[of, : best.shape[1]] = np.where(np.isfinite(kept), pool[best], -1)
        scores[of, : best.shape[1]] = np.where(np.isfinite(kept), kept, 0)
    return Hits(rows, scores)


class Source(NamedTuple):
    """A source: its function, and the reason that a customer may read."""

    find: Callable[[Asked, int], Hits]
    reason: str


SOURCES: Mapping[str, Source] = {
    "answer_id": Source(near_answered_item, "goes with the product expected next"),
    "answer_title": Source(near_answered_title, "like the product expected next"),
    "session": Source(near_session, "fits what you looked at"),
    "last_item_id": Source(near_last_item, "goes with what you looked at last"),
    "last_item_title": Source(titled_like_last_item, "like what you looked at last"),
    "last_query": Source(near_query, "fits your last search"),
    "memory": Source(remembered, "others found it by your searches"),
    "co_purchase": Source(co_purchased, "bought together with what you chose"),
    "family": Source(same_family, "another variant of what you looked at"),
    "bought_again": Source(bought_again, "you bought it before"),
    "taste": Source(tasteful, "popular, and to your taste"),
    "popularity_7": Source(popular(7), "popular this week"),
    "popularity_28": Source(popular(28), "popular this month"),
    "popularity_90": Source(popular(90), "popular this season"),
}
# Those that read the language model's answer.
LANGUAGE_MODEL = ("answer_id", "answer_title")


class Candidates(NamedTuple):
    """The union of the sources' lists: one entry per request and item, in the order of the requests, then of the rows.

    `rank` and `score` are (sources, candidates): the place in a source's list, from 1, 0 where it is not in it, and its score there.
    """

    of: Ints
    rows: Ints
    rank: Ints
    score: Floats


def find_candidates(asked: Asked, *, k: int) -> Candidates:
    """Return the union of all sources' lists of at most `k` items."""
    hits = {name: source.find(asked, k) for name, source in SOURCES.items()}
    items = max(asked.index.item_count, 1)
    flat = {name: _entries(one, items) for name, one in hits.items()}
    keys = np.unique(np.concatenate([keys for keys, _, _ in flat.values()]))
    rank, score = np.zeros((len(SOURCES), len(keys)), np.int64), np.zeros((len(SOURCES), len(keys)), np.float32)
    for number, (of_source, places, scores) in enumerate(flat.values()):
        at = np.searchsorted(keys, of_source)
        rank[number, at], score[number, at] = places, scores
    return Candidates(keys // items, keys % items, rank, score)


def together(asked: Asked) -> tuple[Ints, Ints, Floats, Floats, Floats, Floats]:
    """Return requests and rows, ascending, and how rows' buyers agree with those of the request's different touched items, (found,) each.

    That is the sum of the cosines, the part of it from shoppers who bought both within a day, the sum weighted by recency, and the same of
    cosines in which each shopper counts one by the number of items bought.
    """
    of, rows, weights = _weighed(asked, asked.requests.touched + 1)
    starts = asked.index.purchases.pair_starts
    before = np.cumsum(starts[rows] - starts[rows - 1])
    # All of a batch would fill the memory where shoppers buy much. One request's stay together.
    part = (before // _PAIRS)[np.searchsorted(of, of)]
    cuts = np.searchsorted(part, np.arange(1, part.max(initial=0) + 1))
    found = [_together(asked, *some) for some in zip(*(np.split(values, cuts) for values in (of, rows - 1, weights)), strict=True)]
    requests, others, *sums = (np.concatenate(values) for values in zip(*found, strict=True))
    return requests, others, *sums


def _together(asked: Asked, of: Ints, rows: Ints, weights: Floats) -> tuple[Ints, Ints, Floats, Floats, Floats, Floats]:
    """Return what `together` does for some requests: all `rows` that each of them touched, with their weights, (touched,) each."""
    items = max(asked.index.item_count, 1)
    found = bought_together(asked.index.purchases, rows, asked.requests.as_of[of])
    keys, inverse = np.unique(of[found.places] * items + found.rows, return_inverse=True)
    newest_first = weights[found.places]
    parts = (found.cosine, found.near, found.cosine * newest_first, found.shared * newest_first)
    sums = (np.bincount(inverse, weights=part, minlength=len(keys)).astype(np.float32) for part in parts)
    return keys // items, keys % items, *sums


def _filled(texts: Sequence[Any], dim: int, encode: Callable[[Any], Floats]) -> Floats:
    """Return the vectors of what is not empty, (texts, dim), zeros for the rest and where a model gives something that is no number."""
    vectors = np.zeros((len(texts), dim), np.float32)
    given = [place for place, text in enumerate(texts) if text]
    if given:
        vectors[given] = encode([texts[place] for place in given])
    return np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0).astype(np.float32)


def _weighed(asked: Asked, values: Ints) -> tuple[Ints, Ints, Floats]:
    """Return requests, the different values of their touched items (0 is none) and the weights of the newest of each."""
    requests = asked.requests
    known = np.flatnonzero(values > 0)
    # Entries are newest first, and of equal keys the first is taken.
    span = int(values.max(initial=0)) + 1
    keys, first = np.unique(requests.touched_of[known] * span + values[known], return_index=True)
    return keys // span, keys % span, asked.weights[known[first]]


def last_items(requests: Requests) -> Ints:
    """Return the newest touched item of each request that the index knows, (batch,), -1 for none."""
    last = np.full(requests.size, -1, np.int64)
    known = np.flatnonzero(requests.touched >= 0)[::-1]
    last[requests.touched_of[known]] = requests.touched[known]  # the newest is written last
    return last


def _near_rows(asked: Asked, space: Any, rows: Ints, k: int, *, among: NDArray[np.bool_] | None = None) -> Hits:
    """Return the neighbours of one item per request, none where it is -1."""
    vectors = vectors_of(space, rows) * (rows >= 0)[:, None]
    return _near_vectors(asked, space, vectors.astype(np.float32), k, among=among)


def _near_vectors(asked: Asked, space: Any, vectors: Floats, k: int, *, among: NDArray[np.bool_] | None = None) -> Hits:
    """Return the neighbours of one vector per request, none where it is zero."""
    rows, scores = np.full((len(vectors), k), -1, np.int64), np.zeros((len(vectors), k), np.float32)
    asking = np.flatnonzero(vectors.any(axis=1))
    rows[asking], scores[asking] = nearest(space, vectors[asking], asking, asked.allowed, k=k, among=among)
    return Hits(rows, scores)


def _highest(index: CategoryIndex, values: Floats, count: int) -> Ints:
    """Return the `count` rows of the highest values (items,), equals in the order of their IDs."""
    highest: Ints = index.by_id[np.argsort(-values[index.by_id], kind="stable")[:count]]
    return highest


def _put_first(hits: Hits, rows: Ints) -> Hits:
    """Return lists with a row of score 1 at their head, where it is not -1, and nowhere else."""
    again = (hits.rows == rows[:, None]) & (rows >= 0)[:, None]
    head = np.where(rows >= 0, 0, 2)[:, None]
    order = np.argsort(np.concatenate([head, 1 + 2 * again], axis=1), axis=1, kind="stable")[:, : hits.rows.shape[1]]
    all_rows = np.concatenate([rows[:, None], np.where(again, -1, hits.rows)], axis=1)
    all_scores = np.concatenate([(rows >= 0)[:, None].astype(np.float32), np.where(again, 0, hits.scores)], axis=1)
    return Hits(np.take_along_axis(all_rows, order, axis=1), np.take_along_axis(all_scores, order, axis=1).astype(np.float32))


def _best(asked: Asked, of: Ints, rows: Ints, scores: Floats, k: int) -> Hits:
    """Return the `k` allowed rows of the highest summed scores for each request, equals in the order of their IDs."""
    items = max(asked.index.item_count, 1)
    good = (scores > 0) & asked.allowed(of, rows)
    keys, inverse = np.unique(of[good] * items + rows[good], return_inverse=True)
    summed = np.bincount(inverse, weights=scores[good], minlength=len(keys))
    order = np.lexsort((asked.index.id_place[keys % items], -summed, keys // items))
    of, places = keys[order] // items, np.arange(len(keys))
    starts = np.searchsorted(of, np.arange(asked.requests.size))
    places -= starts[of]
    kept = places < k
    hits = Hits(np.full((asked.requests.size, k), -1, np.int64), np.zeros((asked.requests.size, k), np.float32))
    hits.rows[of[kept], places[kept]] = keys[order][kept] % items
    hits.scores[of[kept], places[kept]] = summed[order][kept]
    return hits


def _entries(hits: Hits, items: int) -> tuple[Ints, Ints, Floats]:
    """Return the entries of lists as keys (request x items + row), places from 1 and scores."""
    of, places = np.nonzero(hits.rows >= 0)
    return of * items + hits.rows[of, places], places + 1, hits.scores[of, places]
