"""The gate that a table's new rows pass before readers see them."""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import date
from numbers import Real
from string import Template
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.errors import UserError
from fashionrec.lake.spec import TableSpec
from fashionrec.quality.outcome import Check, Outcome
from fashionrec.quality.profile import good_days, median_day, profile_days
from fashionrec.quality.suite import KEY_JOINT, Expected, drift_suite, expectation_suite, row_count_suite
from fashionrec.settings.model import Quality


class GateError(UserError):
    """New rows failed a critical expectation; the table was left as it was."""


def require_passed(outcome: Outcome, page: str) -> None:
    """Raise GateError where a critical expectation failed: one line naming each, what was seen, and the page that shows all."""
    if outcome.critical:
        advice = "; --set quality.min_rows_rate=0 publishes fewer rows all the same" if _only_too_few(outcome) else ""
        lines = "; ".join(check.line for check in outcome.critical)
        raise GateError(f"{outcome.table}: not published, the table is as it was: {lines}{advice}. See {page}")


def check_rows(
    rows: DataFrame,
    spec: TableSpec,
    *,
    path: str,
    run_date: date,
    scope: Mapping[str, str],
    published: Mapping[date, int],
    limits: Quality,
) -> Outcome:
    """Run a table's suite on the rows that are to be published and return its outcome, which `require_passed` judges.

    Args:
        rows: the new rows; read several times, so not a plan that is costly to run.
        spec: their table.
        path: where the table lies; its last good days are what the rows are compared with.
        run_date: the run's date.
        scope: the part of their days that the rows are to replace.
        published: how many rows are replaced, by day.
        limits: the settings' `quality`.
    """
    new = profile_days(rows, spec)
    row_count = sum(day.rows for day in new.values())
    before = good_days(rows.sparkSession, path, before=run_date, count=limits.good_days, scope=scope, published_now=new)
    past = median_day(list(before.values())) if before and run_date in new else None
    replaced = {day: (new[day].rows if day in new else 0, count) for day, count in published.items()}
    suite = row_count_suite(spec, limits, replaced=replaced, today=run_date, past=past)
    if row_count:
        suite += expectation_suite(spec, run_date)
        if past:
            suite += drift_suite(spec, limits, today=run_date, now=new[run_date], past=past)
    checks = _validate(rows, spec, suite, row_count)
    return Outcome(spec.table, scope, run_date, row_count, checks, new, before, past)


def _only_too_few(outcome: Outcome) -> bool:
    return outcome.row_count > 0 and all("row_count" in check.expectation for check in outcome.critical)


def _validate(rows: DataFrame, spec: TableSpec, suite: Sequence[Expected], row_count: int) -> list[Check]:
    """Return the outcome of each expectation of a suite."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx  # 7 s: only where a gate runs

    # This one tells of each temporary folder, whatever its parent's level.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    # A key of several columns is looked at as one.
    for key in {str(one.arguments.get("column", "")) for one in suite}:
        if KEY_JOINT in key:
            rows = rows.withColumn(key, f.struct(*key.split(KEY_JOINT)))
    source = context.data_sources.add_spark(name=spec.table, persist=False)
    batch = source.add_dataframe_asset(name=spec.table).add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": rows})
    expectations = gx.ExpectationSuite(name=spec.table)
    for number, one in enumerate(suite):
        made = getattr(gx.expectations, one.expect)(severity=one.severity, meta={"number": number}, **one.arguments)
        expectations.add_expectation(made)
    # Values of rows that are not as expected stay out of logs and pages: they may be those of a user.
    result = batch.validate(expectations, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    checks = {one.expectation_config.meta["number"]: _check(one, suite, row_count) for one in result.results}
    return [checks[number] for number in sorted(checks)]


def _check(result: Any, suite: Sequence[Expected], row_count: int) -> Check:
    config = result.expectation_config
    expected = suite[config.meta["number"]]
    return Check(config.type, expected.about or _sentence(result), expected.severity, _observed(result, row_count), bool(result.success))


def _sentence(result: Any) -> str:
    """Return Great Expectations' own sentence for what was expected."""
    result.render()
    value = result.expectation_config.rendered_content[0].value
    words = {name: f"{given['value']:g}" if isinstance(given["value"], float) else given["value"] for name, given in value.params.items()}
    return Template(value.template).safe_substitute(words).rstrip(".")


def _observed(result: Any, row_count: int) -> str:
    if (result.exception_info or {}).get("raised_exception"):
        return f"it could not run: {result.exception_info['exception_message']}"
    found = result.result or {}
    if "unexpected_count" in found:
        return f"{found['unexpected_count']:,} of {found['element_count']:,} rows not so" if found["unexpected_count"] else "all rows so"
    value = found.get("observed_value")
    if result.expectation_config.type == "expect_column_proportion_of_unique_values_to_be_between":
        repeated = round((1 - (value or 0)) * row_count)
        return f"{repeated:,} of {row_count:,} rows repeat a key" if repeated else "no key twice"
    if result.expectation_config.type == "expect_table_row_count_to_be_between":
        return f"{value:,} rows" if value else "no rows"
    if result.expectation_config.type == "expect_column_proportion_of_non_null_values_to_be_between" and value is not None:
        # The sentence tells of nulls.
        return f"{1 - value:.3f}"
    return f"{float(value):.4g}" if isinstance(value, Real) else str(value)
