"""The gate that a table's new rows pass before readers see them."""

import logging
import os
from typing import Any

from pyspark.sql import DataFrame

from fashionrec.errors import UserError
from fashionrec.lake.spec import TableSpec


class GateError(UserError):
    """New rows failed a critical expectation; the table was left as it was."""


def expectation_suite(spec: TableSpec) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (class name, severity, arguments) of every expectation that a specification implies or states."""
    suite: list[tuple[str, str, dict[str, Any]]] = [
        ("ExpectColumnValuesToNotBeNull", "critical", {"column": column.name}) for column in spec.columns if not column.nullable
    ]
    if len(spec.primary_key) > 1:
        suite.append(("ExpectCompoundColumnsToBeUnique", "critical", {"column_list": list(spec.primary_key)}))
    elif spec.primary_key:
        suite.append(("ExpectColumnValuesToBeUnique", "critical", {"column": spec.primary_key[0]}))
    suite += [(e.expect, e.severity, dict(e.model_extra or {})) for e in spec.expectations]
    return suite


def check_rows(rows: DataFrame, spec: TableSpec) -> list[str]:
    """Run a table's suite on its new rows and return the warnings, one line each.

    Raises:
        GateError: one line naming every critical expectation that failed and how many rows did not meet it.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx  # 7 s: only where a gate runs

    # This one tells of each temporary folder, whatever its parent's level.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_spark(name=spec.table, persist=False)
    batch = source.add_dataframe_asset(name=spec.table).add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": rows})
    suite = gx.ExpectationSuite(name=spec.table)
    for name, severity, arguments in expectation_suite(spec):
        suite.add_expectation(getattr(gx.expectations, name)(severity=severity, **arguments))
    result = batch.validate(suite)
    failed = [(one.expectation_config, one) for one in result.results if not one.success]
    lines = {
        severity: [_line(config, one) for config, one in failed if config.severity == severity] for severity in ("critical", "warning")
    }
    if lines["critical"]:
        raise GateError(f"{spec.table}: not published, the table is as it was: {'; '.join(lines['critical'])}")
    return [f"{spec.table}: {line}" for line in lines["warning"]]


def _line(config: Any, result: Any) -> str:
    if (result.exception_info or {}).get("raised_exception"):
        return f"{config.type} could not run: {result.exception_info['exception_message']}"
    arguments = {key: value for key, value in config.kwargs.items() if key not in ("batch_id", "severity")}
    count = (result.result or {}).get("unexpected_count", "?")
    return f"{config.type}({', '.join(f'{k}={v}' for k, v in arguments.items())}) missed by {count} rows"
