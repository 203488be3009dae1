"""The items of the pictures: spread over categories, the same each time, their vectors computed in a worker."""

import os

import numpy as np

from fashionrec.reports.projection import sample_items, with_vectors


def catalogue(spark, **counts):
    rows = [(f"{category}{number}", f"title {category}{number}", category) for category, count in counts.items() for number in range(count)]
    return spark.createDataFrame(rows, "item_id string, title string, category string")


def test_a_small_category_is_whole_and_the_large_ones_share_the_rest(spark):
    found = sample_items(catalogue(spark, a=50, b=50, c=2), count=22).toPandas()
    assert found.category.value_counts().to_dict() == {"a": 10, "b": 10, "c": 2}


def test_the_sample_does_not_depend_on_the_order_of_the_catalogue(spark):
    items = catalogue(spark, a=50, b=50)
    first, again = (sample_items(frame, count=9).toPandas().item_id for frame in (items, items.orderBy("item_id", ascending=False)))
    assert sorted(first) == sorted(again)
    assert sorted(first) != sorted(sample_items(items, count=100).toPandas().item_id)[:9]


def test_vectors_are_computed_in_one_worker_and_belong_to_their_items(spark):
    driver = os.getpid()

    def id_vectors(item_ids):
        assert os.getpid() != driver
        return np.array([[len(item_id), 0] for item_id in item_ids], np.float32), np.array([item_id != "a1" for item_id in item_ids])

    def encode(titles):
        return np.array([[0, len(title)] for title in titles], np.float32)

    found = with_vectors(sample_items(catalogue(spark, a=2, bb=1), count=9), id_vectors=id_vectors, encode=encode)
    assert found.category.tolist() == ["a", "a", "bb"]
    assert found.trained.tolist() == [True, False, True]
    assert [list(vector) for vector in found.id_vector] == [[2, 0], [2, 0], [3, 0]]
    assert [list(vector) for vector in found.title_vector] == [[0, 8], [0, 8], [0, 9]]
