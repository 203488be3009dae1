"""The day's health beside the day before, and its report."""

from datetime import date

from pyspark.sql import functions as f

from fashionrec.ingest.arrivals import listed, missing_days
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.quality import health
from fashionrec.reports.day import PAGES, write_report
from fashionrec.reports.journeys import example_paths

MONITORED = (
    "interactions",
    "items",
    "quarantine",
    "sequences",
    "query_hits",
    "prompts",
    "generations",
    "recommendations",
    "campaign_feed",
    "evaluations",
)


def monitor(run: StepRun) -> None:
    """Compare the day's figures with the newest earlier run's, and write the day's report."""
    figures = _figures(run)
    _warn_of_holes(run)
    since, previous = _previous_health(run)
    rows = health.health_rows(figures, previous)
    run.warnings += health.warnings(rows, since)
    schema = "table_name string, metric string, value double, previous double"
    run.write("health", run.spark.createDataFrame([tuple(row.values()) for row in rows], schema))
    evaluations = [row.asDict() for row in run.read("evaluations").collect()]
    examples = example_paths(run.read("sequences"), run.read("generations"), run.read("recommendations"), count=3)
    with run.workspace.reports() as folder:
        report = write_report(
            folder,
            run_date=run.run_date,
            synthetic=run.workspace.synthetic,
            evaluations=evaluations,
            pages={page for page in PAGES if (folder / page).exists()},
            health=rows,
            examples=examples,
        )
        run.figures["report_kib"] = report.stat().st_size // 1024


def _figures(run: StepRun) -> dict[health.Key, float]:
    figures: dict[health.Key, float] = {}
    for table in MONITORED:
        # Of a table of events, the run reads all days up to its own.
        figures |= health.table_figures(table, run.read(table).where(f.col(table_spec(table).day_column) == f.lit(run.run_date)))
    today = run.read("quarantine").where(f.col("arrival_date") == f.lit(run.run_date))
    rejected = {row["source"]: row["count"] for row in today.groupBy("source").count().collect()}
    kept = {table: int(figures[table, health.ROW_COUNT]) for table in ("interactions", "items")}
    return figures | health.quarantine_rates({"interactions": rejected.get("interactions", 0), "items": rejected.get("catalog", 0)}, kept)


def _warn_of_holes(run: StepRun) -> None:
    arrived = run.read("arrivals").where("source = 'interactions'").select("arrival_date").collect()
    taken = {row["arrival_date"] for row in arrived}
    if missing := missing_days(taken, until=run.run_date, back=run.settings.ingest.lookback_days):
        run.figures["days_missing"] = len(missing)
        run.warnings.append(f"interactions: nothing has arrived of {listed(missing)}")


def _previous_health(run: StepRun) -> tuple[date | None, dict[health.Key, float]]:
    """Return the newest run date before this one and its figures; none and nothing at the first run."""
    earlier = run.so_far("health").where(f.col("run_date") < f.lit(run.run_date))
    newest = earlier.agg(f.max("run_date").alias("day")).collect()[0]["day"]
    rows = earlier.where(f.col("run_date") == f.lit(newest)).collect() if newest else []
    return newest, {(row["table_name"], row["metric"]): row["value"] for row in rows}


STEPS: tuple[Step, ...] = (
    Step(
        "monitor",
        reads=(*MONITORED, "arrivals", "characteristics"),  # whose page it links
        writes=("health",),
        run=monitor,
        about="Compare the day's figures with the run before and write the day's report.",
    ),
)
