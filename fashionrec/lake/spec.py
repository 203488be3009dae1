"""Table specifications: `schemas/<table>.yaml` is the single source of a table's columns, keys, constraints and checks."""

from functools import cache
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pyspark.sql import types as t

from fashionrec.settings import resource

_PRIMITIVES: dict[str, t.DataType] = {
    "string": t.StringType(),
    "boolean": t.BooleanType(),
    "int": t.IntegerType(),
    "long": t.LongType(),
    "float": t.FloatType(),
    "double": t.DoubleType(),
    "date": t.DateType(),
    "timestamp": t.TimestampType(),
}
# Of these the Delta log keeps minimum and maximum. Of no text: what a person typed and the IDs of users and events would outlive their rows
# there, and as no table is sorted by a text, they would skip no file.
_MEASURED = ("int", "long", "float", "double", "date", "timestamp")
# What a table may be replaced by, day by day.
_DAYS = ("run_date", "arrival_date", "as_of_date")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Part):
    name: str
    type: str | dict[str, Any]
    description: str
    nullable: bool = True
    unit: str = ""
    formula: str = ""
    pii: bool = False
    # Holds what a person typed, which may be anything: a name, an address.
    free_text: bool = False
    # Raw contracts only: a file may lack the column.
    optional: bool = False


class Constraint(_Part):
    name: str
    check: str
    why: str


class Expectation(BaseModel):
    """A Great Expectations expectation by its class name; `severity` critical stops the run, warning is reported."""

    model_config = ConfigDict(extra="allow", frozen=True)
    expect: str
    severity: Literal["critical", "warning"]


class TableSpec(_Part):
    table: str
    kind: Literal["raw", "events", "daily"]
    grain: str
    primary_key: tuple[str, ...]
    columns: tuple[Column, ...]
    partitioned_by: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    may_be_empty: bool = False
    retention_days: Annotated[int, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _keeps_no_person_beside_its_rows(self) -> "TableSpec":
        personal = {column.name for column in self.columns if column.pii or column.free_text}
        # Folders are named by partitions, and commits keep the shares of vocabularies.
        if shown := personal & {*self.partitioned_by, *self.vocabularies}:
            raise ValueError(f"{', '.join(sorted(shown))}: what is personal or typed is neither a partition nor a vocabulary")
        return self

    @property
    def vocabularies(self) -> list[str]:
        """The columns whose values' shares are compared with those of earlier days."""
        names = [(e.model_extra or {})["column"] for e in self.expectations if e.expect == "ExpectColumnKLDivergenceToBeLessThan"]
        return [str(name) for name in names]

    @property
    def properties(self) -> dict[str, str]:
        """The Delta table's properties: its constraints, and the columns of which the log keeps minimum and maximum."""
        measured = [c.name for c in self.columns if c.type in _MEASURED and not c.pii and c.name not in self.partitioned_by]
        constraints = {f"delta.constraints.{constraint.name}": constraint.check for constraint in self.constraints}
        return {**constraints, "delta.dataSkippingStatsColumns": ",".join(measured)}

    @property
    def day_column(self) -> str:
        """The column that a day is replaced by."""
        return next(column for column in _DAYS if any(one.name == column for one in self.columns))

    @property
    def struct(self) -> t.StructType:
        return t.StructType([_field(column) for column in self.columns])


@cache
def table_spec(table: str) -> TableSpec:
    """Return the specification of a table; raise KeyError naming the folder where there is none."""
    path = resource("schemas") / f"{table}.yaml"
    if not path.exists():
        raise KeyError(f"no table {table!r}: {path} does not exist")
    return TableSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def table_specs() -> tuple[TableSpec, ...]:
    """Return all specifications in the order of their names."""
    return tuple(table_spec(path.stem) for path in sorted(resource("schemas").glob("*.yaml")))


def data_type(declared: str | dict[str, Any]) -> t.DataType:
    """Return the Spark type of a declared one: a primitive's name, {array: T}, {map: T} with string keys, or {struct: [columns]}."""
    if isinstance(declared, str):
        return _PRIMITIVES[declared]
    ((kind, inner),) = declared.items()
    if kind == "array":
        # Delta refuses NOT NULL inside arrays, so everything nested is nullable.
        return t.ArrayType(data_type(inner), True)
    if kind == "map":
        return t.MapType(t.StringType(), data_type(inner), True)
    return t.StructType([_field(Column.model_validate(column)) for column in inner])


def _field(column: Column) -> t.StructField:
    words = f"{column.description} [{column.unit}]" if column.unit else column.description
    return t.StructField(column.name, data_type(column.type), column.nullable, {"comment": words})
