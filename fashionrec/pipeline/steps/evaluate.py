"""Steps that look at what the others made: the evaluation, the shop's characteristics, the day's health and report."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.characteristics import calendar
from fashionrec.characteristics import figures as characteristics
from fashionrec.embeddings.spaces import encode_titles, session_vectors
from fashionrec.errors import UserError
from fashionrec.evaluate.protocol import answered_examples, copying, coverage, metric_rows, rank_examples, train_purchases
from fashionrec.evaluate.rows import CategoryItems
from fashionrec.index_folders import slug
from fashionrec.lake.spec import table_spec
from fashionrec.memory.normalise import normalise_query
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.sequences import attributed_events
from fashionrec.quality import health
from fashionrec.reports.characteristics import write_characteristics
from fashionrec.reports.day import PAGES, write_report
from fashionrec.reports.journeys import example_paths
from fashionrec.retrieval.indexes import check_build, load_index, vectors

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


def evaluate(run: StepRun) -> None:
    """Rank the last purchase of every test path among all items of its category, by the system and by simple methods."""
    sequences = run.read("sequences")
    answers, prompts = (run.read(table).where("split = 'test'") for table in ("generations", "prompts"))
    examples = answered_examples(answers, sequences)
    if examples.isEmpty():
        raise UserError(f"evaluate: no answers to test prompts on {run.run_date}; generate with test among generation.splits")
    ranked = answer_ranker(run)(examples).cache()
    run.write("evaluations", metric_rows(ranked, k=run.settings.evaluate.k))
    run.figures |= coverage(ranked) | copying(answers, prompts)
    missing = sequences.where("split = 'test'").count() - int(run.figures["test_examples"])
    if missing:
        run.warnings.append(f"evaluate: {missing:,} test paths have no answer and are not evaluated")
    ranked.unpersist()


def answer_ranker(run: StepRun) -> Callable[[DataFrame], DataFrame]:
    """Return what ranks answered examples (see `protocol.rank_examples`) by the day's indexes and the champions of both spaces."""
    ids, title = run.model("id"), run.model("title")
    folder = run.workspace.item_indexes
    check_build(folder, {"id": ids.version, "title": title.version})
    purchases: dict[str, dict[str, int]] = {}
    for row in train_purchases(run.read("sequences")).toLocalIterator():  # at most one row per item of the catalogue
        purchases.setdefault(row["category"], {})[row["item_id"]] = row["purchase_count"]
    return partial(
        rank_examples,
        load=partial(_load, folder),
        encode=partial(encode_titles, title.folder),
        encode_sessions=partial(session_vectors, ids.folder),
        purchases=purchases,
        m=run.settings.retrieval.mixup_m,
        k=run.settings.evaluate.k,
    )


def _load(folder: Path, category: str) -> CategoryItems | None:
    """Return the items of a category, none where it has no index: all of its items have left the catalogue."""
    path = folder / slug(category)
    if not path.is_dir():
        return None
    index = load_index(path)
    return CategoryItems(index.item_ids, vectors(index.ids), vectors(index.title), index.trained)


def analyze_characteristics(run: StepRun) -> None:
    """Compute the paper's four characteristics of fashion shopping from what the shop logged, and write them as a page for marketers."""
    settings = run.settings.evaluate
    versions = run.read("item_versions").transform(characteristics.with_vertical, settings.verticals)
    described = versions.withColumn("price", f.lit(None).cast("double"))  # what an item costs today plays no part here
    events = attributed_events(run.read("interactions"), described, settings=run.settings.sequences)
    events = (
        events.withColumn("query", normalise_query(f.col("query"))).transform(characteristics.with_vertical, settings.verticals).persist()
    )
    try:
        figures = (
            characteristics.turnover(versions, until=run.run_date),
            characteristics.comparison(events),
            characteristics.queries(events, until=run.run_date),
        )
        # Both are a few rows per category, month and attribute's value.
        rows = [tuple(row) for part in figures for row in part.collect()]
        demand = calendar.calendar_demand(events, settings.calendar_attributes).collect()
        rows += calendar.calendar_rows([row.asDict() for row in demand])
    finally:
        events.unpersist()
    run.write("characteristics", run.spark.createDataFrame(rows, characteristics.SCHEMA))
    named = [dict(zip(characteristics.COLUMNS, row, strict=True)) for row in rows]
    page = write_characteristics(run.workspace.day_folder("reports"), run_date=run.run_date, synthetic=run.workspace.synthetic, rows=named)
    run.figures["page_kib"] = page.stat().st_size // 1024


