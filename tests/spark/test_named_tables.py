"""Tables by their names in a catalogue behave as those by their paths."""

import io
from datetime import timedelta

import pytest
from rich.console import Console

from fashionrec.commands import tables as command
from fashionrec.lake.spec import table_spec
from fashionrec.lake.tables import table_exists
from tests.builders import RUN_DATE, put, run_of, workspace_in
from tests.spark.test_tables import items


@pytest.fixture
def workspace(spark, tmp_path):
    yield workspace_in(tmp_path, spark, "lake.catalog=spark_catalog.named")
    spark.sql("DROP SCHEMA IF EXISTS named CASCADE")


@pytest.fixture
def schema(spark, tmp_path):
    """Make the schema where the test's files lie: the session's own warehouse is the working folder."""
    spark.sql(f"CREATE SCHEMA named LOCATION 'file://{tmp_path}/named'")


def test_days_are_replaced_and_read_by_name_and_columns_have_their_descriptions(spark, schema, workspace, tmp_path):
    assert not table_exists(spark, workspace.table("items"))
    yesterday = workspace_in(tmp_path, spark, "lake.catalog=spark_catalog.named", run_date=RUN_DATE - timedelta(days=1))
    run_of(yesterday).write("items", items(spark, "old"))
    run_of(workspace).write("items", items(spark, "a", "b"))
    run = run_of(workspace)
    run.write("items", items(spark, "c"))
    reader = run_of(workspace)
    assert [row.item_id for row in reader.read("items").collect()] == ["c"]
    assert {row.item_id for row in reader.snapshots("items", days=1).collect()} == {"old", "c"}
    assert {row.item_id for row in run.so_far("items").collect()} == {"old", "c"}
    assert reader.versions_read["items"] == 3
    described = {row.col_name: row.comment for row in spark.sql("DESCRIBE TABLE spark_catalog.named.items").collect()}
    assert described["item_id"] == table_spec("items").struct["item_id"].metadata["comment"]
    with pytest.raises(Exception, match="NOT NULL constraint violated"):
        put(workspace, "items", items(spark, None))
    out = io.StringIO()
    command.tables(workspace.settings, Console(file=out, width=250))
    assert "Tables of spark_catalog.named" in out.getvalue()
    assert not (tmp_path / "lake" / "items").exists()
