"""The evaluation as a table for the terminal, and a day's report as one HTML page that needs no network."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fashionrec.quality.health import ROW_COUNT, moved
from fashionrec.reports import characteristics, embeddings, language_model
from fashionrec.reports.page import write_page
from fashionrec.retrieval.fusion import SERVED

Row = Mapping[str, Any]

# Pages of other steps that the report links where they are there.
PAGES = (characteristics.PAGE, embeddings.PAGE, language_model.PAGE)
# Charts of more categories than these would be too many to compare.
_PANELS = 12
_METHODS = {
    SERVED: "the list that is mailed: the candidates of all sources in the order that the release's fusion gives them",
    "fusion": "the learnt list, where it is not surely better than every other and so is not mailed",
    "without_llm": "the same without the language model's answer",
    "mixup": "the paper's list: the head of the answer's neighbours by product, then those by title, its length chosen on validation",
    "answer_id": "the product that the model answered and its neighbours in the ID space",
    "answer_title": "the titles nearest to the answered one",
    "session": "CORE's own ranking of the path, without a language model",
    "last_item_id": "neighbours of the last product in the ID space",
    "last_item_title": "neighbours of the last product in the title space",
    "last_query": "the titles nearest to the last search",
    "memory": "what others found by the last searches",
    "co_purchase": "what shoppers of the path's products also bought",
    "family": "other variants of the products of the path",
    "bought_again": "what the shopper bought before, where that may come again",
    "taste": "what sells this season and shares most attributes with what the shopper touched",
    "popularity_7": "what was bought most in 7 days",
    "popularity_28": "what was bought most in 28 days",
    "popularity_90": "what was bought most in 90 days",
}
# The first is the headline: what an e-mail can know.
_QUESTIONS = {
    ("leave_one_out", "overnight"): "Asked overnight: the path up to the evening before, as an e-mail knows it",
    ("leave_one_out", "in_session"): "Asked in session: the whole path up to the purchase, as the paper evaluates",
    ("by_time", "overnight"): "Overnight, purchases of the newest days only",
    ("by_time", "in_session"): "In session, purchases of the newest days only",
    ("another_day", "in_session"): "Purchases before which nothing else was done that day",
}
_HEALTH = {
    ROW_COUNT: "rows",
    "malformed_answer_rate": "answers that could not be read",
    "fallback_rate": "recommended by popularity alone",
    "quarantine_rate": "input rows rejected",
    "memory_none_rate": "searches that the memory knows nothing about",
}


def metrics_table(rows: Iterable[Row]) -> Table:
    """Return the rows of the table evaluations as a table for the terminal: what an e-mail asks first, a line per method, the best in bold.

    A gain is the interval of what the mailed list gains over the row in the second metric.
    """
    rows = list(rows)
    metrics = _metric_names(rows)
    table = Table("method", title="Evaluation: the last purchase, ranked among all items of its category", title_justify="left")
    for name in (*metrics, "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for block in _blocks(rows):
        if block["category"] != "all" or block["protocol"] != "leave_one_out":
            continue
        table.add_row(Text(f"{block['horizon']}, {block['example_count']:,}", "bold"))
        for line in block["lines"]:
            cells = [Text(cell["text"], "bold" if cell["best"] else "") for cell in line["cells"]]
            table.add_row(line["method"], *cells, line["gain"])
        table.add_section()
    return table


def write_report(
    folder: Path,
    *,
    run_date: date,
    synthetic: bool,
    evaluations: Sequence[Row],
    pages: Collection[str],
    health: Sequence[Row],
    examples: Sequence[Row],
) -> Path:
    """Write `report.html` into a folder and return its path; a reader never sees half of it.

    Args:
        folder: where it goes; made if need be.
        run_date: the day that it is about.
        synthetic: whether the data was made up, which the page then says.
        evaluations, health: rows of the tables.
        pages: those of `PAGES` that are there to be linked to.
        examples: a few paths of shoppers: category, earlier_count, actions (at, action, words), answer, parse_error,
            products (rank, item_id, title, source, reason).
    """
    return write_page(
        folder / "report.html",
        "report.html.jinja",
        filters={"figure": _figure},
        run_date=run_date,
        synthetic=synthetic,
        metrics=_metric_names(evaluations),
        methods=_METHODS,
        tiles=_tiles(evaluations, health),
        blocks=_blocks(evaluations),
        bars=_bars(evaluations),
        pages=pages,
        health=[{**row, "moved": moved(row), "means": _HEALTH.get(row["metric"], row["metric"])} for row in health],
        examples=examples,
    )


def _metric_names(rows: Iterable[Row]) -> list[str]:
    order = ("recall", "ndcg", "mrr")
    return sorted({row["metric"] for row in rows}, key=lambda name: order.index(name.partition("@")[0]))


def _blocks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one block per question and category, "all" first: its counts, and a line per method with a cell per metric."""
    blocks = []
    metrics = _metric_names(rows)
    categories = sorted({row["category"] for row in rows}, key=lambda name: (name != "all", name))
    for category in categories:
        for (protocol, horizon), question in _QUESTIONS.items():
            asked = [row for row in rows if (row["category"], row["protocol"], row["horizon"]) == (category, protocol, horizon)]
            if not asked:
                continue
            found = {(row["method"], row["metric"]): row for row in asked}
            methods = [method for method in _METHODS if (method, metrics[0]) in found]
            best = {metric: max(found[method, metric]["value"] for method in methods) for metric in metrics}
            lines = [
                {
                    "method": method,
                    "served": method == SERVED,
                    "cells": [
                        {"text": f"{(value := found[method, metric]['value']):.4f}", "best": value == best[metric] > 0}
                        for metric in metrics
                    ],
                    "gain": _interval(found[method, metrics[min(1, len(metrics) - 1)]]),
                }
                for method in methods
            ]
            counts = {"example_count": asked[0]["example_count"], "item_count": asked[0]["item_count"]}
            blocks.append({"category": category, "protocol": protocol, "horizon": horizon, "question": question, "lines": lines, **counts})
    return blocks


