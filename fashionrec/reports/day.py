"""The evaluation as a table for the terminal, and a day's report as one HTML page that needs no network."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fashionrec.evaluate.rows import METHODS, SERVED
from fashionrec.quality.health import ROW_COUNT, moved
from fashionrec.reports import characteristics, embeddings, language_model
from fashionrec.reports.page import write_page

Row = Mapping[str, Any]

# Pages of other steps that the report links where they are there.
PAGES = (characteristics.PAGE, embeddings.PAGE, language_model.PAGE)
# Charts of more categories than these would be too many to compare.
_PANELS = 12
_METHODS = {
    SERVED: "the full system: the model's answer looked up by product and by title, the two lists mixed",
    "id_only": "the same answer, looked up by product only",
    "title_only": "the same answer, looked up by title only",
    "popularity": "what was bought most, the same list for everybody",
    "last_item": "the last product that the shopper looked at or bought, then what was bought most",
    "like_last_item": "what the full system would show if the model only repeated the last product",
    "core": "the items nearest to the shopper's path in the ID space: CORE's own ranking, without a language model",
}
_HEALTH = {
    ROW_COUNT: "rows",
    "malformed_answer_rate": "answers that could not be read",
    "fallback_rate": "recommended by popularity alone",
    "quarantine_rate": "input rows rejected",
    "memory_none_rate": "searches that the memory knows nothing about",
}


def metrics_table(rows: Iterable[Row]) -> Table:
    """Return the rows of the table evaluations as a table for the terminal: one line per category and method, the best of each in bold."""
    rows = list(rows)
    metrics = _metric_names(rows)
    table = Table("category", title="Evaluation: the last purchase, ranked among all items of its category", title_justify="left")
    table.add_column("method", no_wrap=True)
    for name in (*metrics, "examples", "items"):
        table.add_column(name, justify="right")
    for block in _blocks(rows):
        for line in block["lines"]:
            cells = [Text(cell["text"], "bold" if cell["best"] else "") for cell in line["cells"]]
            name = block["category"] if line is block["lines"][0] else ""
            table.add_row(Text(name), line["method"], *cells, f"{block['example_count']:,}", f"{block['item_count']:,}")
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
    """Return one block per category, "all" first: its counts, and a line per method with a cell per metric."""
    blocks = []
    metrics = _metric_names(rows)
    for category in sorted({row["category"] for row in rows}, key=lambda name: (name != "all", name)):
        of_category = [row for row in rows if row["category"] == category]
        value = {(row["method"], row["metric"]): row["value"] for row in of_category}
        best = {metric: max(value[method, metric] for method in METHODS if (method, metric) in value) for metric in metrics}
        lines = [
            {
                "method": method,
                "served": method == SERVED,
                "cells": [
                    {"text": f"{value[method, metric]:.4f}", "best": value[method, metric] == best[metric] > 0} for metric in metrics
                ],
            }
            for method in METHODS
            if (method, metrics[0]) in value
        ]
        blocks.append(
            {
                "category": category,
                "lines": lines,
                "example_count": of_category[0]["example_count"],
                "item_count": of_category[0]["item_count"],
            }
        )
    return blocks


def _recalls(rows: Iterable[Row]) -> dict[str, dict[str, float]]:
    recalls: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["metric"].startswith("recall@"):
            recalls.setdefault(row["category"], {})[row["method"]] = row["value"]
    return recalls


def _bars(rows: Sequence[Row]) -> dict[str, Any]:
    """Return one bar chart of recall per category, those with most examples first, and how many were left out."""
    from markupsafe import Markup

    from fashionrec.reports.charts import bar_chart

    recalls = _recalls(rows)
    counts = {row["category"]: row["example_count"] for row in rows}
    shown = sorted(recalls, key=lambda name: (name != "all", -counts[name], name))[:_PANELS]
    maximum = max((value for category in shown for value in recalls[category].values()), default=0) or 1.0
    panels = []
    for category in shown:
        values = {method: recalls[category][method] for method in METHODS if method in recalls[category]}
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
        rivals = [recalls[name] for name in ("popularity", "last_item", "like_last_item", "core") if name in recalls]
        name = next(name for name in _metric_names(evaluations) if name.startswith("recall@"))
        against = f"; best method without the language model {max(rivals):.1%}" if rivals else ""
        tiles.insert(0, {"value": f"{recalls[SERVED]:.1%}", "label": f"of next purchases in the first {name.partition('@')[2]}{against}"})
    return tiles


def _figure(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if metric == ROW_COUNT else f"{value:.1%}"
