"""A day of a table is replaced whole or not at all."""

from datetime import date

import pytest
from pyspark.sql import Row
from pyspark.sql.functions import lit

from fashionrec.lake.spec import table_spec
from fashionrec.lake.tables import LakeError, SchemaError
from fashionrec.quality import GateError
from tests.builders import put

TODAY, YESTERDAY = date(2026, 3, 1), date(2026, 2, 28)


def items(spark, *ids, **fields):
    row = {c.name: None for c in table_spec("items").columns if c.name != "run_date"}
    row |= {"title": "Red dress", "category": "Clothing", "in_stock": True, **fields}
    schema = table_spec("items").struct
    schema = type(schema)([field for field in schema if field.name != "run_date"])
    for field in schema:
        field.nullable = True
    return spark.createDataFrame([Row(**{**row, "item_id": i}) for i in ids], schema)


def ids(frame):
    return sorted(row.item_id for row in frame.select("item_id").collect())


def test_writing_a_day_twice_gives_the_same_rows_and_leaves_other_days(spark, make_run):
    put(make_run(run_date=YESTERDAY).workspace, "items", items(spark, "a"))
    for _ in range(2):
        make_run().write("items", items(spark, "b", "c"))
    assert ids(make_run().read("items")) == ["b", "c"]
    assert ids(make_run(run_date=YESTERDAY).read("items")) == ["a"]


def test_a_day_without_rows_is_an_error_that_names_the_newest(spark, make_run):
    put(make_run(run_date=YESTERDAY).workspace, "items", items(spark, "a"))
    with pytest.raises(LakeError, match=r"no rows for run date 2026-03-01 \(newest: 2026-02-28\)"):
        make_run().read("items")


def test_an_empty_frame_does_not_delete_the_day(spark, make_run):
    put(make_run().workspace, "items", items(spark, "a"))
    with pytest.raises(GateError, match="no rows"):
        make_run().write("items", items(spark))
    assert ids(make_run().read("items")) == ["a"]


def test_every_difference_of_the_schema_is_listed_at_once(spark, make_run):
    frame = items(spark, "a").drop("title").selectExpr("*", "1 AS extra").withColumn("price", lit("x"))
    with pytest.raises(SchemaError) as error:
        make_run().write("items", frame)
    for problem in ("title is missing", "extra is unknown", "price is string instead of double"):
        assert problem in str(error.value)


def test_a_commit_says_what_made_it(spark, make_run, tmp_path):
    run = make_run()
    run.write("items", items(spark, "a"))
    history = spark.sql(f"DESCRIBE HISTORY delta.`{tmp_path}/lake/items`").first()
    for key in ("run_id", "code_version", "settings_hash"):
        assert str(run.lineage[key]) in history.userMetadata