def _interval(row: Row) -> str:
    return "" if row["gain_low"] is None else f"{row['gain_low']:+.4f} to {row['gain_high']:+.4f}"


def _headline(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if (row["protocol"], row["horizon"]) == ("leave_one_out", "overnight")]


def _recalls(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    recalls: dict[str, dict[str, float]] = {}
    for row in _headline(rows):
        if row["metric"].startswith("recall@"):
            recalls.setdefault(row["category"], {})[row["method"]] = row["value"]
    return recalls


def _bars(rows: Sequence[Row]) -> dict[str, Any]:
    """Return one bar chart of recall per category, those with most examples first, and how many were left out."""
    from markupsafe import Markup

    from fashionrec.reports.charts import bar_chart

    recalls = _recalls(rows)
    counts = {row["category"]: row["example_count"] for row in _headline(rows)}
    shown = sorted(recalls, key=lambda name: (name != "all", -counts[name], name))[:_PANELS]
    maximum = max((value for category in shown for value in recalls[category].values()), default=0) or 1.0
    panels = []
    for category in shown:
        values = {method: recalls[category][method] for method in _METHODS if method in recalls[category]}
        chart = bar_chart(values, highlight=SERVED, maximum=maximum, label=f"recall by method, {category}")
        panels.append({"category": category, "example_count": counts[category], "svg": Markup(chart)})
    return {"panels": panels, "left_out": len(recalls) - len(shown)}


def _tiles(evaluations: Sequence[Row], health: Sequence[Row]) -> list[dict[str, str]]:
    """Return the page's headline figures, those that the tables hold."""
    figures = {(row["table_name"], row["metric"]): row["value"] for row in health}
    wanted = (
        ("campaign_feed", ROW_COUNT, "shoppers to mail"),
        ("recommendations", ROW_COUNT, "recommended products"),
        ("items", ROW_COUNT, "items in the catalogue"),
        ("generations", "malformed_answer_rate", "answers that could not be read"),
    )
    tiles = [
        {"value": _figure(figures[table, metric], metric), "label": label} for table, metric, label in wanted if (table, metric) in figures
    ]
    recalls = _recalls(evaluations).get("all", {})
    if SERVED in recalls:
        ours = next(
            row
            for row in _headline(evaluations)
            if (row["category"], row["method"]) == ("all", SERVED) and row["metric"].startswith("recall@")
        )
        rivals = {name: value for name, value in recalls.items() if name not in (SERVED, "fusion", "without_llm")}
        against = f"; best single list {max(rivals.values()):.1%}" if rivals else ""
        where = f"of next purchases in the first {ours['metric'].partition('@')[2]}, asked the evening before"
        label = f"{where} ({ours['low']:.1%} to {ours['high']:.1%}){against}"
        tiles.insert(0, {"value": f"{recalls[SERVED]:.1%}", "label": label})
    return tiles


def _figure(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if metric == ROW_COUNT else f"{value:.1%}"
