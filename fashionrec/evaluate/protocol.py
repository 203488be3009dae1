"""Leave-one-out evaluation: the last purchase of each test path is ranked among ALL items of its category (paper section 5.1)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from fashionrec.evaluate.metrics import (
    NOT_RANKED,
    Floats,
    Ints,
    mixup_rank,
    ndcg_at_k,
    pessimistic_rank,
    recall_at_k,
    reciprocal_rank,
)
from fashionrec.prompts.answer import SEPARATOR

METHODS = ("fashionrec", "id_only", "title_only", "popularity", "last_item", "like_last_item", "core")
# Scores held at once in one matrix of (batch, items): 64 MiB of float32.
_MATRIX_CELLS = 2**24
_RANKED = (
    "example_id string, category string, method string, recall double, ndcg double, reciprocal_rank double, item_count long, "
    "target_known boolean, id_known boolean, readable boolean"
)


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


def answered_examples(generations: DataFrame, sequences: DataFrame) -> DataFrame:
    """Return every generated answer to an example with a known target: example_id, category, target_item_id, item_id, title, session.

    `item_id` and `title` are none where the answer could not be read; `session` holds the IDs of the items clicked or bought before the
    target, oldest to newest.
    """
    touched = f.filter("actions", lambda action: action["item_id"].isNotNull())
    sessions = sequences.select("example_id", f.transform(touched, lambda action: action["item_id"]).alias("session"))
    answers = generations.where("target_item_id IS NOT NULL").select("example_id", "category", "target_item_id", "item_id", "title")
    return answers.join(sessions, "example_id", "left")


def train_purchases(sequences: DataFrame) -> DataFrame:
    """Return category, item_id, purchase_count: how often an item is the target of a TRAIN example, the popularity that baselines may know.

    Validation and test targets are nobody's training data, so they are not counted. As in every leave-one-out protocol, a train purchase
    may be later than another user's test purchase.
    """
    return (
        sequences.where("split = 'train'")
        .groupBy("category", f.col("target_item_id").alias("item_id"))
        .agg(f.count("*").alias("purchase_count"))
    )


def rank_examples(
    examples: DataFrame,
    *,
    load: Callable[[str], CategoryItems | None],
    encode: Callable[[list[str]], Floats],
    encode_sessions: Callable[[list[list[str]]], Floats],
    purchases: Mapping[str, Mapping[str, int]],
    m: int,
    k: int,
) -> DataFrame:
    """Return one row per test example and method: recall, ndcg, reciprocal_rank, item_count, target_known, id_known, readable.

    Args:
        examples: see `answered_examples`.
        load: gives a category's items, none where all have left the catalogue; called in Spark's workers, once per task and category.
        encode: gives titles' vectors, (titles, dim) float32; called in Spark's workers.
        encode_sessions: gives the vectors in the ID space of sessions (not empty), (sessions, dim) float32; called in Spark's workers.
        purchases: per category, training purchases by item.
        m: length of the mixup's head.
        k: cut of recall and NDCG.
    """

    def rank(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        held: dict[str, Catalogue] = {}
        for batch in batches:
            for category, rows in batch.groupby("category", sort=True):
                name = str(category)
                if name not in held:
                    held.clear()  # rows come sorted by category: one is held at a time
                    held[name] = Catalogue(load(name) or NO_ITEMS, purchases.get(name, {}))
                yield from _rank_category(rows, held[name], encode, encode_sessions, m, k)

    spread = examples.repartitionByRange("category", "example_id").sortWithinPartitions("category", "example_id")
    return spread.mapInPandas(rank, _RANKED)


def _rank_category(
    rows: pd.DataFrame,
    catalogue: Catalogue,
    encode: Callable[[list[str]], Floats],
    encode_sessions: Callable[[list[list[str]]], Floats],
    m: int,
    k: int,
) -> Iterator[pd.DataFrame]:
    size = max(1, _MATRIX_CELLS // max(1, catalogue.item_count))
    for start in range(0, len(rows), size):
        part = rows.iloc[start : start + size]
        columns = {name: [None if pd.isna(value) else str(value) for value in part[name]] for name in part.columns.drop("session")}
        sessions = [[] if session is None else list(session) for session in part.session]
        target, answer = catalogue.positions(columns["target_item_id"]), catalogue.positions(columns["item_id"])
        has_title = np.array([title is not None for title in columns["title"]])
        has_session = np.array([bool(session) for session in sessions])
        title_queries = np.zeros((len(part), catalogue.titles.dim), np.float32)
        session_queries = np.zeros((len(part), catalogue.ids.dim), np.float32)
        if has_title.any() and catalogue.item_count:
            title_queries[has_title] = encode([title for title in columns["title"] if title is not None])
        if has_session.any() and catalogue.item_count:
            session_queries[has_session] = encode_sessions([session for session in sessions if session])
        ranks = rank_batch(
            catalogue,
            target=target,
            answer=answer,
            has_title=has_title,
            title_queries=title_queries,
            last=catalogue.positions([session[-1] if session else None for session in sessions]),
            has_session=has_session,
            session_queries=session_queries,
            m=m,
        )
        for method, of_method in ranks.items():
            yield pd.DataFrame(
                {
                    "example_id": columns["example_id"],
                    "category": columns["category"],
                    "method": method,
                    "recall": recall_at_k(of_method, k),
                    "ndcg": ndcg_at_k(of_method, k),
                    "reciprocal_rank": reciprocal_rank(of_method),
                    "item_count": catalogue.item_count,
                    "target_known": target >= 0,
                    "id_known": answer >= 0,
                    "readable": [item_id is not None for item_id in columns["item_id"]],
                }
            )


def rank_batch(
    catalogue: Catalogue,
    *,
    target: Ints,
    answer: Ints,
    has_title: Any,
    title_queries: Floats,
    last: Ints,
    has_session: Any,
    session_queries: Floats,
    m: int,
) -> dict[str, Ints]:
    """Return, per method, the (batch,) ranks of the targets; NOT_RANKED for a target that is not in the catalogue.

    `last_item` puts the last item touched before popularity; `like_last_item` takes it for the answer, so it is what a model that only
    copies would reach. `core` is CORE's own ranking by the session's vector, and popularity's where there is no session.

    Args:
        catalogue: the category.
        target, answer, last: (batch,) positions of the purchase to predict, of the answered item and of the last item touched; -1: unknown.
        has_title: (batch,) bool, whether the answer has a title.
        title_queries: (batch, dim) float32 vectors of the answered titles; any where there is none.
        has_session: (batch,) bool, whether anything was clicked or bought before the target.
        session_queries: (batch, dim) float32 vectors of sessions in the ID space; any where there is none.
        m: length of the mixup's head.
    """
    if catalogue.item_count == 0:
        return {method: np.full(len(target), NOT_RANKED, np.int64) for method in METHODS}
    by_popularity = pessimistic_rank(np.broadcast_to(catalogue.popularity, (len(target), catalogue.item_count)), target)
    # The last item moves to the top, past the target where it stood behind it.
    moved = (last >= 0) & (catalogue.popularity[last] < catalogue.popularity[target])
    copied = _rank_answers(catalogue, target=target, answer=last, has_title=last >= 0, title_queries=catalogue.titles.at(last), m=m)
    ranks = {
        **_rank_answers(catalogue, target=target, answer=answer, has_title=has_title, title_queries=title_queries, m=m),
        "popularity": by_popularity,
        "last_item": np.where(last == target, 1, by_popularity + moved),
        "like_last_item": copied["fashionrec"],
        "core": np.where(has_session, pessimistic_rank(catalogue.ids.scores(session_queries), target), by_popularity),
    }
    return {method: np.where(target >= 0, rank, NOT_RANKED).astype(np.int64) for method, rank in ranks.items()}


def _rank_answers(catalogue: Catalogue, *, target: Ints, answer: Ints, has_title: Any, title_queries: Floats, m: int) -> dict[str, Ints]:
    """Return the targets' ranks for answers, by both spaces and by each alone.

    As in the product: an answered item heads the ID ranking; where the catalogue does not know it, or training never saw it, the title
    ranking follows; an answer that could not be read is popularity's.
    """
    has_id = answer >= 0
    popularity = np.broadcast_to(catalogue.popularity, (len(target), catalogue.item_count))
    id_scores = catalogue.ids.scores(catalogue.ids.at(answer))
    title_scores = catalogue.titles.scores(title_queries)
    has_neighbours = has_id & catalogue.trained[answer]
    id_scores = np.where(has_neighbours[:, None], id_scores, np.where(has_title[:, None], title_scores, popularity))
    id_scores[np.flatnonzero(has_id), answer[has_id]] = np.inf
    title_scores = np.where(has_title[:, None], title_scores, id_scores)
    # An ID list of one item has a head of one, and an empty one none.
    heads = np.where(has_neighbours, m, np.minimum(m, has_id))
    return {
        "fashionrec": mixup_rank(id_scores, title_scores, target, m=heads),
        "id_only": pessimistic_rank(id_scores, target),
        "title_only": pessimistic_rank(title_scores, target),
    }


def metric_rows(ranked: DataFrame, *, k: int) -> DataFrame:
    """Return the rows of the table evaluations from those of `rank_examples`: each category, and "all" with every example counted once.

    The item count of "all" is that of its largest category: every example is ranked within its own.
    """
    names = {f"recall@{k}": "recall", f"ndcg@{k}": "ndcg", "mrr": "reciprocal_rank"}
    means = [f.struct(f.lit(name).alias("metric"), f.round(f.avg(column), 9).alias("value")) for name, column in names.items()]
    counted = (
        ranked.unionByName(ranked.withColumn("category", f.lit("all")))
        .groupBy("category", "method")
        .agg(f.array(*means).alias("metrics"), f.count("*").alias("example_count"), f.max("item_count").alias("item_count"))
    )
    return counted.select("category", "method", f.inline("metrics"), "example_count", "item_count")


def coverage(ranked: DataFrame) -> dict[str, float]:
    """Return what the metrics stand on: test_examples; of them targets_missing (left the catalogue), answers_malformed, ids_unknown."""
    target_known, id_known, readable = map(f.col, ("target_known", "id_known", "readable"))
    counts = (
        ranked.where(f.col("method") == METHODS[0])
        .agg(
            f.count("*").alias("test_examples"),
            f.count_if(~target_known).alias("targets_missing"),
            f.count_if(~readable).alias("answers_malformed"),
            f.count_if(readable & ~id_known).alias("ids_unknown"),
        )
        .first()
    )
    return counts.asDict() if counts else {}


def copying(answers: DataFrame, prompts: DataFrame) -> dict[str, int]:
    """Return how many answers have the ID of a product that their prompt names.

    ids_copied counts all of them; targets_named the answers whose prompt names the target; targets_named_copied the copies among these. A
    model that has no product by heart finds a target by its ID only by copying.
    """
    asked = answers.join(prompts.select("example_id", "prompt"), "example_id")
    copied, named = _names("item_id"), _names("target_item_id")
    counts = asked.agg(
        f.count_if(copied).alias("ids_copied"),
        f.count_if(named).alias("targets_named"),
        f.count_if(copied & named).alias("targets_named_copied"),
    ).first()
    return counts.asDict() if counts else {}


def _names(item_id: str) -> Column:
    return f.contains("prompt", f.concat(f.lit(" "), item_id, f.lit(SEPARATOR)))
