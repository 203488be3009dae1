"""Figures that tell whether a day is like the days before it. Pure functions."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

Key = tuple[str, str]

# Share of a figure by which it may move from run to run without a warning.
MOVE = 0.5
ROW_COUNT = "row_count"
# Per table, a share of its rows.
SHARES: Mapping[str, tuple[str, str]] = {
    "generations": ("malformed_answer_rate", "parse_error IS NOT NULL"),
    "recommendations": ("fallback_rate", "startswith(source, 'popularity')"),
    "query_hits": ("memory_none_rate", "match = 'none'"),
}


def table_figures(table: str, rows: DataFrame) -> dict[Key, float]:
    """Return (table, metric) -> figure of one table's rows of the day; a share of no rows is absent."""
    metric, condition = SHARES.get(table, ("", "false"))
    share: Column = f.avg(f.expr(condition).cast("double"))
    count, value = rows.agg(f.count("*"), share).first() or (0, None)
    figures = {(table, ROW_COUNT): float(count)}
    if metric and value is not None:
        figures[table, metric] = float(value)
    return figures


def quarantine_rates(rejected: Mapping[str, int], kept: Mapping[str, int]) -> dict[Key, float]:
    """Return (table, "quarantine_rate") -> share of the input rows that were rejected, for each table of `kept` with any input."""
    totals = {table: rejected.get(table, 0) + count for table, count in kept.items()}
    return {(table, "quarantine_rate"): rejected.get(table, 0) / total for table, total in totals.items() if total}


def health_rows(figures: Mapping[Key, float], previous: Mapping[Key, float]) -> list[dict[str, Any]]:
    """Return the rows of the table health by key, without run_date; `previous` is none where there is no earlier figure."""
    return [
        {"table_name": table, "metric": metric, "value": value, "previous": previous.get((table, metric))}
        for (table, metric), value in sorted(figures.items())
    ]


def moved(row: Mapping[str, Any]) -> bool:
    """Return whether a figure changed by more than half of what it was."""
    before = row["previous"]
    return before is not None and abs(row["value"] - before) > MOVE * abs(before)


def warnings(rows: Iterable[Mapping[str, Any]], since: date | None) -> list[str]:
    """Return one line per figure that moved since the earlier run."""
    return [f"{row['table_name']}: {row['metric']} {row['value']:g}, was {row['previous']:g} on {since}" for row in rows if moved(row)]
