"""The rows of the evaluation: each ranks all items of a category for a batch of examples. Pure NumPy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashionrec.evaluate.metrics import NOT_RANKED, Floats, Ints, mixup_rank, pessimistic_rank

# What is mailed, and what it is compared with.
SERVED = "fashionrec"
METHODS = (SERVED, "id_only", "title_only", "popularity", "last_item", "like_last_item", "core")


class CategoryItems(NamedTuple):
    """The items of one category, as its index holds them: IDs (items,), vectors of both spaces (items, dim) float32.

    `trained` (items,) is False where the ID vector is the one that all items share that training never saw.
    """

    item_ids: Sequence[str]
    id_vectors: Floats
    title_vectors: Floats
    trained: NDArray[np.bool_]


NO_ITEMS = CategoryItems([], np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), np.zeros(0, bool))


class Space:
    """Exact inner products with all items, in which equal vectors have equal scores.

    A matrix product gives equal columns different last bits where its blocks end, which would break ties at random: cold items share one
    vector, and many items share a title. So each different vector is multiplied once.
    """

    def __init__(self, vectors: Floats) -> None:
        distinct, inverse = np.unique(vectors, axis=0, return_inverse=True)
        self._distinct: Floats = distinct
        self._inverse: Ints = inverse.reshape(-1)

    def scores(self, queries: Floats) -> Floats:
        """Return (batch, items) float32 for queries of the shape (batch, dim)."""
        products: Floats = (queries @ self._distinct.T)[:, self._inverse]
        return products

    @property
    def dim(self) -> int:
        return int(self._distinct.shape[1])

    def at(self, positions: Ints) -> Floats:
        """Return the items' vectors, (batch, dim) float32."""
        return self._distinct[self._inverse[positions]]


class Catalogue:
    """One category, ready to rank its items."""

    def __init__(self, items: CategoryItems, purchases: Mapping[str, int]) -> None:
        self.item_count = len(items.item_ids)
        self.position = {item_id: place for place, item_id in enumerate(items.item_ids)}
        self.trained = items.trained
        self.ids, self.titles = Space(items.id_vectors), Space(items.title_vectors)
        self.popularity: Floats = np.array([purchases.get(item_id, 0) for item_id in items.item_ids], np.float32)

    def positions(self, item_ids: Sequence[str | None]) -> Ints:
        """Return (batch,) positions of items by ID, -1 where there is none of that name."""
        return np.array([-1 if item_id is None else self.position.get(item_id, -1) for item_id in item_ids], np.int64)


class Answers(NamedTuple):
    """A batch of answers: (batch,) positions of the answered items, -1 where unknown; (batch,) bool whether the answer has a title;
    (batch, dim) float32 vectors of the titles, any where there is none."""

    item: Ints
    has_title: NDArray[np.bool_]
    title_vectors: Floats


class Batch(NamedTuple):
    """A batch of examples of one category: (batch,) positions of the purchase to predict and of the last item touched, -1 where unknown;
    the answers; (batch,) bool whether anything was clicked or bought before the target; (batch, dim) float32 vectors of these sessions in
    the ID space, any where there is none."""

    target: Ints
    last: Ints
    answers: Answers
    has_session: NDArray[np.bool_]
    session_vectors: Floats


def rank_batch(catalogue: Catalogue, batch: Batch, *, m: int) -> dict[str, Ints]:
    """Return, per method, the (batch,) ranks of the targets; NOT_RANKED for a target that is not in the catalogue.

    `last_item` puts the last item touched before popularity; `like_last_item` takes it for the answer, so it is what a model that only
    copies would reach. `core` is CORE's own ranking by the session's vector, and popularity's where there is no session.

    Args:
        catalogue: the category.
        batch: its examples.
        m: length of the mixup's head.
    """
    target, last = batch.target, batch.last
    if catalogue.item_count == 0:
        return {method: np.full(len(target), NOT_RANKED, np.int64) for method in METHODS}
    by_popularity = pessimistic_rank(np.broadcast_to(catalogue.popularity, (len(target), catalogue.item_count)), target)
    # The last item moves to the top, past the target where it stood behind it.
    moved = (last >= 0) & (catalogue.popularity[last] < catalogue.popularity[target])
    copied = _rank_answers(catalogue, target, Answers(last, last >= 0, catalogue.titles.at(last)), m=m)
    ranks = {
        **_rank_answers(catalogue, target, batch.answers, m=m),
        "popularity": by_popularity,
        "last_item": np.where(last == target, 1, by_popularity + moved),
        "like_last_item": copied[SERVED],
        "core": np.where(batch.has_session, pessimistic_rank(catalogue.ids.scores(batch.session_vectors), target), by_popularity),
    }
    return {method: np.where(target >= 0, rank, NOT_RANKED).astype(np.int64) for method, rank in ranks.items()}


def _rank_answers(catalogue: Catalogue, target: Ints, answers: Answers, *, m: int) -> dict[str, Ints]:
    """Return the targets' ranks for answers, by both spaces and by each alone.

    As in what is served: an answered item heads the ID ranking; where the catalogue does not know it, or training never saw it, the title
    ranking follows; an answer that could not be read is popularity's.
    """
    item, has_title = answers.item, answers.has_title
    has_id = item >= 0
    popularity = np.broadcast_to(catalogue.popularity, (len(target), catalogue.item_count))
    id_scores = catalogue.ids.scores(catalogue.ids.at(item))
    title_scores = catalogue.titles.scores(answers.title_vectors)
    has_neighbours = has_id & catalogue.trained[item]
    id_scores = np.where(has_neighbours[:, None], id_scores, np.where(has_title[:, None], title_scores, popularity))
    id_scores[np.flatnonzero(has_id), item[has_id]] = np.inf
    title_scores = np.where(has_title[:, None], title_scores, id_scores)
    # An ID list of one item has a head of one, and an empty one none.
    heads = np.where(has_neighbours, m, np.minimum(m, has_id))
    return {
        SERVED: mixup_rank(id_scores, title_scores, target, m=heads),
        "id_only": pessimistic_rank(id_scores, target),
        "title_only": pessimistic_rank(title_scores, target),
    }
