"""What the memory answers: the very query first, else near ones, as of the example's own time."""

from datetime import date

import numpy as np
import pytest
from pyspark.errors import PythonException
from pyspark.sql import functions as f

from fashionrec.encoders.ngram import encode
from fashionrec.encoders.text import load_encoder
from fashionrec.memory import asked_queries, gone_items, hit_rates, look_up, remembered_queries, wanted_queries
from fashionrec.memory.query_index import build_query_indexes
from fashionrec.settings import load_settings
from tests.builders import action, interval_rows, item, table_rows
from tests.conftest import RUN_DATE

WEEK_AGO, YESTERDAY = date(2026, 2, 22), date(2026, 2, 28)
NGRAM = load_encoder(load_settings().memory.encoder)
VECTORS = "query string, embedding array<float>"


def cosine(one, two):
    return float(np.dot(*encode([one, two])))


def names(row):
    return [product.item_id for product in row.products]


def near(row):
    return [one["query"] for one in row.neighbours]


def holding(rows):
    """Return rows of query_products that hold for a week, those of the run date for a day."""
    until = f.when(f.col("as_of_date") == f.lit(WEEK_AGO), f.lit(YESTERDAY)).otherwise(f.col("as_of_date"))
    return rows.withColumn("holds_to", until)


@pytest.fixture
def answers(spark, tmp_path):
    """Return a function from remembered (as-of date, category, query, exposures) and asked (as-of date, category, query) to answers."""

    def make(remembered, asked, versions=(), **settings):
        settings = {"neighbours": 5, "min_similarity": 0.45, "top_products": 10, **settings}
        rows = [
            {
                "as_of_date": day,
                "category": category,
                "query": query,
                "wordings": [query],
                "products": [
                    {"item_id": name, "title": f"Item {name}", "exposure": exposure}
                    for name, exposure in sorted(products.items(), key=lambda one: -one[1])
                ],
            }
            for day, category, query, products in remembered
        ]
        steps = [
            {"as_of_date": day, "category": category, "split": split, "actions": [action("search", query=query)]}
            for day, category, query in asked
            for split in ("train", "score")
        ]
        memory = holding(table_rows(spark, "query_products", *rows))
        sequences = table_rows(spark, "sequences", *steps)
        wanted = sorted(row["query"] for row in wanted_queries(sequences, memory).collect())
        vectors = spark.createDataFrame(list(zip(wanted, encode(wanted).tolist(), strict=True)), VECTORS)
        folder = tmp_path / "indexes"
        build_query_indexes(remembered_queries(memory, vectors), folder, encoder=NGRAM, exact_up_to=1000)
        gone = gone_items(interval_rows(spark, *versions))
        found = look_up(asked_queries(sequences), memory, gone, vectors, folder, **settings).collect()
        assert len(found) == len(asked)
        return {row["query"] if row.as_of_date == RUN_DATE else row.as_of_date: row for row in found}

    return make


def test_the_memory_of_the_as_of_date_answers_or_of_the_last_date_before_it_and_none_before_the_first(answers):
    remembered = [(WEEK_AGO, "Clothing", "dress", {"b": 2.0}), (RUN_DATE, "Clothing", "dress", {"b": 1.0, "a": 3.0})]
    before, between = date(2026, 2, 21), YESTERDAY
    found = answers(remembered, [(day, "Clothing", "dress") for day in (before, WEEK_AGO, between, RUN_DATE)])
    assert (found[before].match, found[before].products) == ("none", [])
    assert names(found[WEEK_AGO]) == names(found[between]) == ["b"]
    assert (found["dress"].match, names(found["dress"])) == ("exact", ["a", "b"])


def test_near_queries_are_those_of_the_date_too(answers):
    remembered = [
        (WEEK_AGO, "Clothing", "red dresses", {"b": 2.0}),
        (RUN_DATE, "Clothing", "red dress", {"a": 1.0}),
    ]
    found = answers(remembered, [(day, "Clothing", "red dres") for day in (WEEK_AGO, RUN_DATE)])
    assert near(found[WEEK_AGO]) == ["red dresses"]
    assert near(found["red dres"]) == ["red dress"]


def test_what_has_left_the_catalogue_is_left_out_from_then_on_until_it_is_back(answers):
    forever = {"describes_from": date(1970, 1, 1), "describes_to": date(9999, 12, 31), "valid_from": date(2026, 1, 1)}
    versions = [
        item("w", **forever, valid_to=date(2026, 2, 23)),
        item("back", **forever | {"describes_to": RUN_DATE, "valid_to": WEEK_AGO}),
        item("back", **forever | {"describes_from": RUN_DATE, "valid_from": RUN_DATE}),
    ]
    products = {"w": 3.0, "back": 2.0, "a": 1.0}
    remembered = [(day, "Clothing", query, products) for day in (WEEK_AGO, RUN_DATE) for query in ("dress", "skirt")]
    remembered += [(RUN_DATE, "Clothing", "dresses", {"w": 1.0})]
    asked = [(WEEK_AGO, "Clothing", "dress"), (RUN_DATE, "Clothing", "dress"), (RUN_DATE, "Clothing", "dresses")]
    found = answers(remembered, asked, versions=versions, top_products=2)
    assert names(found[WEEK_AGO]) == ["w", "a"]
    assert names(found["dress"]) == ["back", "a"], "what was kept beyond the top takes its place"
    assert (found["dresses"].match, near(found["dresses"])) == ("near", ["dress"]), "of its own products none is left"


