"""What a day of a table looked like: kept in the commit that publishes it, compared with when the next one comes."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from statistics import median

from pydantic import BaseModel, ConfigDict
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from fashionrec.lake.spec import TableSpec
from fashionrec.lake.tables import delta_table, table_exists

_NUMBERS = ("int", "long", "float", "double")
# Commits looked at for good days; a table gets one or two a day.
_COMMITS = 100


class Profile(BaseModel):
    """One day's figures: its rows, of nullable columns the share of nulls, of numbers the mean, of vocabularies each value's share.

    Shares lie in 0 to 1; those of a vocabulary count rows that have a value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rows: int
    null_rates: Mapping[str, float] = {}
    means: Mapping[str, float] = {}
    shares: Mapping[str, Mapping[str, float]] = {}


def profile_days(rows: DataFrame, spec: TableSpec) -> dict[date, Profile]:
    """Return the figures of every day that has rows: two passes; what comes back does not grow with the rows."""
    day = f.col(spec.day_column)
    nulls = [column.name for column in spec.columns if column.nullable]
    numbers = [column.name for column in spec.columns if column.type in _NUMBERS]
    figures = [f.avg(f.isnull(name).cast("double")).alias(f"null {name}") for name in nulls] + [
        f.avg(name).alias(f"mean {name}") for name in numbers
    ]
    days = rows.groupBy(day.alias("day")).agg(f.count("*").alias("rows"), *figures).collect()
    shares = _shares(rows, spec)
    return {
        row["day"]: Profile(
            rows=row["rows"],
            null_rates={name: row[f"null {name}"] for name in nulls},
            means={name: row[f"mean {name}"] for name in numbers if row[f"mean {name}"] is not None},
            shares={column: of_day[row["day"]] for column, of_day in shares.items() if row["day"] in of_day},
        )
        for row in days
    }


def good_days(
    spark: SparkSession, path: str, *, before: date, count: int, scope: Mapping[str, str], published_now: Mapping[date, Profile]
) -> dict[date, Profile]:
    """Return the newest `count` days before a date, oldest first, as the table's commits describe them.

    Args:
        before: the day that is compared with them.
        count: how many.
        scope: the part of a day that is replaced; only commits of the same part count.
        published_now: days of the same write, which replace what older commits say of them.
    """
    days = {**(_committed(spark, path, scope) if table_exists(spark, path) else {}), **published_now}
    return {day: days[day] for day in sorted(day for day in days if day < before)[-count:]}


def median_day(days: Sequence[Profile]) -> Profile:
    """Return the median of each figure over some days; a value that a day lacks counts 0 there."""
    values = {column: {value for day in days for value in day.shares.get(column, {})} for day in days for column in day.shares}
    return Profile(
        rows=round(median(day.rows for day in days)),
        null_rates={name: median(day.null_rates[name] for day in days if name in day.null_rates) for name in days[-1].null_rates},
        means={name: median(day.means[name] for day in days if name in day.means) for name in days[-1].means},
        shares={
            column: _normalised(
                {value: median(day.shares[column].get(value, 0) for day in days if column in day.shares) for value in found}
            )
            for column, found in values.items()
        },
    )


def _shares(rows: DataFrame, spec: TableSpec) -> dict[str, dict[date, dict[str, float]]]:
    columns = spec.vocabularies
    if not columns:
        return {}
    values = f.inline(f.array(*(f.struct(f.lit(name).alias("name"), f.col(name).cast("string").alias("value")) for name in columns)))
    counted = rows.select(f.col(spec.day_column).alias("day"), values).where("value IS NOT NULL").groupBy("day", "name", "value").count()
    # True and False, as the commits of earlier days have them.
    booleans = {column.name for column in spec.columns if column.type == "boolean"}
    shares: dict[str, dict[date, dict[str, float]]] = {}
    for row in counted.collect():
        value = row["value"].capitalize() if row["name"] in booleans else row["value"]
        shares.setdefault(row["name"], {}).setdefault(row["day"], {})[value] = row["count"]
    return {column: {day: _normalised(counts) for day, counts in days.items()} for column, days in shares.items()}


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {value: weight / total for value, weight in sorted(weights.items()) if total}


def _committed(spark: SparkSession, path: str, scope: Mapping[str, str]) -> dict[date, Profile]:
    """Return each day by the newest commit that wrote it; what a RESTORE took back does not count."""
    commits = delta_table(spark, path).history(_COMMITS).select("version", "operation", "operationParameters", "userMetadata").collect()
    days: dict[date, Profile] = {}
    newest = commits[0]["version"] if commits else 0
    for commit in commits:
        if commit["version"] > newest:
            continue
        if commit["operation"] == "RESTORE":
            newest = int(commit["operationParameters"].get("version") or newest)
        lineage = json.loads(commit["userMetadata"] or "{}")
        if lineage.get("scope", {}) == dict(scope):
            for day, profile in lineage.get("profile", {}).items():
                days.setdefault(date.fromisoformat(day), Profile.model_validate(profile))
    return days
