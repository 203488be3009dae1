"""What the shop is like: the paper's four characteristics, as rows and as a page."""

from pyspark.sql import functions as f

from fashionrec.characteristics import calendar, figures
from fashionrec.ingest.versions import intervals
from fashionrec.memory.normalise import normalise_query
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.sequences import attributed_events
from fashionrec.reports.characteristics import write_characteristics


def analyze_characteristics(run: StepRun) -> None:
    """Compute the paper's four characteristics of fashion shopping from what the shop logged, and write them as a page for marketers."""
    settings = run.settings.evaluate
    versions = intervals(run.read("item_versions")).transform(figures.with_vertical, settings.verticals)
    described = versions.withColumn("price", f.lit(None).cast("double"))  # what an item costs today plays no part here
    events = attributed_events(run.read("interactions"), described, settings=run.settings.sequences)
    events = events.withColumn("query", normalise_query(f.col("query"))).transform(figures.with_vertical, settings.verticals).persist()
    try:
        parts = (
            figures.turnover(versions, until=run.run_date),
            figures.comparison(events),
            figures.queries(events, until=run.run_date),
        )
        # Both are a few rows per category, month and attribute's value.
        rows = [tuple(row) for part in parts for row in part.collect()]
        demand = calendar.calendar_demand(events, settings.calendar_attributes).collect()
        rows += calendar.calendar_rows([row.asDict() for row in demand])
    finally:
        events.unpersist()
    run.write("characteristics", run.spark.createDataFrame(rows, figures.SCHEMA))
    named = [dict(zip(figures.COLUMNS, row, strict=True)) for row in rows]
    with run.workspace.reports() as folder:
        page = write_characteristics(folder, run_date=run.run_date, synthetic=run.workspace.synthetic, rows=named)
        run.figures["page_kib"] = page.stat().st_size // 1024


STEPS: tuple[Step, ...] = (
    Step(
        "analyze_characteristics",
        reads=("interactions", "item_versions"),
        writes=("characteristics",),
        run=analyze_characteristics,
        about="Compute the paper's four characteristics of fashion shopping.",
    ),
)
