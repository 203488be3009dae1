"""From requests to ranked lists, in Spark's workers: one way for what is mailed, what is evaluated, and what the fusion learns from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.index_folders import slug
from fashionrec.lake.storage import here
from fashionrec.metrics import target_ranks
from fashionrec.retrieval.arrays import Floats, Ints, runs
from fashionrec.retrieval.candidates import SOURCES, Asked, Candidates, EncodeSessions, ask, find_candidates
from fashionrec.retrieval.features import features
from fashionrec.retrieval.fusion import FILL, MIXUP, SERVED, Fusion, scores_of
from fashionrec.retrieval.indexes import CategoryIndex, Encode, load_index
from fashionrec.retrieval.requests import Requests, read_requests

if TYPE_CHECKING:
    import pyarrow as pa

# Requests whose candidates and features are held at once.
_AT_ONCE = 500
_SERVED = (
    "user_id string, category string, rank int, item_id string, title string, source string, score double, reason string, "
    "parsed boolean, known_id boolean"
)
_RANKED = (
    "example_id string, category string, user long, horizon string, protocols array<string>, method string, rank int, item_count int, "
    "target_known boolean, id_known boolean, parsed boolean"
)
_LEARNT = (
    "example_id string, category string, user long, horizon string, state int, names array<string>, sources array<string>, "
    "is_target array<boolean>, ranks array<int>, values array<float>"
)


@dataclass(frozen=True)
class Retrieval:
    """How lists are made: from the indexes of `folder`, with the models that placed their items.

    `candidates` is the length of a source's list, `bought_again` the categories in which a shopper's purchases may come again.
    """

    folder: Path
    encode: Encode
    encode_sessions: EncodeSessions
    candidates: int
    attributes: tuple[str, ...]
    bought_again: tuple[str, ...]

    def open(self, category: str) -> CategoryIndex | None:
        """Return a category's index, none where it has no items any more.

        Raises:
            RetrievalError: it cannot be read.
        """
        folder = here(self.folder) / slug(category)
        return load_index(folder) if folder.is_dir() else None

    def retrieve(self, batch: "pa.RecordBatch", category: str, index: CategoryIndex) -> "Found":
        """Return the candidates of requests of one category."""
        requests = read_requests(batch, index)
        asked = ask(
            index,
            requests,
            excluded=excluded(requests, index, bought_again=category in self.bought_again),
            encode=self.encode,
            encode_sessions=self.encode_sessions,
        )
        return Found(category, asked, find_candidates(asked, k=self.candidates), self.attributes)


@dataclass(frozen=True)
class Found:
    """The candidates of a batch of requests, with what is known of them."""

    category: str
    asked: Asked
    candidates: Candidates
    attributes: tuple[str, ...]

    @cached_property
    def known(self) -> tuple[list[str], list[str], Floats]:
        """Names of the features, the source that each speaks for, and values (candidates, features)."""
        return features(self.asked, self.candidates, self.attributes)

    def scores(self, method: str, fusion: Fusion) -> Floats:
        names, _, values = self.known
        states = self.asked.requests.states
        of, rank = self.candidates.of, self.candidates.rank
        return scores_of(method, of, rank, names, values, states, category=self.category, fusion=fusion)


def excluded(requests: Requests, index: CategoryIndex, *, bought_again: bool) -> NDArray[np.bool_]:
    """Return which touched items may not be recommended, (touched,): all of them, or all but what was bought where that comes again."""
    if not bought_again:
        return np.ones(len(requests.touched), bool)
    keys = requests.touched_of * max(index.item_count, 1) + requests.touched
    return ~np.isin(keys, keys[requests.bought])


def served_lists(requests: DataFrame, retrieval: Retrieval, fusion: Fusion, *, per_category: int, partitions: int) -> DataFrame:
    """Return the at most `per_category` best candidates of each request as rows of the table `recommendations`.

    Beside the table's columns: parsed and known_id, facts about the model's answer for the figures. Source and reason are those of the
    source that lists the item and speaks most for it; of a row's own list, the row's, or that of what the list is filled up with.
    """

    def make(batch: "pa.RecordBatch", category: str, index: CategoryIndex | None) -> Any:
        if index is None:
            return None
        found = retrieval.retrieve(batch, category, index)
        scores = found.scores(SERVED, fusion)
        order = np.lexsort((found.candidates.rows, -scores, found.candidates.of))
        order = order[~np.isneginf(scores[order])]
        _, place = runs(np.bincount(found.candidates.of[order], minlength=batch.num_rows))
        order, place = order[place < per_category], place[place < per_category]
        of, rows = found.candidates.of[order], found.candidates.rows[order]
        sources = _sources(found, fusion, order)
        answer = found.asked.requests.answer
        parsed = batch["item_id"].is_valid().to_numpy(zero_copy_only=False)
        return {
            "user_id": batch["user_id"].take(of),
            "category": [category] * len(order),
            "rank": place + 1,
            "item_id": [item_id.decode() for item_id in index.item_ids[rows]],
            "title": index.titles.take(rows),
            "source": sources,
            "score": scores[order].astype(np.float64),
            "reason": [SOURCES[source].reason for source in sources],
            "parsed": parsed[of],
            "known_id": (answer >= 0)[of],
        }

    return _by_category(requests, retrieval, make, _SERVED, partitions)


def ranked_targets(requests: DataFrame, retrieval: Retrieval, fusion: Fusion, methods: Sequence[str], *, partitions: int) -> DataFrame:
    """Return a row per example and method: the rank of the target among all items on sale the day it was bought, NOT_RANKED (0) below all.

    `fashionrec` is the method that serves. Items that are no candidates stand behind, and so does a target that the shopper had bought
    before where that is excluded.
    """

    def rank(batch: "pa.RecordBatch", category: str, index: CategoryIndex | None) -> Any:
        size = batch.num_rows
        kept = ("example_id", "category", "user", "horizon", "protocols")
        parsed = batch["item_id"].is_valid().to_numpy(zero_copy_only=False)
        nothing = np.zeros(size, np.int64)
        ranks, item_counts, known, id_known = dict.fromkeys(methods, nothing), nothing.copy(), nothing > 0, nothing > 0
        if index is not None:
            found = retrieval.retrieve(batch, category, index)
            targets = targets_of(batch, category, index, retrieval)
            is_target = found.candidates.rows == targets[found.candidates.of]
            known, id_known = targets >= 0, found.asked.requests.answer >= 0
            for on_sale, places in found.asked.allowed.evenings(np.arange(size)):
                item_counts[places] = on_sale.sum()
            ranks = {method: target_ranks(found.candidates.of, found.scores(method, fusion), is_target, lists=size) for method in methods}
        return {
            **{name: batch[name].to_pylist() * len(methods) for name in kept},
            "method": np.repeat(list(methods), size).tolist(),
            "rank": np.concatenate(list(ranks.values())),
            "item_count": np.tile(item_counts, len(methods)),
            "target_known": np.tile(known, len(methods)),
            "id_known": np.tile(id_known, len(methods)),
            "parsed": np.tile(parsed, len(methods)),
        }

    return _by_category(requests, retrieval, rank, _RANKED, partitions)


def learnt_lists(requests: DataFrame, retrieval: Retrieval, *, partitions: int) -> DataFrame:
    """Return per example what the fusion learns from: the names of the features and the sources that they speak for, and of its candidates
    is_target, and candidate after candidate the places in the sources' lists and the values of the features.

    The arrays are empty where its target is not among the candidates: such a list teaches nothing.
    """

    def take(batch: "pa.RecordBatch", category: str, index: CategoryIndex | None) -> Any:
        kept = {name: batch[name].to_pylist() for name in ("example_id", "category", "user", "horizon")}
        columns: dict[str, list[Any]] = {
            name: [[] for _ in range(batch.num_rows)] for name in ("names", "sources", "is_target", "ranks", "values")
        }
        states: Any = np.zeros(batch.num_rows, np.int64)
        if index is not None:
            found = retrieval.retrieve(batch, category, index)
            candidates, targets = found.candidates, targets_of(batch, category, index, retrieval)
            states = found.asked.requests.states
            is_target = candidates.rows == targets[candidates.of]
            names, sources, values = found.known
            for of in np.unique(candidates.of[is_target]):
                start, end = np.searchsorted(candidates.of, [of, of + 1])
                columns["names"][of], columns["sources"][of] = names, sources
                columns["is_target"][of] = is_target[start:end]
                columns["ranks"][of] = candidates.rank[:, start:end].T.ravel()
                columns["values"][of] = values[start:end].ravel()
        return {**kept, "state": states, **columns}

    return _by_category(requests, retrieval, take, _LEARNT, partitions)


def targets_of(batch: "pa.RecordBatch", category: str, index: CategoryIndex, retrieval: Retrieval) -> Ints:
    """Return the rows of the targets, -1 for what the index does not hold, or may not come again."""
    again = batch["target_bought_before"].to_numpy(zero_copy_only=False).astype(bool)
    rows = index.rows_of(batch["target_item_id"].to_pylist())
    return rows if category in retrieval.bought_again else np.where(again, -1, rows)


def _sources(found: Found, fusion: Fusion, order: Ints) -> list[str]:
    """Return the source of each candidate of `order`: of those that list it, the one that speaks most for it."""
    names = list(SOURCES)
    listed = found.candidates.rank[:, order] > 0
    if fusion.serves in fusion.weights:
        features_of, sources, values = found.known
        weights = fusion.weights[fusion.serves].of(features_of, found.category, found.asked.requests.states)
        counts = np.bincount(found.candidates.of, minlength=found.asked.requests.size)[:, None]
        mean = np.zeros((found.asked.requests.size, values.shape[1]), np.float32)
        np.add.at(mean, found.candidates.of, values)
        of = found.candidates.of[order]
        # What every candidate has speaks for none.
        spoken = (values[order] - (mean / np.maximum(counts, 1))[of]) * weights[of]
        speaks = np.stack([spoken[:, np.array(sources) == name].sum(axis=1) for name in names])
    else:
        speaks = -found.candidates.rank[:, order].astype(np.float32)
        first = [names.index(name) for name in names if name == fusion.serves or (fusion.serves == MIXUP and name.startswith("answer"))]
        speaks[first] += 1e6
        # What fills up such a list is there for nothing but that.
        speaks[names.index(FILL)] += 1e3
    chosen = np.where(listed, speaks, -np.inf).argmax(axis=0)
    return [names[number] for number in chosen]


def _by_category(
    requests: DataFrame,
    retrieval: Retrieval,
    make: Callable[["pa.RecordBatch", str, CategoryIndex | None], Any],
    schema: str,
    partitions: int,
) -> DataFrame:
    """Return what `make` gives for some hundred requests of one category at a time; one category's index is held at once."""
    names = [column.split()[0] for column in schema.split(", ")]

    def in_worker(batches: Iterator["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa
        from pyspark.sql.pandas.types import to_arrow_schema

        arrow = to_arrow_schema(fields)
        held: dict[str, CategoryIndex | None] = {}
        for batch in batches:
            categories = batch["category"].to_numpy(zero_copy_only=False)
            for start, end in pairwise([0, *(np.flatnonzero(categories[1:] != categories[:-1]) + 1), len(categories)]):
                category = str(categories[start])
                if category not in held:
                    held.clear()
                    held[category] = retrieval.open(category)
                for first in range(start, end, _AT_ONCE):
                    made = make(batch.slice(first, min(_AT_ONCE, end - first)), category, held[category])
                    if made is not None:
                        arrays = [pa.array(made[name], type=arrow.field(name).type) for name in names]
                        yield pa.RecordBatch.from_arrays(arrays, schema=arrow)

    spread = requests.repartition(partitions, "category", f.pmod(f.xxhash64("user_id"), f.lit(partitions)))
    # A fixed order, so that batches, and with them the last digits of similarities, are the same in every run; few days side by side.
    ordered = spread.sortWithinPartitions("category", "as_of", "example_id")
    fields = requests.sparkSession.createDataFrame([], schema).schema
    return ordered.mapInArrow(in_worker, schema)
