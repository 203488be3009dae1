"""The four characteristics as one HTML page for people who plan collections and campaigns."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from fashionrec.characteristics.figures import ALL, FASHION, LAST_MONTHS, PAPER, WHOLE
from fashionrec.reports.page import write_page

PAGE = "characteristics.html"
Row = Mapping[str, Any]

# Of each characteristic: its figures in the table, the period of the headline, the question, what is counted, and what it means.
_TOPICS = {
    "c1_turnover": (
        ("new_items", "new_items_still_on_sale"),
        WHOLE,
        "How fast do items come and go?",
        "new items a month",
        "Fast turnover means that last season's best sellers are gone: recommendations must cope with items that nobody has bought yet.",
    ),
    "c2_comparison": (
        ("actions_before_purchase",),
        WHOLE,
        "How much do shoppers compare?",
        "searches and looks before a purchase",
        "Long comparisons say what a shopper weighs: colour against colour, price against price. That is what an e-mail can pick up.",
    ),
    "c4_queries": (
        ("unique_queries_per_day",),
        LAST_MONTHS,
        "How many ways do they ask?",
        "different queries a day",
        "Many wordings of one wish mean that counting exact queries is not enough: near ones have to be understood, too.",
    ),
}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SHOWN_VALUES = 14
# Cramér's V from which a dependence is called clear, and strong: Cohen's small and medium effects at three degrees of freedom.
_CLEAR, _STRONG = 0.06, 0.17
_CHANCE = 0.001
_RAISED = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def write_characteristics(folder: Path, *, run_date: date, synthetic: bool, rows: Sequence[Row]) -> Path:
    """Write `characteristics.html` into a folder and return its path.

    Args:
        folder: where it goes; made if need be.
        run_date: the day that it is about.
        synthetic: whether the data was made up, which the page then says.
        rows: the table's rows of that day.
    """
    verticals = sorted({row["vertical"] for row in rows}, key=lambda name: (name != FASHION, name))
    topics = [_topic(key, rows, verticals, run_date) for key in _TOPICS]
    return write_page(
        folder / PAGE,
        "characteristics.html.jinja",
        filters={},
        run_date=run_date,
        synthetic=synthetic,
        months=_MONTHS,
        topics={topic["key"]: topic for topic in topics},
        others=[name for name in verticals if name != FASHION],
        attributes=_attributes(rows),
    )


def ratios(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return characteristic -> other vertical -> fashion's headline figure divided by the other's."""
    found: dict[str, dict[str, float]] = {}
    for key in _TOPICS:
        figures = _headlines(key, rows)
        found[key] = {name: figures[FASHION] / figures[name] for name in figures if name != FASHION and FASHION in figures}
    return found


def _headlines(key: str, rows: Sequence[Row]) -> dict[str, float]:
    metrics, period, *_ = _TOPICS[key]
    return {
        row["vertical"]: row["value"]
        for row in rows
        if row["characteristic"] == key and row["metric"] == metrics[0] and row["category"] == ALL and row["period"] == period
    }


def _topic(key: str, rows: Sequence[Row], verticals: Sequence[str], run_date: date) -> dict[str, Any]:
    """Return what the page says of C1, C2 or C4."""
    metrics, _, question, counted, means = _TOPICS[key]
    figures = _headlines(key, rows)
    found = ratios(rows)[key]
    compared = {name: {"here": f"{found[name]:.2f}", "paper": f"{PAPER[key][name]:.2f}" if name in PAPER[key] else ""} for name in found}
    of_topic = [row for row in rows if row["characteristic"] == key and row["metric"] in metrics]
    return {
        "key": key,
        "question": question,
        "counted": counted,
        "means": means,
        "lower_bound": any(row["metric"] == "new_items_still_on_sale" for row in of_topic),
        "tiles": [{"vertical": name, "value": _number(figures[name])} for name in verticals if name in figures],
        "compared": compared,
        "charts": _charts(of_topic, verticals, run_date, label=counted),
    }


def _charts(rows: Sequence[Row], verticals: Sequence[str], run_date: date, *, label: str) -> list[dict[str, Any]]:
    """Return the charts over months: one line per vertical where there are several, and one per category of fashion."""
    # A month that has only begun would end every line in a jump.
    open_month = "" if (run_date + timedelta(days=1)).day == 1 else f"{run_date:%Y-%m}"
    monthly = [row for row in rows if len(row["period"]) == 7 and row["period"] != open_month]
    by_vertical = {name: _points(row for row in monthly if row["vertical"] == name and row["category"] == ALL) for name in verticals}
    names = sorted({row["category"] for row in monthly if row["vertical"] == FASHION and row["category"] != ALL})
    by_category = {name: _points(row for row in monthly if row["vertical"] == FASHION and row["category"] == name) for name in names}
    charts = [("By kind of shop", by_vertical)] if len(verticals) > 1 else []
    return [_chart(title, series, label) for title, series in [*charts, ("By category of fashion", by_category)] if any(series.values())]


