"""What the command shows of tables: all of a lake, or the columns of one."""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from rich.console import Console
from rich.table import Table

from fashionrec.commands.data_dictionary import meaning
from fashionrec.errors import UserError
from fashionrec.lake import tables as lake
from fashionrec.lake.spec import TableSpec, table_spec, table_specs
from fashionrec.pipeline.workspace import open_session
from fashionrec.settings import Settings


def columns(name: str, console: Console) -> None:
    """Print the columns and constraints of a table; raise UserError where there is none of that name."""
    try:
        console.print(_columns(table_spec(name)))
    except KeyError as error:
        raise UserError(str(error.args[0])) from None


def tables(settings: Settings, console: Console) -> None:
    """Print every table of the lake with its newest day and rows."""
    spark = open_session(settings)
    listing = Table(
        "table", "grain", "newest day", title=f"Tables of {settings.lake.catalog or settings.paths.locate('lake')}", title_justify="left"
    )
    listing.add_column("rows that day", justify="right")
    listing.add_column("version", justify="right")
    for spec in table_specs():
        if spec.kind == "raw":
            continue
        path = settings.table(spec.table)
        if not lake.table_exists(spark, path):
            listing.add_row(spec.table, spec.grain, "-", "-", "-")
            continue
        newest = _newest_day(lake.load_table(spark, path), spec)
        day, count = (str(newest[0]), f"{newest[1]:,}") if newest else ("empty", "0")
        listing.add_row(spec.table, spec.grain, day, count, str(lake.table_version(spark, path)))
    console.print(listing)


def _newest_day(frame: DataFrame, spec: TableSpec) -> Any:
    return frame.groupBy(spec.day_column).count().orderBy(f.desc(spec.day_column)).first()


def _columns(spec: TableSpec) -> Table:
    table = Table("column", "type", "null", "meaning", title=f"{spec.table}: {spec.grain}", title_justify="left")
    for column, field in zip(spec.columns, spec.struct, strict=True):
        table.add_row(column.name, field.dataType.simpleString(), "yes" if column.nullable else "", meaning(column))
    for constraint in spec.constraints:
        table.add_row(constraint.name, "check", "", f"{constraint.check}: {constraint.why}")
    return table
