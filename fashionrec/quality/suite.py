"""The Great Expectations suite of a table: what its specification implies and states, and what its last good days let expect."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

from fashionrec.lake.spec import TableSpec
from fashionrec.quality.profile import Profile
from fashionrec.settings.model import Quality

# What a value that no good day had counts as, where shares are compared.
_NEW_VALUE_SHARE = 0.01
# Between the columns of a key that are looked at as one column.
KEY_JOINT = " + "


class Expected(NamedTuple):
    """One expectation: class name, severity (critical or warning), arguments, and its sentence for people ("" for GX's own)."""

    expect: str
    severity: str
    arguments: Mapping[str, Any]
    about: str = ""


def expectation_suite(spec: TableSpec, run_date: date) -> list[Expected]:
    """Return what a specification implies (keys, nulls) and states, with `{$PARAMETER: run_date}` filled in.

    Expectations that need the last good days are left to `drift_suite`.
    """
    suite = [Expected("ExpectColumnValuesToNotBeNull", "critical", {"column": c.name}) for c in spec.columns if not c.nullable]
    if spec.primary_key:
        suite.append(_unique(spec.primary_key, "critical"))
    for stated in spec.expectations:
        arguments = dict(stated.model_extra or {})
        if stated.expect == "ExpectCompoundColumnsToBeUnique":
            suite.append(_unique(arguments["column_list"], stated.severity))
        elif set(arguments) != {"column"}:
            filled = {key: run_date if value == {"$PARAMETER": "run_date"} else value for key, value in arguments.items()}
            suite.append(Expected(stated.expect, stated.severity, filled))
    return suite


def row_count_suite(
    spec: TableSpec, limits: Quality, *, replaced: Mapping[date, tuple[int, int]], today: date, past: Profile | None
) -> list[Expected]:
    """Return what is expected of the number of rows: any at all, not far fewer than stand there, not far from the median good day.

    Args:
        spec: the table.
        limits: the settings' `quality`.
        replaced: by day its new rows, and the rows that they are to replace.
        today: the day that is compared with the past.
        past: the median of the last good days, if there are any.
    """
    name, rate = "ExpectTableRowCountToBeBetween", limits.min_rows_rate
    suite = [] if spec.may_be_empty else [Expected(name, "critical", {"min_value": 1}, "at least one row")]
    floors: list[tuple[date, int, str]] = []
    if shrunk := {day: new / before for day, (new, before) in replaced.items() if before}:
        worst = min(shrunk, key=lambda day: shrunk[day])
        before = replaced[worst][1]
        floors.append((worst, before, f"the {before:,} of {worst} that are replaced"))
    if past:
        floors.append((today, past.rows, f"the median good day's {past.rows:,}"))
    # A table that may be empty may shrink.
    for day, rows, words in floors if not spec.may_be_empty else ():
        if floor := math.ceil(rate * rows):
            suite.append(
                Expected(name, "critical", {"min_value": floor, **_only(spec, day)}, f"at least {floor:,} rows, {rate:.0%} of {words}")
            )
    if past:
        ceiling = math.floor(limits.max_rows_rate * past.rows)
        about = f"at most {ceiling:,} rows, {limits.max_rows_rate:g} times the median good day's {past.rows:,}"
        suite.append(Expected(name, "warning", {"max_value": ceiling, **_only(spec, today)}, about))
    return suite


def drift_suite(spec: TableSpec, limits: Quality, *, today: date, now: Profile, past: Profile) -> list[Expected]:
    """Return what the median good day lets expect of today's nulls, and of the means and vocabularies that the specification names."""
    suite = []
    where = _only(spec, today)
    for column, rate in past.null_rates.items():
        limit = limits.max_null_change
        between = {"min_value": max(0.0, 1 - rate - limit), "max_value": min(1.0, 1 - rate + limit)}
        about = f"{column}: share of nulls within {limit:g} of the median good day's {rate:.3f}"
        suite.append(Expected("ExpectColumnProportionOfNonNullValuesToBeBetween", "warning", {"column": column, **between, **where}, about))
    for stated in spec.expectations:
        column = (stated.model_extra or {}).get("column", "")
        if set(stated.model_extra or {}) != {"column"}:
            continue
        # A column without any value today is told by its share of nulls.
        if stated.expect == "ExpectColumnMeanToBeBetween" and column in past.means and column in now.means:
            mean, room = past.means[column], limits.max_mean_change * abs(past.means[column])
            about = f"{column}: mean within {limits.max_mean_change:.0%} of the median good day's {mean:.4g}"
            arguments: dict[str, Any] = {"column": column, "min_value": mean - room, "max_value": mean + room}
            suite.append(Expected(stated.expect, stated.severity, {**arguments, **where}, about))
        elif stated.expect == "ExpectColumnKLDivergenceToBeLessThan" and past.shares.get(column) and now.shares.get(column):
            shares = past.shares[column]
            is_boolean = any(c.name == column and c.type == "boolean" for c in spec.columns)
            arguments = {
                "column": column,
                "partition_object": {
                    "values": [value == "True" for value in shares] if is_boolean else list(shares),
                    "weights": list(shares.values()),
                },
                "threshold": limits.max_share_divergence,
                "tail_weight_holdout": _NEW_VALUE_SHARE,
            }
            about = f"{column}: shares of its values diverge from the median good day's by at most {limits.max_share_divergence:g} nats"
            suite.append(Expected(stated.expect, stated.severity, {**arguments, **where}, about))
    return suite


def _unique(columns: Sequence[str], severity: str) -> Expected:
    """Expect distinct keys. GX's expectations named for it put a window over all rows, which takes three times as long as counting."""
    key = KEY_JOINT.join(columns)
    return Expected("ExpectColumnProportionOfUniqueValuesToBeBetween", severity, {"column": key, "min_value": 1}, f"{key} is unique")


def _only(spec: TableSpec, day: date) -> dict[str, Any]:
    if spec.kind != "events":
        return {}
    from great_expectations.expectations.row_conditions import Column

    # As text: Great Expectations writes the value into SQL as Python shows it.
    return {"row_condition": Column(spec.day_column) == str(day)}
