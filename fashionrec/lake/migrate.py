"""A table that was made from an older specification: what differs, and what of it is changed in place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec
from fashionrec.lake.tables import LakeError, commits_of, delta_table, load_table, sole_writer, sql_name, sql_text

_CONSTRAINT = "delta.constraints."
_REBUILD = "delete the table's folder and run its days again, the oldest first"


class Found(NamedTuple):
    """A table as its log describes it."""

    columns: t.StructType
    partitioned_by: tuple[str, ...]
    properties: Mapping[str, str]
    comment: str


class Change(NamedTuple):
    """One difference in words, and what is done about it: SQL statements, or none where `done` says why it is refused.

    `words_only`: a description differs, which no run need wait for. `constraint` names the one that the rows have to keep.
    """

    about: str
    done: str
    statements: tuple[str, ...] = ()
    words_only: bool = False
    constraint: str = ""

    @property
    def refused(self) -> bool:
        return not self.statements

    @property
    def line(self) -> str:
        return f"{self.about}: {'refused, ' if self.refused else ''}{self.done}"


def plan(found: Found, spec: TableSpec, name: str) -> list[Change]:
    """Return how a table differs from its specification, in the order in which it is to be changed; `name` is the table's in SQL."""
    changes = list(_of_columns(found.columns, spec.struct, name))
    if found.partitioned_by != spec.partitioned_by:
        parts = (", ".join(columns) or "nothing" for columns in (found.partitioned_by, spec.partitioned_by))
        changes.append(Change("it is partitioned by {} instead of {}".format(*parts), _REBUILD))
    if found.comment != spec.grain:
        changes.append(
            Change("its description is another", "replaced", (f"COMMENT ON TABLE {name} IS {sql_text(spec.grain)}",), words_only=True)
        )
    return changes + list(_of_properties(found.properties, spec, name))


def examine(spark: SparkSession, path: str, spec: TableSpec) -> list[Change]:
    """Return the plan of a table that exists; a constraint that rows in it break is refused, with their number."""
    found = _as_it_is(spark, path)
    changes = plan(found, spec, sql_name(path))
    checks = {one.name: one.check for one in spec.constraints if one.name in {change.constraint for change in changes}}
    if not checks or any(change.refused for change in changes):
        return changes
    rows = load_table(spark, path)
    new = {field.name: f.lit(None).cast(field.dataType) for field in spec.struct if field.name not in found.columns.names}
    # A CHECK that is NULL refuses a row as one that is false does.
    breaking = {name: f.count_if(~f.coalesce(f.expr(check), f.lit(False))).alias(name) for name, check in checks.items()}
    counted = rows.withColumns(new).agg(f.count("*").alias("rows"), *breaking.values()).collect()[0].asDict()
    return [
        Change(change.about, f"{counted[change.constraint]:,} of {counted['rows']:,} rows break it: {checks[change.constraint]}")
        if counted.get(change.constraint)
        else change
        for change in changes
    ]


def migrate(spark: SparkSession, changes: Sequence[Change], spec: TableSpec, commit: Mapping[str, object]) -> None:
    """Make the changes of a plan, each a commit of its own that holds no rows; one that was interrupted goes on when it is run again.

    Raises:
        LakeError: one of them is refused; nothing is changed then.
    """
    if refused := [change.line for change in changes if change.refused]:
        raise LakeError(f"{spec.table}: {'; '.join(refused)}")
    with commits_of(spark, commit), sole_writer(spec):
        for change in changes:
            for statement in change.statements:
                spark.sql(statement)


def require_current(spark: SparkSession, path: str, spec: TableSpec) -> None:
    """Raise LakeError where a table that exists differs from its specification in more than words; one look at its log, at no rows."""
    found = plan(_as_it_is(spark, path), spec, sql_name(path))
    differences = [change.about for change in found if not change.words_only]
    if differences:
        raise LakeError(f"{spec.table} is outdated: {'; '.join(differences)}: run fashionrec tables migrate")


def _as_it_is(spark: SparkSession, path: str) -> Found:
    # SHOW TBLPROPERTIES would be quicker, and hides what has "token" in its name.
    detail = delta_table(spark, path).detail().select("partitionColumns", "properties", "description").first()
    columns = load_table(spark, path).schema
    return Found(columns, tuple(detail["partitionColumns"]), detail["properties"], detail["description"] or "")


