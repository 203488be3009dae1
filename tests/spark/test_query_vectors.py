"""A query's vector is computed once per encoder and revision, in Spark, on the day the query is first met."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from pyspark.sql import functions as f

from fashionrec.encoders import ngram
from fashionrec.encoders.text import Encoder, load_encoder
from fashionrec.lake.spec import table_spec
from fashionrec.lake.tables import changed_days, create_table, digests, published_days, replace_days
from fashionrec.memory.vectors import current_vectors, embed_queries, missing_queries
from fashionrec.settings.model import NgramEncoder

MONDAY, TUESDAY, WEDNESDAY = date(2026, 3, 2), date(2026, 3, 3), date(2026, 3, 4)


@pytest.fixture
def encoder(tmp_path):
    """Return the n-gram encoder, writing down what it is asked, wherever that is; `asked` reads it, and forgets."""
    log = tmp_path / "asked"

    # Defined here, so that it travels to Spark's workers by value.
    class Listening(Encoder):
        def encode(self, texts):
            with log.open("a") as file:
                file.writelines(f"{text}\n" for text in texts)
            return super().encode(texts)

    def asked():
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return sorted(lines)

    real = load_encoder(NgramEncoder(kind="ngram", min_similarity=0.45))
    return Listening(real.name, real.revision, real.settings), asked


@pytest.fixture
def embed_day(spark, tmp_path):
    """Return a function that does a day as the step does, with the vectors known so far; it returns all rows, and the days rewritten."""
    path, spec = str(tmp_path / "query_vectors"), table_spec("query_vectors")
    create_table(spark, path, spec)

    def embed_day(encoder, day, *queries):
        frame = spark.createDataFrame([(query,) for query in queries], "query string")
        known = spark.read.format("delta").load(path)
        missing = missing_queries(frame, known, name=encoder.name, revision=encoder.revision, run_date=day)
        # Kept: each look at its plan would ask the encoder again.
        added = embed_queries(missing, encoder=encoder, partitions=2).withColumn("run_date", f.lit(day)).localCheckpoint()
        changed = changed_days(digests(added, spec), published_days(spark, path, spec, [day], {}), spec, [day])
        replace_days(added, path, spec, [day], {}, {})
        return spark.read.format("delta").load(path), changed

    return embed_day


def keys(table):
    return sorted((row.run_date, row.query) for row in table.collect())


def test_a_second_day_computes_its_new_queries_only(encoder, embed_day):
    encoder, asked = encoder
    embed_day(encoder, MONDAY, "red dress", "blue jeans", "red dress")
    assert asked() == ["blue jeans", "red dress"]
    table, _ = embed_day(encoder, TUESDAY, "red dress", "silk scarf")
    assert asked() == ["silk scarf"]
    assert keys(table) == [(MONDAY, "blue jeans"), (MONDAY, "red dress"), (TUESDAY, "silk scarf")]
    (row,) = table.where("query = 'silk scarf'").collect()
    np.testing.assert_array_equal(np.float32(row.embedding), ngram.encode(["silk scarf"])[0])
    embed_day(encoder, WEDNESDAY, "silk scarf")
    assert asked() == []


def test_a_day_done_again_computes_the_same_rows(encoder, embed_day):
    encoder, asked = encoder
    embed_day(encoder, MONDAY, "red dress")
    before, changed = embed_day(encoder, TUESDAY, "red dress", "blue jeans", "silk scarf")
    before = sorted(before.collect())
    assert changed == [TUESDAY]
    asked()
    after, changed = embed_day(encoder, TUESDAY, "silk scarf", "red dress", "blue jeans")
    assert asked() == ["blue jeans", "silk scarf"]
    assert changed == []
    assert sorted(after.collect()) == before


def test_another_revision_computes_all_again_and_neither_sees_the_other(encoder, embed_day):
    encoder, asked = encoder
    embed_day(encoder, MONDAY, "red dress")
    asked()
    newer = replace(encoder, revision="v2")
    table, _ = embed_day(newer, TUESDAY, "red dress", "blue jeans")
    assert asked() == ["blue jeans", "red dress"]
    for one, queries in ((encoder, ["red dress"]), (newer, ["blue jeans", "red dress"])):
        current = current_vectors(table, name=one.name, revision=one.revision)
        assert sorted(row.query for row in current.collect()) == queries
    assert current_vectors(table, name="clip:x", revision="v1").count() == 0


def test_a_query_that_two_backfills_met_first_counts_once(encoder, embed_day):
    encoder, _ = encoder
    embed_day(encoder, WEDNESDAY, "red dress")
    table, _ = embed_day(encoder, MONDAY, "red dress")
    assert keys(table) == [(MONDAY, "red dress"), (WEDNESDAY, "red dress")]
    (row,) = current_vectors(table, name=encoder.name, revision=encoder.revision).collect()
    assert row.query == "red dress"
    assert len(row.embedding) == ngram.DIM


def test_no_queries_give_no_vectors(encoder, embed_day):
    encoder, asked = encoder
    table, _ = embed_day(encoder, MONDAY)
    assert (table.count(), asked()) == (0, [])