def test_exact_beats_near_a_misspelling_finds_its_query_and_a_stranger_finds_nothing(answers):
    remembered = [
        (RUN_DATE, "Clothing", "red dress", {"a": 2.0, "c": 1.0}),
        (RUN_DATE, "Clothing", "red dresses", {"b": 0.5, "a": 0.25}),
        (RUN_DATE, "Footwear", "red dresses", {"shoe": 1.0}),
    ]
    questions = [("Clothing", query) for query in ("Red-DRESS", "red dres", "wallet", "?!")]
    questions += [("Footwear", "red dress"), ("Luggage & Bags", "red dresses")]
    found = answers(remembered, [(RUN_DATE, *question) for question in questions])
    exact, misspelt = found["Red-DRESS"], found["red dres"]
    assert (exact.match, exact.similarity, near(exact)) == ("exact", 1.0, ["red dress"])
    assert [(p.item_id, p.title, p.score) for p in exact.products] == [("a", "Item a", 1.0), ("c", "Item c", 0.5)]
    similar, less = cosine("red dres", "red dress"), cosine("red dres", "red dresses")
    assert (misspelt.match, names(misspelt), misspelt.similarity) == ("near", ["a", "b", "c"], pytest.approx(similar, abs=1e-5))
    assert [one.similarity for one in misspelt.neighbours] == pytest.approx([similar, less], abs=1e-5)
    # Each neighbour's exposures count by their share of its largest.
    assert [p.score for p in misspelt.products] == pytest.approx([similar + less * 0.5, less, similar * 0.5], abs=1e-5)
    assert (found["red dress"].match, names(found["red dress"])) == ("near", ["shoe"])
    for stranger in ("wallet", "?!", "red dresses"):
        assert (found[stranger].match, found[stranger].similarity, found[stranger].neighbours, found[stranger].products) == (
            "none",
            None,
            [],
            [],
        )


def test_a_neighbour_that_everybody_types_does_not_outvote_the_one_that_is_meant(answers):
    remembered = [(RUN_DATE, "Clothing", "red dress", {"a": 1.0}), (RUN_DATE, "Clothing", "red shirt", {"b": 1000.0})]
    assert names(answers(remembered, [(RUN_DATE, "Clothing", "red dres")], min_similarity=0.0)["red dres"]) == ["a", "b"]


def test_only_so_many_neighbours_that_are_near_enough_answer_with_so_many_products(answers):
    remembered = [(RUN_DATE, "Clothing", f"red {word}", {word: 1.0}) for word in ("dress", "dresses", "shirt")]
    asked = [(RUN_DATE, "Clothing", "red dres")]
    assert names(answers(remembered, asked, neighbours=3, min_similarity=0.0)["red dres"]) == ["dress", "dresses", "shirt"]
    assert names(answers(remembered, asked, neighbours=1, min_similarity=0.0)["red dres"]) == ["dress"]
    assert names(answers(remembered, asked, top_products=1)["red dres"]) == ["dress"]
    assert answers(remembered, asked, min_similarity=0.99)["red dres"].match == "none"


def test_a_query_without_a_vector_is_an_error_and_not_near_nothing(spark, tmp_path):
    products = [{"item_id": "a", "exposure": 1.0}]
    memory = holding(table_rows(spark, "query_products", {"category": "x", "query": "red dress", "products": products}))
    vectors = spark.createDataFrame([("red dress", encode(["red dress"])[0].tolist())], VECTORS)
    folder = tmp_path / "indexes"
    build_query_indexes(remembered_queries(memory, vectors), folder, encoder=NGRAM, exact_up_to=10)
    nothing_gone = gone_items(interval_rows(spark))
    asked = spark.createDataFrame([(RUN_DATE, "x", "red dres")], "as_of_date date, category string, query string")
    with pytest.raises(PythonException, match="none for 1 queries of the sequences; run the step index_queries again"):
        look_up(asked, memory, nothing_gone, vectors, folder, neighbours=5, min_similarity=0.45, top_products=10).collect()


def test_a_log_without_searches_gives_an_empty_memory_and_no_answers(spark, tmp_path):
    memory = holding(table_rows(spark, "query_products"))
    vectors = spark.createDataFrame([], VECTORS)
    sequences = table_rows(spark, "sequences", {"actions": [action("purchase", item_id="a")]})
    build_query_indexes(remembered_queries(memory, vectors), tmp_path / "indexes", encoder=NGRAM, exact_up_to=10)
    gone, limits = gone_items(interval_rows(spark)), {"neighbours": 5, "min_similarity": 0.45, "top_products": 10}
    hits = look_up(asked_queries(sequences), memory, gone, vectors, tmp_path / "indexes", **limits)
    assert hits.agg(*hit_rates()).first().asDict() == dict.fromkeys(("memory_exact_rate", "memory_near_rate", "memory_none_rate"))
