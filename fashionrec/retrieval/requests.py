"""What is known of the shoppers that lists are made for: one row per path, from the tables to arrays of one category."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.retrieval.arrays import Floats, Ints, runs
from fashionrec.retrieval.catalogue import attribute_of
from fashionrec.retrieval.indexes import CategoryIndex

if TYPE_CHECKING:
    import pyarrow as pa

_QUERIES = 3  # newest different searches whose remembered products count
# What a path can say: everything; nothing of the purchase's own day, of somebody who was looking for something just before it or of anybody
# else; or nothing at all.
STATES = ("in_session", "looking", "overnight", "empty")
_LOOKING = 3  # days up to the evening in which a click is newest
_ELSEWHERE = 30  # newest clicks and purchases in other categories that tell of tastes
COLUMNS = (
    *("example_id", "user_id", "category", "horizon", "as_of"),
    *("touched", "elsewhere", "queries", "remembered"),
    *("item_id", "title", "log_prob"),
)


def list_requests(
    sequences: DataFrame, open_paths: DataFrame, query_hits: DataFrame, generations: DataFrame, *, attributes: Sequence[str]
) -> DataFrame:
    """Return one row per path of `sequences`: its own columns but actions, and those of `COLUMNS`.

    `as_of` is the evening whose statistics count, in days from 1970-01-01. `touched` holds item_id, day and bought of each click and
    purchase, `queries` the newest different searches, both newest first; `remembered` place (of the query), item_id and score of what the
    memory answered to them. `elsewhere` holds the values of `attributes` of what the shopper touched in other categories, as far as the
    path reaches in time, newest first. item_id, title and log_prob are the language model's answer, null where there is none or it could
    not be read.

    Args:
        sequences: rows of the table `sequences` of one run date, whichever are asked.
        open_paths: all its rows of the split score.
        query_hits: rows of the table `query_hits` of the same run date.
        generations: rows of the table `generations` of the same run date.
        attributes: names of attributes, or of the columns brand, colour and size.
    """
    searches = f.filter("actions", lambda a: a["query"].isNotNull())
    items = f.filter("actions", lambda a: a["item_id"].isNotNull())
    touched = f.transform(
        f.reverse(items),
        lambda a: f.struct(
            a["item_id"].alias("item_id"),
            f.unix_date(f.to_date(a["event_at"])).alias("day"),
            (a["action"] == "purchase").alias("bought"),
        ),
    )
    queries = f.slice(f.array_distinct(f.reverse(f.transform(searches, lambda a: a["query"]))), 1, _QUERIES)
    paths = sequences.withColumns({"touched": touched, "queries": queries}).drop("actions")
    hits = query_hits.where(f.size("products") > 0).select("as_of_date", "category", "query", "products")
    asked = paths.select("example_id", "as_of_date", "category", f.posexplode("queries").alias("place", "query"))
    found = asked.join(hits, ["as_of_date", "category", "query"]).select("example_id", "place", f.explode("products").alias("product"))
    product = f.struct("place", "product.item_id", f.col("product.score").cast("float").alias("score"))
    remembered = found.groupBy("example_id").agg(f.sort_array(f.collect_list(product)).alias("remembered"))
    log_prob = f.col("log_prob").cast("float").alias("log_prob")
    answers = generations.where("parse_error IS NULL").select("example_id", "item_id", "title", log_prob)
    return (
        paths.transform(_with_elsewhere, open_paths, attributes)
        .join(remembered, "example_id", "left")
        .join(answers, "example_id", "left")
        .withColumn("as_of", f.unix_date("as_of_date"))
    )


def _with_elsewhere(paths: DataFrame, open_paths: DataFrame, attributes: Sequence[str]) -> DataFrame:
    """Return the paths with `elsewhere`: of each shopper's open paths in other categories, what lies before the end of the path."""
    items = f.filter("actions", lambda a: a["item_id"].isNotNull())
    values = f.transform(
        items,
        lambda a: f.struct(
            a["event_at"].alias("event_at"),
            f.array(*(attribute_of(a, name) for name in attributes)).cast("array<string>").alias("values"),
        ),
    )
    touched = open_paths.select("user_id", "category", f.explode(values).alias("one"))
    by_time = f.sort_array(f.collect_list(f.struct("one.event_at", "category", "one.values")), asc=False)
    everywhere = touched.groupBy("user_id").agg(by_time.alias("everywhere"))
    end = f.when(f.col("horizon") == "overnight", f.date_trunc("day", "target_at")).otherwise(f.col("target_at"))
    before = f.filter(
        "everywhere",
        lambda one: (one["category"] != f.col("category")) & (f.col("_end").isNull() | (one["event_at"] < f.col("_end"))),
    )
    elsewhere = f.transform(f.slice(before, 1, _ELSEWHERE), lambda one: one["values"])
    return paths.join(everywhere, "user_id", "left").withColumn("_end", end).withColumn("elsewhere", elsewhere).drop("everywhere", "_end")


