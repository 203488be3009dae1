"""A table specification gives the schema, the keys and the dictionary, and says where it is wrong."""

from datetime import date

import pytest
from pydantic import ValidationError

from fashionrec.commands.data_dictionary import data_dictionary
from fashionrec.lake.spec import TableSpec, table_spec, table_specs
from fashionrec.quality.suite import expectation_suite
from fashionrec.settings import resource

SPECS = {spec.table: spec for spec in table_specs()}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_keys_and_partitions_are_columns_and_every_column_is_described(spec):
    names = {column.name for column in spec.columns}
    assert {*spec.primary_key, *spec.partitioned_by} <= names
    assert all(column.description for column in spec.columns)
    assert spec.kind == "raw" or spec.day_column in spec.partitioned_by


def test_nested_types_become_spark_types():
    assert SPECS["query_vectors"].struct["embedding"].dataType.simpleString() == "array<float>"
    assert "array<struct<action:string" in SPECS["sequences"].struct["actions"].dataType.simpleString()
    assert SPECS["items"].struct["attributes"].dataType.simpleString() == "map<string,string>"


def test_a_misspelled_key_of_a_specification_is_refused():
    with pytest.raises(ValidationError, match="primary_keys"):
        TableSpec.model_validate({"table": "t", "kind": "daily", "grain": "g", "primary_keys": ["a"], "columns": []})


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_no_statistics_are_kept_of_texts(spec):
    texts = {column.name for column in spec.columns if column.type not in ("int", "long", "float", "double", "date", "timestamp")}
    assert not texts & set(spec.properties["delta.dataSkippingStatsColumns"].split(","))


@pytest.mark.parametrize("mark", ["free_text", "pii"])
@pytest.mark.parametrize("place", ["partition", "vocabulary"])
def test_what_was_typed_names_no_folder_and_stands_in_no_commit(mark, place):
    spec = SPECS["items"].model_dump()
    next(column for column in spec["columns"] if column["name"] == "brand")[mark] = True
    if place == "partition":
        spec["partitioned_by"] = ["run_date", "brand"]
    else:
        spec["expectations"] = [{"expect": "ExpectColumnKLDivergenceToBeLessThan", "column": "brand", "severity": "warning"}]
    with pytest.raises(ValidationError, match="brand: what is personal or typed is neither a partition nor a vocabulary"):
        TableSpec.model_validate(spec)


def test_an_unknown_table_is_named():
    with pytest.raises(KeyError, match="no table 'nothing'"):
        table_spec("nothing")


def test_the_suite_holds_the_key_the_nulls_and_what_is_declared():
    suite = {(one.expect, one.severity, one.arguments["column"]) for one in expectation_suite(SPECS["recommendations"], date(2026, 3, 1))}
    unique = "ExpectColumnProportionOfUniqueValuesToBeBetween"
    assert (unique, "critical", "run_date + user_id + category + rank") in suite
    assert (unique, "critical", "user_id + category + item_id") in suite
    assert ("ExpectColumnValuesToNotBeNull", "critical", "reason") in suite


def test_the_data_dictionary_in_docs_is_that_of_the_schemas():
    assert (resource("docs") / "tables.md").read_text() == data_dictionary(), "run make docs"
