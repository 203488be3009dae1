"""What the command shows of the query-product memory: the queries nearest to one, and their products."""

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as f
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fashionrec.encoders.text import load_encoder
from fashionrec.memory.normalise import normalise_text
from fashionrec.memory.query_index import open_query_index
from fashionrec.pipeline.step import Run
from fashionrec.pipeline.steps.memory import answers, query_indexes

_PRODUCTS_SHOWN = 3


def memory(run: Run, query: str, console: Console) -> None:
    """Print what the memory of the run date knows of a query: per category the nearest queries with their products, and its answer."""
    settings, wanted = run.settings.memory, normalise_text(query)
    remembered = run.read("query_products").where(f.col("as_of_date") == f.lit(run.run_date))
    categories = sorted(row.category for row in remembered.select("category").distinct().collect())
    encoder = load_encoder(settings.encoder)
    vector = encoder.encode([wanted])
    vectors = run.spark.createDataFrame([(wanted, vector[0].tolist())], "query string, embedding array<float>")
    asked = run.spark.createDataFrame(
        [(run.run_date, category, query) for category in categories], "as_of_date date, category string, query string"
    )
    found = {row.category: row for row in answers(run, asked, vectors, encoder=encoder).collect()}
    console.print(f"{run.run_date}: “{escape(query)}”, looked up as “{escape(wanted)}”", highlight=False)
    for category in categories:
        index = open_query_index(query_indexes(run), category)
        places, similarities = index.nearest(vector, run.run_date, settings.neighbours)
        near = dict(zip(index.queries[places[0]], similarities[0].tolist(), strict=True))
        console.rule(f"[bold]{escape(category)}[/]", align="left")
        console.print(_nearest(remembered.where(f.col("category") == category), near))
        console.print(_answer(found[category], settings.encoder.min_similarity), highlight=False)


def _nearest(remembered: DataFrame, near: dict[str, float]) -> Table:
    table = Table("nearest query", box=None, pad_edge=False)
    for name in ("similarity", "searches", "users"):
        table.add_column(name, justify="right")
    table.add_column("products, by exposure")
    rows = remembered.where(f.col("query").isin(*near)).collect()
    for row in sorted(rows, key=lambda row: (-near[row["query"]], row["query"])):
        counts = f"{near[row['query']]:.2f}", f"{row.search_count:,}", f"{row.user_count:,}"
        table.add_row(escape(row["query"]), *counts, escape(titles(row.products)))
    return table


def _answer(hit: Row, min_similarity: float) -> str:
    if hit.match == "none":
        return f"Answer: none; nothing is as near as {min_similarity:g}"
    return f"Answer ({hit.match}): {escape(titles(hit.products))}"


def titles(products: list[Row]) -> str:
    """Return the titles of the first products in one line."""
    return "; ".join(product.title for product in products[:_PRODUCTS_SHOWN])
