"""Interactions become the query-product memory, its queries an index, and the sequences' queries get its answers."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as f

from fashionrec import memory
from fashionrec.encoders.text import Encoder, load_encoder
from fashionrec.ingest.versions import intervals
from fashionrec.lake.spec import table_spec
from fashionrec.memory.query_index import build_query_indexes, check_query_indexes
from fashionrec.memory.vectors import current_vectors, embed_queries, missing_queries
from fashionrec.memory.weeks import Arrived, fingerprints, is_within, known_until
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.sequences import people
from fashionrec.sequences import sessionize
from fashionrec.settings import Settings
from fashionrec.settings.model import Memory

# Share of the results of searches above which their IDs are hardly the catalogue's.
_STRANGE_RESULTS = 0.2
# The settings that a week's rows follow from: another value, and they are made again.
_MEMORY = {"half_life_days", "as_of_every_days", "top_products"}
_SEQUENCES = {"history_days", "session_gap_minutes", "max_events_per_minute", "max_events_per_day", "max_purchases"}


def write_query_products(run: StepRun) -> None:
    """Write each query's top products as of the end of every week that the table lacks, or whose rows would be others now."""
    known = run.so_far("query_products")
    written = {row.as_of_date: row.fingerprint for row in known.select("as_of_date", "fingerprint").distinct().collect()}
    due, catalogues = _due(run)
    first_day, every_days = _first_day(run), run.settings.memory.as_of_every_days
    made: list[str] = []
    replaced: list[date] = []
    run.figures |= {"results": 0, "results_without_item": 0, "prefix_searches": 0}
    for day in sorted({*due, *(day for day in written if is_within(day, first_day, every_days))}):
        # Rows of a later run's weeks stay. Where a week before them is another now they go, and are made again by the run that needs them.
        if not replaced and (day > run.run_date or written.get(day) == due.get(day)):
            continue
        if day in due:
            before = known.where(f.col("as_of_date") < f.lit(min([day, *replaced]))).unionByName(_rows_of(run, made))
            folder = _make_week(run, day, before, catalogue_date=known_until(day, catalogues), fingerprint=due[day])
            if day not in written and _rows_of(run, [folder]).isEmpty():
                continue
            made.append(folder)
        replaced.append(day)
    run.figures["weeks_made"] = len(made)
    if (missing := run.figures["results_without_item"]) > _STRANGE_RESULTS * run.figures["results"]:
        share = missing / run.figures["results"]
        run.warnings.append(f"{share:.0%} of the results of searches name no item that a catalogue has held: the memory cannot know them")
    if replaced or not written:
        run.write("query_products", _rows_of(run, made), days=replaced)


def _due(run: StepRun) -> tuple[dict[date, str], dict[date, int]]:
    """Return the fingerprint of each week that an example of the run may ask for, and the number of descriptions that begin on each day."""
    # The evening before the first week is read, too.
    since = f.lit(_first_day(run) - timedelta(days=1))
    arrived = run.read("interactions").where(f.col("arrival_date") >= since)
    arrivals = arrived.groupBy("arrival_date").agg(f.count_if(f.col("action") == "search"), f.count("*")).collect()
    catalogues = {row[0]: row[1] for row in run.read("item_versions").groupBy("arrival_date").count().collect()}
    settings, sequences = run.settings.memory, run.settings.sequences
    due = fingerprints(
        {day: Arrived(searches, events) for day, searches, events in arrivals},
        catalogues,
        first_day=_first_day(run),
        last_day=run.run_date,
        every_days=settings.as_of_every_days,
        settings=[settings.model_dump(include=_MEMORY), sequences.model_dump(include=_SEQUENCES)],
    )
    return due, catalogues


def _first_day(run: StepRun) -> date:
    return run.run_date - timedelta(days=run.settings.sequences.history_days)


def _rows_of(run: StepRun, folders: Sequence[str]) -> DataFrame:
    struct = table_spec("query_products").struct
    return run.spark.read.schema(struct).parquet(*folders) if folders else run.spark.createDataFrame([], struct)