def _points(rows: Any) -> list[tuple[date, float]]:
    return [(date.fromisoformat(f"{row['period']}-01"), row["value"]) for row in rows]


def _chart(title: str, series: Mapping[str, list[tuple[date, float]]], label: str) -> dict[str, Any]:
    from markupsafe import Markup

    from fashionrec.reports.charts import SERIES_COLOURS, line_chart

    # The most lines a chart can tell apart: the largest.
    total = {name: sum(value for _, value in points) for name, points in series.items() if points}
    names = sorted(sorted(total, key=lambda name: -total[name])[:SERIES_COLOURS], key=list(series).index)
    colours = {name: number for number, name in enumerate(names)}
    svg = line_chart({name: series[name] for name in names}, colours, percent=False, label=f"{label}, {title.lower()}")
    return {"title": title, "legend": colours, "left_out": len(total) - len(names), "svg": Markup(svg)}


def _attributes(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what the page says of each attribute of C3: the verdict on fashion, its values' year, and the other verticals' figures."""
    demand = [row for row in rows if row["characteristic"] == "c3_calendar"]
    names = list(dict.fromkeys(row["attribute"] for row in demand if row["vertical"] == FASHION))
    tests = {(row["attribute"], row["vertical"], row["metric"]): row["value"] for row in demand if row["attribute_value"] == ALL}
    found = []
    for name in sorted(names, key=lambda name: -tests[name, FASHION, "cramers_v"]):
        cells = [row for row in demand if row["attribute"] == name and row["vertical"] == FASHION and row["attribute_value"] != ALL]
        verticals = sorted({vertical for attribute, vertical, _ in tests if attribute == name}, key=lambda one: (one != FASHION, one))
        strengths = [
            {
                "vertical": vertical,
                "v": f"{tests[name, vertical, 'cramers_v']:.3f}",
                "p": _probability(tests[name, vertical, "p_value"]),
                "verdict": _verdict(tests[name, vertical, "p_value"], tests[name, vertical, "cramers_v"]),
            }
            for vertical in verticals
        ]
        found.append({"name": name, "strengths": strengths, **_year(cells)})
    return found


def _verdict(p_value: float, cramers_v: float) -> str:
    if p_value >= _CHANCE:
        return "chance"
    return "strong" if cramers_v >= _STRONG else "clear" if cramers_v >= _CLEAR else "faint"


def _probability(p_value: float) -> str:
    if p_value >= 0.001:
        return f"p = {p_value:.3f}"
    exponent = 300 if p_value < 1e-300 else int(f"{p_value:.0e}".partition("e-")[2]) - 1
    return f"p < 10{f'-{exponent}'.translate(_RAISED)}"


def _year(cells: Sequence[Row]) -> dict[str, Any]:
    """Return the most seasonal values with their index in each month, those that peak early in the year first."""
    index: dict[str, dict[int, float]] = {}
    shoppers: dict[str, dict[int, float]] = {}
    for row in cells:
        {"index": index, "shoppers": shoppers}[row["metric"]].setdefault(row["attribute_value"], {})[int(row["period"])] = row["value"]

    def weight(value: str) -> float:
        """Return the value's part of the chi-squared statistic: large where it is both frequent and seasonal."""
        return sum(shoppers[value][month] * (at - 1) ** 2 / max(at, 0.01) for month, at in index[value].items())

    shown = sorted(index, key=lambda value: (-weight(value), value))[:_SHOWN_VALUES]
    peaks = {value: max(index[value], key=lambda month: index[value][month]) for value in shown}
    lows = {value: min(index[value], key=lambda month: index[value][month]) for value in shown}
    lines = [
        {"value": value, "cells": [_cell(index[value].get(month)) for month in range(1, 13)]}
        for value in sorted(shown, key=lambda value: (peaks[value], value))
    ]
    sentences = [
        f"{value}: most in {_MONTHS[peaks[value] - 1]} ({index[value][peaks[value]]:.1f} times the usual), "
        f"least in {_MONTHS[lows[value] - 1]} ({index[value][lows[value]]:.1f})"
        for value in shown[:3]
    ]
    return {"lines": lines, "sentences": sentences, "left_out": len(index) - len(shown)}


def _cell(index: float | None) -> dict[str, Any]:
    """Return a field of the year: its text, its colour's side, and how much of the colour it gets, in percent."""
    if index is None:
        return {"text": "", "side": "", "share": 0}
    ends = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
    strength = (75, 45, 20, 0, 20, 45, 75)[sum(index >= end for end in ends)]
    return {"text": f"{index:.1f}", "side": "more" if index > 1 else "less", "share": strength}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"
