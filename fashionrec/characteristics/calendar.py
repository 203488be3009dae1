"""C3: whether what is bought depends on the month, by attribute: demand by month, a test of independence, and its rows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as f

from fashionrec.characteristics.figures import ALL, WHOLE

# Values of an attribute beyond the most frequent ones are left out, so that a column of free text cannot fill the driver.
MAX_VALUES = 200
# A value counts if it may be expected this often in each month: below, the chi-squared distribution is not what the statistic follows.
LEAST_EXPECTED = 5


def calendar_demand(events: DataFrame, attributes: Sequence[str]) -> DataFrame:
    """C3: how many shoppers bought items of each value of an attribute in each month of the year.

    A shopper counts once per value and month, however many pieces are bought: chance is a matter of decisions, not of pieces.

    Args:
        events: attributed events with `vertical` and the `item`, of which the `attributes` count.
        attributes: names of attributes to look at; those that no item has come to nothing.

    Returns:
        Rows of vertical, attribute, attribute_value, month (1 to 12), shoppers: at most MAX_VALUES values of a vertical's attribute.
    """
    pair = f.array(
        *(f.struct(f.lit(name).alias("attribute"), f.col("item.attributes")[name].alias("attribute_value")) for name in attributes)
    )
    bought = events.where("action = 'purchase' AND category IS NOT NULL")
    named = bought.select("vertical", "user_id", f.month("event_at").alias("month"), f.explode(pair).alias("_pair"))
    decisions = named.select("vertical", "user_id", "month", "_pair.*").where("attribute_value IS NOT NULL").distinct()
    counts = decisions.groupBy("vertical", "attribute", "attribute_value", "month").agg(f.count("*").alias("shoppers"))
    of_value = Window.partitionBy("vertical", "attribute", "attribute_value")
    largest_first = Window.partitionBy("vertical", "attribute").orderBy(f.desc("_total"), "attribute_value")
    ranked = counts.withColumn("_total", f.sum("shoppers").over(of_value)).withColumn("_rank", f.dense_rank().over(largest_first))
    return ranked.where(f.col("_rank") <= MAX_VALUES).drop("_total", "_rank")


class CalendarTest(NamedTuple):
    """Whether a value's share of the demand depends on the month: Pearson's chi-squared test of independence.

    `cramers_v` is the effect's size, from 0 (every month alike) to 1 (the month decides all), corrected for what chance alone would show in
    a table of few counts (Bergsma 2013).
    """

    chi_squared: float
    p_value: float
    cramers_v: float


def calendar_test(counts: NDArray[np.int64]) -> CalendarTest | None:
    """Return the test of a table of counts, shape (values, months); None where there is nothing to compare."""
    from scipy.stats import chi2_contingency

    if min(counts.shape) < 2:
        return None
    found = chi2_contingency(counts, correction=False)
    total, (values, months) = counts.sum() - 1, counts.shape
    effect = max(0.0, found.statistic / (total + 1) - (values - 1) * (months - 1) / total)
    smaller = min(size - (size - 1) ** 2 / total for size in (values, months)) - 1
    return CalendarTest(float(found.statistic), float(found.pvalue), float(np.sqrt(effect / smaller)))


def calendar_rows(counts: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the rows of C3 from those of `calendar_demand`: what was counted, each month's index, and the test of each attribute.

    Values too rare for the test stand in none of them.
    """
    rows: list[tuple[Any, ...]] = []
    for vertical, attribute in sorted({(row["vertical"], row["attribute"]) for row in counts}):
        counts_of_pair = [row for row in counts if (row["vertical"], row["attribute"]) == (vertical, attribute)]
        months = sorted({row["month"] for row in counts_of_pair})
        found = {(row["attribute_value"], row["month"]): row["shoppers"] for row in counts_of_pair}
        values = np.array(sorted({value for value, _ in found}))
        table = np.array([[found.get((value, month), 0) for month in months] for value in values])
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
        frequent = expected.min(axis=1) >= LEAST_EXPECTED
        values, table = values[frequent], table[frequent]
        test = calendar_test(table)
        if test is None:
            continue
        share = table / table.sum(axis=0)
        index = share / (table.sum(axis=1, keepdims=True) / table.sum())
        place = ("c3_calendar", vertical, ALL, attribute)
        rows += [_c3(place, name, ALL, WHOLE, value) for name, value in test._asdict().items()]
        for number, value in enumerate(values):
            for at, month in enumerate(months):
                rows.append(_c3(place, "shoppers", str(value), f"{month:02}", table[number, at]))
                rows.append(_c3(place, "index", str(value), f"{month:02}", index[number, at]))
    return rows


def _c3(place: tuple[str, str, str, str], metric: str, value: str, period: str, figure: float) -> tuple[Any, ...]:
    characteristic, vertical, category, attribute = place
    return characteristic, metric, vertical, category, attribute, value, period, float(figure)