def _make_week(run: StepRun, day: date, before: DataFrame, *, catalogue_date: date, fingerprint: str) -> str:
    """Stage the rows of the week that ends on `day` and return their folder; what was left out is added to the figures."""
    settings, sequences = run.settings.memory, run.settings.sequences
    evening = day - timedelta(days=settings.as_of_every_days)
    # From the evening before: its last sessions may go on in the week.
    arrived = run.read("interactions").where(f.col("arrival_date").between(f.lit(evening), f.lit(day)))
    sessions = arrived.transform(sessionize, gap_minutes=sequences.session_gap_minutes).transform(people, settings=sequences)
    events = sessions.transform(memory.attribute_queries).where(f.col("arrival_date") > f.lit(evening)).persist()
    versions = intervals(run.read("item_versions").where(f.col("arrival_date") <= f.lit(catalogue_date)))
    shown = memory.shown_products(events, versions, as_of_date=day, half_life_days=settings.half_life_days).persist()
    folder = run.staging(f"weeks/{day}")
    try:
        rows = memory.build_query_products(
            events,
            shown,
            before,
            as_of_date=day,
            half_life_days=settings.half_life_days,
            history_days=sequences.history_days,
            top_products=settings.top_products,
        )
        rows.withColumn("fingerprint", f.lit(fingerprint)).write.parquet(folder)
        # Not observed while writing: Spark skips one side of a join when the other is empty, and the counts with it.
        (counts,) = shown.agg(memory.results_without_item(), f.coalesce(f.sum("shown_count"), f.lit(0)).alias("results")).collect()
        run.figures["results_without_item"] += counts["results_without_item"]
        run.figures["results"] += counts["results"]
        run.figures["prefix_searches"] += events.where("is_prefix").count()
    finally:
        shown.unpersist()
        events.unpersist()
    return folder


def remembered(rows: DataFrame, wanted: Settings) -> DataFrame:
    """Return the rows of `query_products` that answer, as the settings want them."""
    return memory.held(rows, min_support=wanted.memory.min_support, history_days=wanted.sequences.history_days)


def index_queries(run: StepRun) -> None:
    """Compute the vectors that new queries lack, and index the remembered ones."""
    settings = run.settings.memory
    rows = remembered(run.read("query_products"), run.settings)
    encoder = load_encoder(settings.encoder)
    wanted = memory.wanted_queries(run.read("sequences"), rows)
    missing = missing_queries(wanted, run.so_far("query_vectors"), name=encoder.name, revision=encoder.revision, run_date=run.run_date)
    added = embed_queries(missing, encoder=encoder, partitions=run.settings.spark.shuffle_partitions)
    run.figures["new_vectors"] = run.write("query_vectors", added.withColumn("run_date", f.lit(run.run_date)))
    vectors = current_vectors(run.so_far("query_vectors"), name=encoder.name, revision=encoder.revision)
    indexed = memory.remembered_queries(rows, vectors)
    _, built = run.make_build(
        run.workspace.query_pointer,
        lambda folder, staging: build_query_indexes(
            indexed, folder, encoder=encoder, exact_up_to=settings.exact_search_up_to, staging=staging
        ),
        made_from={"encoder": encoder.name, "revision": encoder.revision},
    )
    run.rows_written["query_indexes"] = sum(one.queries for one in built.values())
    run.figures["index_recall_at_10"] = min((one.recall_at_10 for one in built.values()), default=1.0)
    run.figures["approximate_indexes"] = sum(one.kind == "approximate" for one in built.values())


def look_up_queries(run: StepRun) -> None:
    """Write the memory's answer to each query of the sequences."""
    encoder = load_encoder(run.settings.memory.encoder)
    vectors = current_vectors(run.read("query_vectors"), name=encoder.name, revision=encoder.revision)
    rates = Observation()
    hits = answers(
        memory.asked_queries(run.read("sequences")),
        remembered(run.read("query_products"), run.settings),
        intervals(run.read("item_versions")),
        vectors,
        run.workspace.query_indexes,
        encoder=encoder,
        settings=run.settings.memory,
    )
    run.write("query_hits", hits.observe(rates, *memory.hit_rates()))
    run.figures.update({name: rate for name, rate in rates.get.items() if rate is not None})


def answers(
    asked: DataFrame, rows: DataFrame, versions: DataFrame, vectors: DataFrame, folder: Path, *, encoder: Encoder, settings: Memory
) -> DataFrame:
    """Return the memory's answers to what is asked, as the settings want them; `fashionrec memory` asks here, too."""
    check_query_indexes(folder, name=encoder.name, revision=encoder.revision)
    return memory.look_up(
        asked,
        rows,
        memory.gone_items(versions),
        vectors,
        folder,
        neighbours=settings.neighbours,
        min_similarity=settings.encoder.min_similarity,
        top_products=settings.top_products,
    )


STEPS: tuple[Step, ...] = (
    Step(
        "build_query_products",
        reads=("interactions", "item_versions"),
        writes=("query_products",),
        run=write_query_products,
        about="Remember which products each query showed at the top, as of the end of each calendar week",
    ),
    Step(
        "index_queries",
        reads=("sequences", "query_products"),
        writes=("query_vectors", "query_indexes"),
        run=index_queries,
        about="Compute the vectors of new queries, and index the remembered ones for the search of near ones",
    ),
    Step(
        "look_up_queries",
        reads=("sequences", "item_versions", "query_products", "query_vectors", "query_indexes"),
        writes=("query_hits",),
        run=look_up_queries,
        about="Answer each query of the sequences from the memory of its own time",
    ),
)
