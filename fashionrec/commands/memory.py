"""What the command shows of the query-product memory: the queries nearest to one, and their products."""

from collections.abc import Mapping

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as f
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fashionrec.encoders.text import load_encoder
from fashionrec.ingest.versions import intervals
from fashionrec.memory.normalise import normalise_text
from fashionrec.memory.query_index import open_query_index
from fashionrec.pipeline.steps.memory import answers, remembered
from fashionrec.pipeline.workspace import Workspace

_PRODUCTS_SHOWN = 3


def memory(workspace: Workspace, query: str, console: Console) -> None:
    """Print what the memory of the date knows of a query: per category the nearest queries with their products, and its answer."""
    settings, wanted = workspace.settings.memory, normalise_text(query)
    rows = remembered(workspace.read("query_products"), workspace.settings)
    newest = rows.agg(f.max("as_of_date")).collect()[0][0]
    today = rows.where(f.lit(newest).between(f.col("as_of_date"), f.col("holds_to")))
    categories = sorted(row.category for row in today.select("category").distinct().collect())
    encoder = load_encoder(settings.encoder)
    vector = encoder.encode([wanted])
    vectors = workspace.spark.createDataFrame([(wanted, vector[0].tolist())], "query string, embedding array<float>")
    asked = workspace.spark.createDataFrame(
        [(workspace.run_date, category, query) for category in categories], "as_of_date date, category string, query string"
    )
    folder = workspace.query_indexes
    hits = answers(asked, rows, intervals(workspace.read("item_versions")), vectors, folder, encoder=encoder, settings=settings).collect()
    of_category = {row.category: row for row in hits}
    console.print(Text(f"{workspace.run_date}: “{query}”, looked up as “{wanted}”"))
    for category in categories:
        index = open_query_index(folder, category)
        places, similarities = index.nearest(vector, newest, settings.neighbours)
        near = dict(zip(index.queries[places[0]], similarities[0].tolist(), strict=True))
        console.rule(Text(category, "bold"), align="left")
        console.print(_nearest(today.where(f.col("category") == category), near))
        console.print(Text(_answer(of_category[category], settings.encoder.min_similarity)))


def _nearest(remembered: DataFrame, near: Mapping[str, float]) -> Table:
    table = Table("nearest query", box=None, pad_edge=False)
    for name in ("similarity", "searches", "users"):
        table.add_column(name, justify="right")
    table.add_column("products, by exposure")
    rows = remembered.where(f.col("query").isin(*near)).collect()
    for row in sorted(rows, key=lambda row: (-near[row["query"]], row["query"])):
        counts = f"{near[row['query']]:.2f}", f"{row.search_count:,}", f"{row.user_count:,}"
        table.add_row(Text(row["query"]), *counts, Text(titles(row.products)))
    return table


def _answer(hit: Row, min_similarity: float) -> str:
    if hit.match == "none":
        return f"Answer: none; nothing is as near as {min_similarity:g}"
    return f"Answer ({hit.match}): {titles(hit.products)}"


def titles(products: list[Row]) -> str:
    """Return the titles of the first products in one line."""
    return "; ".join(product.title for product in products[:_PRODUCTS_SHOWN])