def monitor(run: StepRun) -> None:
    """Compare the day's figures with the newest earlier run's, and write the day's report."""
    figures = _figures(run)
    since, previous = _previous_health(run)
    rows = health.health_rows(figures, previous)
    run.warnings += health.warnings(rows, since)
    schema = "table_name string, metric string, value double, previous double"
    run.write("health", run.spark.createDataFrame([tuple(row.values()) for row in rows], schema))
    folder = run.workspace.day_folder("reports")
    report = write_report(
        folder,
        run_date=run.run_date,
        synthetic=run.workspace.synthetic,
        evaluations=[row.asDict() for row in run.read("evaluations").collect()],
        pages={page for page in PAGES if (folder / page).exists()},
        health=rows,
        examples=example_paths(run.read("sequences"), run.read("generations"), run.read("recommendations"), count=3),
    )
    run.figures["report_kib"] = report.stat().st_size // 1024


def _figures(run: StepRun) -> dict[health.Key, float]:
    figures: dict[health.Key, float] = {}
    for table in MONITORED:
        # Of a table of events, the run reads all days up to its own.
        figures |= health.table_figures(table, run.read(table).where(f.col(table_spec(table).day_column) == f.lit(run.run_date)))
    first = run.run_date - timedelta(days=run.settings.ingest.lookback_days)
    window = run.read("quarantine").where(f.col("arrival_date") >= f.lit(first))
    rejected = window.where("source = 'interactions'").count()
    # Earlier catalogues of the window had their own run dates; where none came today, none was rejected today.
    rejected_items = window.where((f.col("source") == "catalog") & (f.col("arrival_date") == f.lit(run.run_date))).count()
    kept = run.read("interactions").where(f.col("event_date") >= f.lit(first)).count()
    return figures | health.quarantine_rates(
        {"interactions": rejected, "items": rejected_items}, {"interactions": kept, "items": int(figures["items", health.ROW_COUNT])}
    )


def _previous_health(run: StepRun) -> tuple[date | None, dict[health.Key, float]]:
    """Return the newest run date before this one and its figures; none and nothing at the first run."""
    earlier = run.so_far("health").where(f.col("run_date") < f.lit(run.run_date))
    newest = earlier.agg(f.max("run_date").alias("day")).collect()[0]["day"]
    rows = earlier.where(f.col("run_date") == f.lit(newest)).collect() if newest else []
    return newest, {(row["table_name"], row["metric"]): row["value"] for row in rows}


STEPS: tuple[Step, ...] = (
    Step(
        "evaluate",
        reads=("prompts", "generations", "sequences", "indexes", "model/id", "model/title"),
        writes=("evaluations",),
        run=evaluate,
        about="Rank the purchases to predict among all items of their category and write the metrics.",
    ),
    Step(
        "analyze_characteristics",
        reads=("interactions", "item_versions"),
        writes=("characteristics",),
        run=analyze_characteristics,
        about="Compute the paper's four characteristics of fashion shopping.",
    ),
    Step(
        "monitor",
        reads=(*MONITORED, "characteristics"),  # whose page it links
        writes=("health",),
        run=monitor,
        about="Compare the day's figures with the run before and write the day's report.",
    ),
)
