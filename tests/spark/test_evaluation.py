"""Ranks on a category small enough to sort by hand, and what each method may know."""

import numpy as np
import pytest

from fashionrec.evaluate.protocol import answered_examples, copying, coverage, metric_rows, rank_examples, train_purchases
from fashionrec.evaluate.rows import METHODS, CategoryItems
from tests.builders import action, table_rows

EXAMPLE = "example_id string, category string, target_item_id string, item_id string, title string, session array<string>"


def load(category):
    """Items a b c d; from a, the ID space goes a b c d, and from the title "t" the title space goes b d c a."""
    ids = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    titles = np.array([[0, 1], [1, 0], [0.6, 0.8], [0.8, 0.6]], np.float32)
    return CategoryItems(list("abcd"), ids, titles, np.ones(4, bool)) if category == "Shoes" else None


def encode(titles):
    assert all(title == "t" for title in titles), "only titles that were answered are encoded"
    return np.array([[1, 0]] * len(titles), np.float32)


def encode_sessions(sessions):
    """The ID space goes d c b a from a session that ends at d, and b a c d from one that ends at b."""
    assert all(sessions), "only sessions with items are encoded"
    return np.array([{"d": [-1, 0], "b": [0.8, 0.6]}.get(session[-1], [0, 0]) for session in sessions], np.float32)


def ranked_frame(frame, purchases=None, m=1):
    return rank_examples(frame, load=load, encode=encode, encode_sessions=encode_sessions, purchases=purchases or {}, m=m, k=2)


def ranks(spark, *examples, purchases=None, m=1):
    """Return method -> rank of each example's target, 0 where it is not ranked."""
    rows = [(str(number), "Shoes", *example) for number, example in enumerate(examples)]
    frame = spark.createDataFrame(rows, EXAMPLE)
    ranked = ranked_frame(frame, {"Shoes": purchases or {}}, m).toPandas()
    ranked["rank"] = [round(1 / value) if value else 0 for value in ranked.reciprocal_rank]
    return {method: rows.sort_values("example_id")["rank"].tolist() for method, rows in ranked.groupby("method")}


def test_every_method_ranks_as_counted_by_hand(spark):
    found = ranks(spark, *((target, "a", "t", ["b", "d"]) for target in "abcd"), purchases={"a": 1, "b": 3, "c": 1})
    assert found == {
        "fashionrec": [1, 4, 3, 2],  # a | d c | b
        "id_only": [1, 2, 3, 4],
        "title_only": [4, 1, 3, 2],
        "popularity": [3, 1, 3, 4],  # a and c tie, each behind the other
        "last_item": [4, 2, 4, 1],  # d first
        "like_last_item": [4, 3, 2, 1],  # d | c b a
        "core": [4, 3, 2, 1],  # d c b a
    }


def test_core_ranks_by_the_session_alone(spark):
    found = ranks(spark, *((target, "z", None, ["d", "b"]) for target in "abcd"), purchases={"c": 1})
    assert found["core"] == [2, 1, 3, 4]
    assert found["core"] not in [found[method] for method in METHODS if method != "core"]


def test_an_unknown_id_is_ranked_by_its_title_and_an_unreadable_answer_by_popularity(spark):
    found = ranks(spark, ("d", "z", "t", None), ("c", None, None, []), purchases={"c": 2, "d": 1})
    assert set(found) == set(METHODS)
    assert set(map(tuple, found.values())) == {(2, 1)}


def test_a_target_that_left_the_catalogue_counts_as_not_found(spark):
    assert set(map(tuple, ranks(spark, ("gone", "a", "t", ["gone"])).values())) == {(0,)}


def test_what_the_metrics_stand_on_is_counted(spark):
    rows = [("1", "a", "a"), ("2", "gone", "a"), ("3", "a", "unknown"), ("4", "a", None), ("5", "b", None)]
    frame = spark.createDataFrame([(number, "Shoes", target, answer, None, None) for number, target, answer in rows], EXAMPLE)
    counted = coverage(ranked_frame(frame))
    assert counted == {"test_examples": 5, "targets_missing": 1, "answers_malformed": 2, "ids_unknown": 1}


def test_answers_that_copy_an_id_of_their_prompt_are_counted(spark):
    prompt = "clicked: 12 | Red dress\n1. 345 | Blue dress, 9\nAnswer:\n"
    rows = {
        "copied": ("12", "345"),
        "invented": ("2", "12"),
        "of a longer ID": ("34", "5"),
        "no product": ("9", "6"),
        "unreadable": (None, "12"),
    }
    answers = [{"example_id": name, "item_id": item, "target_item_id": target} for name, (item, target) in rows.items()]
    prompts = [{"example_id": name, "prompt": prompt} for name in [*rows, "not asked"]]
    counted = copying(table_rows(spark, "generations", *answers), table_rows(spark, "prompts", *prompts))
    assert counted == {"ids_copied": 1, "targets_named": 3, "targets_named_copied": 1}


def test_a_category_without_items_counts_as_not_found(spark):
    frame = spark.createDataFrame([("1", "Hats", "a", "a", "t", ["b"])], EXAMPLE)
    ranked = ranked_frame(frame).collect()
    assert [(row.reciprocal_rank, row.item_count, row.target_known) for row in ranked] == [(0.0, 0, False)] * len(METHODS)


def test_popularity_counts_train_targets_only(spark):
    targets = {"train": "a", "validation": "b", "test": "c", "score": None}
    rows = [{"split": split, "target_item_id": target, "actions": [action()]} for split, target in targets.items()]
    counted = train_purchases(table_rows(spark, "sequences", *rows, rows[0], category="Shoes"))
    assert [tuple(row) for row in counted.collect()] == [("Shoes", "a", 2)]


def test_examples_are_all_test_answers_with_the_items_before_the_target(spark):
    answers = table_rows(
        spark,
        "generations",
        {"example_id": "1", "split": "test", "target_item_id": "b", "item_id": "a", "title": "t"},
        {"example_id": "2", "split": "test", "target_item_id": "c", "parse_error": "empty"},
        {"example_id": "3", "split": "score", "item_id": "a"},
    )
    paths = table_rows(
        spark,
        "sequences",
        {"example_id": "1", "actions": [action(item_id="p"), action(item_id="q"), action("search", query="red")]},
        {"example_id": "2", "actions": [action("search", query="red")]},
    )
    found = answered_examples(answers, paths).orderBy("example_id").select("example_id", "target_item_id", "item_id", "session")
    assert [tuple(row) for row in found.collect()] == [("1", "b", "a", ["p", "q"]), ("2", "c", None, [])]


def test_all_counts_every_example_once_whatever_its_category(spark):
    ranked = "example_id string, category string, method string, recall double, ndcg double, reciprocal_rank double, item_count long"
    rows = [
        ("1", "Shoes", "id_only", 1.0, 0.5, 0.4, 10),
        ("2", "Shoes", "id_only", 0.0, 0.0, 0.2, 10),
        ("3", "Hats", "id_only", 0.0, 0.0, 0.0, 7),
    ]
    found = {(row.category, row.metric): row for row in metric_rows(spark.createDataFrame(rows, ranked), k=5).collect()}
    assert len(found) == 9
    assert found["Shoes", "recall@5"].value == 0.5
    assert found["all", "recall@5"].value == pytest.approx(1 / 3)
    assert found["all", "mrr"].value == pytest.approx(0.2)
    assert (found["all", "mrr"].example_count, found["all", "mrr"].item_count) == (3, 10)
