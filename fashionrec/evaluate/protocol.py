"""Leave-one-out evaluation: the last purchase of each test path is ranked among ALL items of its category (paper section 5.1)."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from fashionrec.evaluate.metrics import Floats, ndcg_at_k, recall_at_k, reciprocal_rank
from fashionrec.evaluate.rows import NO_ITEMS, SERVED, Answers, Batch, Catalogue, CategoryItems, rank_batch
from fashionrec.prompts.answer import SEPARATOR

# Scores held at once in one matrix of (batch, items): 64 MiB of float32.
_MATRIX_CELLS = 2**24
_RANKED = (
    "example_id string, category string, method string, recall double, ndcg double, reciprocal_rank double, item_count long, "
    "target_known boolean, id_known boolean, readable boolean"
)


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
        title_vectors = np.zeros((len(part), catalogue.titles.dim), np.float32)
        session_vectors = np.zeros((len(part), catalogue.ids.dim), np.float32)
        if has_title.any() and catalogue.item_count:
            title_vectors[has_title] = encode([title for title in columns["title"] if title is not None])
        if has_session.any() and catalogue.item_count:
            session_vectors[has_session] = encode_sessions([session for session in sessions if session])
        last = catalogue.positions([session[-1] if session else None for session in sessions])
        batch = Batch(target, last, Answers(answer, has_title, title_vectors), has_session, session_vectors)
        ranks = rank_batch(catalogue, batch, m=m)
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
        ranked.where(f.col("method") == SERVED)
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