class Requests(NamedTuple):
    """A batch of paths of one category as arrays; items are rows of the category's index, -1 where it holds none of that name.

    `touched_of`, `remembered_of` name the request (batch,) that each entry belongs to; entries are newest first within one.
    """

    as_of: Ints  # (batch,)
    states: Ints  # (batch,): places in STATES
    touched_of: Ints  # (touched,)
    touched: Ints  # (touched,)
    touched_place: Ints  # (touched,): 0 is the newest
    touched_days: Ints  # (touched,): days before the evening, 0 also for the day after it
    bought: NDArray[np.bool_]  # (touched,)
    elsewhere_of: Ints  # (touched elsewhere,)
    elsewhere: NDArray[np.int32]  # (touched elsewhere, attributes): numbers of values as in the index, 0 for none that it holds
    sessions: Sequence[Sequence[str]]  # item IDs, oldest to newest
    queries: Sequence[str | None]  # the newest
    remembered_of: Ints  # (remembered,)
    remembered: Ints
    remembered_place: Ints
    remembered_score: Floats
    answer: Ints  # (batch,)
    answer_titles: Sequence[str | None]
    answer_probability: Floats  # (batch,), of the whole answer

    @property
    def size(self) -> int:
        return len(self.as_of)


def read_requests(batch: "pa.RecordBatch", index: CategoryIndex) -> Requests:
    """Return rows of `list_requests`, all of the category of `index`, as arrays."""
    import pyarrow.compute as pc

    touched, remembered, queries = (batch[name] for name in ("touched", "remembered", "queries"))
    as_of = batch["as_of"].to_numpy(zero_copy_only=False).astype(np.int64)
    touched_of, touched_place = _places(touched)
    steps = touched.flatten()
    names = steps.field("item_id").to_pylist()
    remembered_of, _ = _places(remembered)
    products = remembered.flatten()
    elsewhere_of, _ = _places(batch["elsewhere"])
    starts = np.concatenate([[0], np.cumsum(np.bincount(touched_of, minlength=batch.num_rows))])
    log_prob = batch["log_prob"].to_numpy(zero_copy_only=False).astype(np.float32)
    newest = [(of_one or [None])[0] for of_one in queries.to_pylist()]
    days = np.maximum(as_of[touched_of] - steps.field("day").to_numpy(zero_copy_only=False).astype(np.int64), 0)
    bought = steps.field("bought").to_numpy(zero_copy_only=False).astype(bool)
    is_looking = np.zeros(batch.num_rows, bool)
    newest_touch = touched_place == 0
    is_looking[touched_of[newest_touch]] = (~bought & (days < _LOOKING))[newest_touch]
    is_cut = pc.equal(batch["horizon"], "overnight").to_numpy(zero_copy_only=False)
    known = (np.diff(starts) > 0) | np.array([query is not None for query in newest], bool)
    return Requests(
        as_of=as_of,
        states=np.select(
            [~known, ~is_cut, is_looking],
            [STATES.index(name) for name in ("empty", "in_session", "looking")],
            STATES.index("overnight"),
        ),
        touched_of=touched_of,
        touched=index.rows_of(names),
        touched_place=touched_place,
        touched_days=days,
        bought=bought,
        elsewhere_of=elsewhere_of,
        elsewhere=index.taste_numbers(batch["elsewhere"].flatten().flatten().to_pylist()),
        sessions=[names[start:end][::-1] for start, end in pairwise(starts)],
        queries=newest,
        remembered_of=remembered_of,
        remembered=index.rows_of(products.field("item_id").to_pylist()),
        remembered_place=products.field("place").to_numpy(zero_copy_only=False).astype(np.int64),
        remembered_score=products.field("score").to_numpy(zero_copy_only=False).astype(np.float32),
        answer=index.rows_of(batch["item_id"].to_pylist()),
        answer_titles=batch["title"].to_pylist(),
        answer_probability=np.exp(np.nan_to_num(log_prob, nan=-np.inf)),
    )


def _places(lists: "pa.ListArray") -> tuple[Ints, Ints]:
    """Return for every entry of lists, one after the other, which list it is in and its place there."""
    return runs(lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))