def _of_columns(found: t.StructType, wanted: t.StructType, name: str, within: tuple[str, ...] = ()) -> Iterator[Change]:
    """Yield how columns, or the fields of a nested type, differ."""
    fields, before = {field.name: field for field in found}, "FIRST"
    for field in wanted:
        place = (*within, field.name)
        words, column = f"column {'.'.join(place)}", ".".join(f"`{part}`" for part in place)
        comment = sql_text(field.metadata["comment"])
        if field.name not in fields:
            added = f"ALTER TABLE {name} ADD COLUMNS ({column} {_ddl(field.dataType)} COMMENT {comment} {before})"
            yield (
                Change(f"{words} is missing", "added, null in the rows of before", (added,))
                if field.nullable
                else Change(f"{words} is missing", f"it may not be null, and nothing says what it was in the rows of before: {_REBUILD}")
            )
        else:
            old = fields[field.name]
            if old.nullable != field.nullable:
                yield Change(f"{words} may {'' if old.nullable else 'not '}be null, unlike in its specification", _REBUILD)
            if old.metadata.get("comment") != field.metadata["comment"]:
                described = f"ALTER TABLE {name} ALTER COLUMN {column} COMMENT {comment}"
                yield Change(f"the description of {words} is another", "replaced", (described,), words_only=True)
            yield from _of_types(old.dataType, field.dataType, name, place)
        before = f"AFTER `{field.name}`"
    for left in sorted(fields.keys() - set(wanted.names)):
        yield Change(f"column {'.'.join((*within, left))} is no more in the specification", _REBUILD)


def _of_types(found: t.DataType, wanted: t.DataType, name: str, place: tuple[str, ...]) -> Iterator[Change]:
    if isinstance(found, t.ArrayType) and isinstance(wanted, t.ArrayType):
        yield from _of_types(found.elementType, wanted.elementType, name, (*place, "element"))
    elif isinstance(found, t.MapType) and isinstance(wanted, t.MapType):
        yield from _of_types(found.valueType, wanted.valueType, name, (*place, "value"))
    elif isinstance(found, t.StructType) and isinstance(wanted, t.StructType):
        yield from _of_columns(found, wanted, name, place)
    elif found != wanted:
        yield Change(f"column {'.'.join(place)} is {found.simpleString()} instead of {wanted.simpleString()}", _REBUILD)


def _of_properties(found: Mapping[str, str], spec: TableSpec, name: str) -> Iterator[Change]:
    """Yield how constraints and statistics differ; other properties of the table are its owner's."""
    wanted = {key.removeprefix(_CONSTRAINT): value for key, value in spec.properties.items() if key.startswith(_CONSTRAINT)}
    kept = {key.removeprefix(_CONSTRAINT): value for key, value in found.items() if key.startswith(_CONSTRAINT)}
    for constraint, check in wanted.items():
        if constraint in kept and _tokens(kept[constraint]) == _tokens(check):
            continue
        about = f"constraint {constraint} is {'another' if constraint in kept else 'missing'}"
        if "->" in check:
            yield Change(about, f"Delta gives a table that exists no constraint with a lambda: {_REBUILD}")
            continue
        dropped = (f"ALTER TABLE {name} DROP CONSTRAINT `{constraint}`",) if constraint in kept else ()
        added = f"ALTER TABLE {name} ADD CONSTRAINT `{constraint}` CHECK ({check})"
        yield Change(about, f"{'replaced' if dropped else 'added'}, as all rows keep it", (*dropped, added), constraint=constraint)
    for constraint in sorted(kept.keys() - wanted.keys()):
        about = f"constraint {constraint} is no more in the specification"
        yield Change(about, "dropped", (f"ALTER TABLE {name} DROP CONSTRAINT `{constraint}`",))
    key = "delta.dataSkippingStatsColumns"
    if found.get(key) != spec.properties[key]:
        columns = sql_text(spec.properties[key])
        yield Change("statistics are kept of other columns", "set", (f"ALTER TABLE {name} SET TBLPROPERTIES ('{key}' = {columns})",))


def _tokens(check: str) -> list[str]:
    """Return the parts of an expression; Delta keeps one that was added by ALTER TABLE with other blanks."""
    return re.findall(r"'[^']*'|\w+|[^\w\s]", check)


def _ddl(kind: t.DataType) -> str:
    """Return a type in SQL with the descriptions of its fields."""
    if isinstance(kind, t.ArrayType):
        return f"ARRAY<{_ddl(kind.elementType)}>"
    if isinstance(kind, t.MapType):
        return f"MAP<{_ddl(kind.keyType)}, {_ddl(kind.valueType)}>"
    if isinstance(kind, t.StructType):
        fields = (f"`{field.name}`: {_ddl(field.dataType)} COMMENT {sql_text(field.metadata['comment'])}" for field in kind)
        return f"STRUCT<{', '.join(fields)}>"
    return str(kind.simpleString())
