"""What rows and files say of their columns, compared with the contract."""

import json
from collections.abc import Collection, Iterator, Sequence

from fashionrec.errors import UserError
from fashionrec.lake.spec import TableSpec


class RawError(UserError):
    """Raw input is missing, unreadable or not in the contract; the text says which folder or file and what to do."""


def missing_columns(found: Collection[str], spec: TableSpec) -> list[str]:
    """Return the faults of columns that are declared and not there: Spark would fill them with nulls."""
    return [f"{column.name} is missing" for column in spec.columns if not column.optional and column.name not in found]


def require_none(problems: Sequence[str], spec: TableSpec) -> None:
    """Raise RawError with all problems in one line, if there are any."""
    if problems:
        raise RawError(f"{'; '.join(problems)}. The columns are declared in schemas/{spec.table}.yaml; nothing was written")


def common_faults(lines: Sequence[str], spec: TableSpec) -> list[str]:
    """Return what all JSON lines have alike against the contract: fields that are missing or of another type, with what came instead."""
    return sorted(set.intersection(*({*_faults(line, spec)} for line in lines))) if lines else []


def _faults(line: str, spec: TableSpec) -> Iterator[str]:
    """Yield a line's missing and retyped fields; none for a line that is no JSON object, which tells nothing about fields."""
    try:
        row = json.loads(line)
    except ValueError:
        return
    if not isinstance(row, dict):
        return
    for column in spec.columns:
        value = row.get(column.name)
        kind = column.type if isinstance(column.type, str) else next(iter(column.type))
        if value is None or (isinstance(value, str) and not value.strip()):
            if not column.nullable:
                yield f"{column.name} is missing"
        elif not isinstance(value, _PYTHON[kind]) or (isinstance(value, bool) and kind != "boolean"):
            yield f"{column.name} is {_WORDS[type(value)]} instead of {_WORDS[_PYTHON[kind][0]]}"
    unknown = sorted(row.keys() - {column.name for column in spec.columns})
    if unknown:
        yield f"unknown: {', '.join(unknown)}"


# What Python makes of JSON's values, and what people call that.
_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "int": (int,),
    "double": (float, int),
    "array": (list,),
    "map": (dict,),
}
_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
