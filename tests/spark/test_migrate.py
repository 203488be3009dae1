"""A table of an older specification is named by the run that meets it, and brought to the present one where no row is lost by it."""

from datetime import date

import pytest
import yaml
from pyspark.sql import functions as f
from rich.console import Console

from fashionrec.commands import tables
from fashionrec.errors import UserError
from fashionrec.lake.migrate import examine, migrate
from fashionrec.lake.spec import Constraint, TableSpec, table_spec
from fashionrec.lake.tables import LakeError, create_table
from fashionrec.settings import resource
from tests.builders import put
from tests.spark.test_tables import items

NOW = table_spec("items")
NESTED = {"array": {"struct": [{"name": "size", "type": "string", "description": "It's one"}]}}


def other(**changes):
    """Return the specification of items with other fields."""
    return TableSpec.model_validate({**yaml.safe_load((resource("schemas") / "items.yaml").read_text(encoding="utf-8")), **changes})


def columns(*left_out, **changes):
    """Return the columns of items, some left out, some with other fields."""
    found = [column.model_dump() for column in NOW.columns if column.name not in left_out]
    return [{**column, **changes.get(column["name"], {})} for column in found]


def with_column(spec, after, **fields):
    found = [column.model_dump() for column in spec.columns]
    place = [column["name"] for column in found].index(after) + 1
    return other(columns=[*found[:place], fields, *found[place:]])


@pytest.fixture
def table(spark, make_run, tmp_path):
    """Return the path of a table of two items."""
    put(make_run().workspace, "items", items(spark, "a", "b", price=2.0))
    return str(tmp_path / "lake/items")


def lines(spark, table, spec):
    return [change.line for change in examine(spark, table, spec)]


def test_an_older_table_is_named_by_whoever_reads_and_writes_it_and_migrated_in_place(spark, make_run, tmp_path):
    older = other(
        grain="An item",
        columns=columns("colour", "attributes", title={"description": "Old words"}),
        constraints=[{"name": "title_not_blank", "check": "title <> ''", "why": "w"}, {"name": "gone", "check": "price < 100", "why": "w"}],
    )
    path = str(tmp_path / "lake/items")
    create_table(spark, path, older)
    rows = items(spark, "a", "b", price=2.0).withColumn("run_date", f.lit(make_run().run_date))
    rows.select(*older.struct.names).write.format("delta").mode("append").save(path)
    said = (
        "items is outdated: column colour is missing; column attributes is missing; constraint title_not_blank is another; constraint "
        "price_not_negative is missing; constraint gone is no more in the specification: run fashionrec tables migrate"
    )
    uses = (
        lambda: make_run().read("items"),
        lambda: make_run().so_far("items"),
        lambda: make_run().workspace.read("items"),
        lambda: make_run().write("items", items(spark, "c")),
    )
    for use in uses:
        with pytest.raises(LakeError) as error:
            use()
        assert str(error.value) == said
    console = Console(record=True, width=300)
    tables.migrate(make_run().settings, console, dry_run=True)
    assert len(examine(spark, path, NOW)) == 7, "with both descriptions"
    tables.migrate(make_run().settings, console, dry_run=False)
    printed = console.export_text()
    assert "items: column colour is missing: added, null in the rows of before" in printed
    assert "7 differences in 1 tables, left as they are by a dry run" in printed
    assert examine(spark, path, NOW) == []
    assert make_run().read("items").columns == [column.name for column in NOW.columns], "in the specification's order"
    with pytest.raises(Exception, match=r"(?i)check constraint title_not_blank"):
        put(make_run().workspace, "items", items(spark, "c", title=" "))
    put(make_run().workspace, "items", items(spark, "c", colour="red"))
    assert [row.colour for row in make_run().read("items").collect()] == ["red"]
    assert "tables migrate" in spark.sql(f"DESCRIBE HISTORY delta.`{path}`").collect()[1].userMetadata


def test_a_constraint_that_rows_break_is_refused_with_their_number_and_nothing_is_changed(spark, make_run, table):
    dear = Constraint(name="dear", check="price > 5", why="w")
    unknown = Constraint(name="known", check="colour = 'red'", why="w")
    wanted = NOW.model_copy(update={"grain": "Other words", "constraints": (*NOW.constraints, dear, unknown)})
    assert lines(spark, table, wanted) == [
        "its description is another: replaced",
        "constraint dear is missing: refused, 2 of 2 rows break it: price > 5",
        "constraint known is missing: refused, 2 of 2 rows break it: colour = 'red'",
    ]
    with pytest.raises(LakeError, match="items: constraint dear is missing: refused, 2 of 2 rows break it"):
        migrate(spark, examine(spark, table, wanted), wanted, {})
    assert examine(spark, table, NOW) == []


def test_what_would_lose_rows_or_make_them_up_is_refused_with_what_to_do(spark, table):
    rebuild = "refused, delete the table's folder and run its days again, the oldest first"
    new = {"name": "weight", "type": "double", "nullable": False, "description": "d"}
    changed = columns("size", price={"type": "string"}, brand={"nullable": False})
    assert lines(spark, table, other(columns=[*changed, new], partitioned_by=["run_date", "currency"], constraints=[])) == [
        f"column brand may be null, unlike in its specification: {rebuild}",
        f"column price is double instead of string: {rebuild}",
        "column weight is missing: refused, it may not be null, and nothing says what it was in the rows of before: delete the table's "
        "folder and run its days again, the oldest first",
        f"column size is no more in the specification: {rebuild}",
        f"it is partitioned by run_date instead of run_date, currency: {rebuild}",
        *(f"constraint {name} is no more in the specification: dropped" for name in ("price_not_negative", "title_not_blank")),
        "statistics are kept of other columns: set",
    ]
    lambdas = NOW.model_copy(update={"constraints": (Constraint(name="all", check="forall(array(price), p -> p > 0)", why="w"),)})
    assert "constraint all is missing: refused, Delta gives a table that exists no constraint with a lambda" in str(
        lines(spark, table, lambdas)
    )


def test_a_field_inside_of_a_nested_column_is_added_with_its_words(spark, table):
    first = with_column(NOW, "price", name="offers", type=NESTED, nullable=True, description="Offers; `all` of {them}")
    migrate(spark, examine(spark, table, first), first, {})
    assert examine(spark, table, first) == []
    fields = [*NESTED["array"]["struct"], {"name": "more", "type": {"map": "long"}, "description": "A\\map"}]
    second = with_column(NOW, "price", name="offers", type={"array": {"struct": fields}}, nullable=True, description="d")
    assert lines(spark, table, second) == [
        "the description of column offers is another: replaced",
        "column offers.element.more is missing: added, null in the rows of before",
    ]
    migrate(spark, examine(spark, table, second), second, {})
    assert examine(spark, table, second) == []


def test_a_refused_table_keeps_all_others_from_being_changed(spark, make_run, tmp_path):
    for name, changes in (("items", {"grain": "Old words"}), ("health", {"partitioned_by": []})):
        spec = yaml.safe_load((resource("schemas") / f"{name}.yaml").read_text(encoding="utf-8"))
        create_table(spark, str(tmp_path / "lake" / name), TableSpec.model_validate({**spec, **changes}))
    with pytest.raises(UserError, match="no table was changed: health: it is partitioned by nothing instead of run_date: refused"):
        tables.migrate(make_run(run_date=date(2026, 3, 1)).settings, Console(quiet=True), dry_run=False)
    assert lines(spark, str(tmp_path / "lake/items"), NOW) == ["its description is another: replaced"]
