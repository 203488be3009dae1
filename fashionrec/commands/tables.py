"""What the command shows of tables, all of a lake or the columns of one, and how it keeps them."""

from collections import Counter
from datetime import date
from typing import Any, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fashionrec.commands.data_dictionary import meaning
from fashionrec.errors import UserError
from fashionrec.lake import migrate as lake_changes
from fashionrec.lake import tables as lake
from fashionrec.lake.spec import TableSpec, table_spec, table_specs
from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import code_version, run_steps
from fashionrec.pipeline.steps import maintenance
from fashionrec.pipeline.workspace import open_session, open_workspace
from fashionrec.settings import Settings, settings_hash


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


def migrate(settings: Settings, console: Console, *, dry_run: bool) -> None:
    """Print how the lake's tables differ from their specifications, and change them, unless it is a dry run.

    Raises:
        UserError: a difference cannot be mended in place; no table is changed then.
    """
    spark = open_session(settings)
    specs = [spec for spec in table_specs() if spec.kind != "raw"]
    paths = {spec.table: settings.table(spec.table) for spec in specs}
    there = [spec for spec in specs if lake.table_exists(spark, paths[spec.table])]
    plans = [(spec, lake_changes.examine(spark, paths[spec.table], spec)) for spec in there]
    lines = [(change.refused, f"{spec.table}: {change.line}") for spec, changes in plans for change in changes]
    for _, line in lines:
        console.print(Text(line), soft_wrap=True)
    if refused := [line for is_refused, line in lines if is_refused]:
        raise UserError(f"no table was changed: {'; '.join(refused)}")
    if not dry_run:
        commit = {"command": "tables migrate", "code_version": code_version(), "settings_hash": settings_hash(settings)}
        for spec, changes in plans:
            lake_changes.migrate(spark, changes, spec, commit)
    console.print(f"{len(lines)} differences in {len(plans)} tables{', left as they are by a dry run' if lines and dry_run else ''}")


def maintain(settings: Settings, verb: Literal["expire", "optimise"], run_date: date | None, console: Console, *, dry_run: bool) -> None:
    """Run the step `expire_tables` or `optimise_tables` of a date (else the newest that a table holds), or print what it would do.

    Raises:
        UserError: the lake holds no table, or one that is outdated.
    """
    workspace = open_workspace(settings, run_date or _newest_of_all(settings))
    if not dry_run:
        run_steps(workspace, [step_named(f"{verb}_tables")], console)
        return
    counts: Counter[str] = Counter()
    for work in {"expire": maintenance.outlived, "optimise": maintenance.fragments}[verb](workspace, {}):
        console.print(Text(work.about), soft_wrap=True)
        counts[work.figure] += work.amount
    found = ", ".join(f"{count:,} {figure}" for figure, count in counts.items())
    console.print(f"{verb} as of {workspace.run_date}, a dry run: {found or 'nothing to do'}", soft_wrap=True)


def _newest_of_all(settings: Settings) -> date:
    spark = open_session(settings)
    days: list[date] = []
    for spec in table_specs():
        path = settings.table(spec.table)
        if spec.kind in ("daily", "events") and lake.table_exists(spark, path):
            frame = lake.load_table(spark, path)
            days += [row[0] for row in frame.agg(f.max(spec.day_column)).collect() if row[0]] if spec.day_column in frame.columns else []
    if not days:
        raise UserError(f"no table holds a day at {settings.paths.locate('lake')}: nothing to look after")
    return max(days)


def _newest_day(frame: DataFrame, spec: TableSpec) -> Any:
    return frame.groupBy(spec.day_column).count().orderBy(f.desc(spec.day_column)).first()


def _columns(spec: TableSpec) -> Table:
    table = Table("column", "type", "null", "meaning", title=f"{spec.table}: {spec.grain}", title_justify="left")
    for column, field in zip(spec.columns, spec.struct, strict=True):
        table.add_row(column.name, field.dataType.simpleString(), "yes" if column.nullable else "", meaning(column))
    for constraint in spec.constraints:
        table.add_row(constraint.name, "check", "", f"{constraint.check}: {constraint.why}")
    return table
