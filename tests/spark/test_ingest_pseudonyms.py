"""Pseudonyms made in Spark are HMAC-SHA256, and the key shows nowhere."""

import hashlib
import hmac

import pytest
from pyspark.sql import functions as f

from fashionrec.ingest.pseudonyms import pseudonym, pseudonym_of, with_key

IDS = ["", "u", "user-000001", "Ünïcödé 用户 🙂", "x" * 5000, 'quote"\\', "\t"]


@pytest.mark.parametrize("key", [b"0123456789abcdef", b"k" * 64, b"longer than a block of the hash" * 5, bytes(range(1, 33))])
def test_spark_makes_what_pythons_hmac_makes(spark, key):
    frame = with_key(spark.createDataFrame([(name,) for name in [*IDS, None]], "name string"), key)
    made = {row.name: row.made for row in frame.select("name", pseudonym_of(f.col("name")).alias("made")).collect()}
    assert made == {**{name: hmac.new(key, name.encode(), hashlib.sha256).hexdigest() for name in IDS}, None: None}
    assert all(pseudonym(key, name) == made[name] for name in IDS)


def test_the_key_stands_in_no_plan(spark, capsys):
    key = b"a-secret-that-nobody-may-read-in-a-plan"
    frame = with_key(spark.range(3), key).select(pseudonym_of(f.col("id").cast("string")).alias("name"))
    frame.collect()
    frame.explain(True)
    plan = capsys.readouterr().out + frame._jdf.queryExecution().toString()
    assert "sha2" in plan
    for pad in (0, 0x36, 0x5C):
        padded = bytes(byte ^ pad for byte in key)
        for shown in (padded.decode("latin-1"), padded.hex(), padded.hex(" ").upper(), str(list(padded))[1:-1]):
            assert shown[:12].lower() not in plan.lower()
