"""Interactions become the query-product memory, its queries an index, and the sequences' queries get its answers."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as f

from fashionrec import memory
from fashionrec.encoders.text import Encoder, load_encoder
from fashionrec.memory.query_index import build_query_indexes, check_query_indexes
from fashionrec.memory.vectors import current_vectors, embed_queries, missing_queries
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.sequences import people
from fashionrec.sequences import sessionize
from fashionrec.settings.model import Memory


def write_query_products(run: StepRun) -> None:
    """Write each query's top products as of each date of the grid."""
    settings, sequences = run.settings.memory, run.settings.sequences
    first_day = run.run_date - timedelta(days=sequences.history_days)
    past = run.read("interactions").where(f.col("event_date") >= f.lit(first_day))
    sessions = past.transform(sessionize, gap_minutes=sequences.session_gap_minutes).transform(people, settings=sequences)
    events = sessions.transform(memory.attribute_queries).persist()
    grid: dict[str, Any] = {
        "run_date": run.run_date,
        "as_of_every_days": settings.as_of_every_days,
        "half_life_days": settings.half_life_days,
    }
    shown = memory.exposures(events, memory.catalogue(run.read("item_versions"), run.read("items")), **grid).persist()
    try:
        rows = memory.build_query_products(events, shown, **grid, min_support=settings.min_support, top_products=settings.top_products)
        run.write("query_products", rows)
        # Not observed while writing: Spark skips one side of a join when the other is empty, and the counts with it.
        run.figures["results_without_item"] = shown.agg(memory.results_without_item()).first()[0]  # type: ignore[index]
        run.figures["prefix_searches"] = events.where("is_prefix").count()
    finally:
        shown.unpersist()
        events.unpersist()


def index_queries(run: StepRun) -> None:
    """Compute the vectors that new queries lack, and index the remembered ones."""
    settings = run.settings.memory
    remembered = run.read("query_products")
    encoder = load_encoder(settings.encoder)
    wanted = memory.wanted_queries(run.read("sequences"), remembered)
    missing = missing_queries(wanted, run.so_far("query_vectors"), name=encoder.name, revision=encoder.revision, run_date=run.run_date)
    added = embed_queries(missing, encoder=encoder, partitions=run.settings.spark.shuffle_partitions)
    run.figures["new_vectors"] = run.write("query_vectors", added.withColumn("run_date", f.lit(run.run_date)))
    vectors = current_vectors(run.so_far("query_vectors"), name=encoder.name, revision=encoder.revision)
    rows = memory.remembered_queries(remembered, vectors)
    _, built = run.make_build(
        run.workspace.query_pointer,
        lambda folder, staging: build_query_indexes(
            rows, folder, encoder=encoder, exact_up_to=settings.exact_search_up_to, staging=staging
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
    asked, remembered = memory.asked_queries(run.read("sequences")), run.read("query_products")
    hits = answers(asked, remembered, vectors, run.workspace.query_indexes, encoder=encoder, settings=run.settings.memory)
    run.write("query_hits", hits.observe(rates, *memory.hit_rates()))
    run.figures.update({name: rate for name, rate in rates.get.items() if rate is not None})


def answers(asked: DataFrame, remembered: DataFrame, vectors: DataFrame, folder: Path, *, encoder: Encoder, settings: Memory) -> DataFrame:
    """Return the memory's answers to what is asked, as the settings want them; `fashionrec memory` asks here, too."""
    check_query_indexes(folder, name=encoder.name, revision=encoder.revision)
    return memory.look_up(
        asked,
        remembered,
        vectors,
        folder,
        neighbours=settings.neighbours,
        min_similarity=settings.encoder.min_similarity,
        top_products=settings.top_products,
    )


STEPS: tuple[Step, ...] = (
    Step(
        "build_query_products",
        reads=("interactions", "items", "item_versions"),
        writes=("query_products",),
        run=write_query_products,
        about="Remember which products each query showed at the top, as of each date of a grid",
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
        reads=("sequences", "query_products", "query_vectors", "query_indexes"),
        writes=("query_hits",),
        run=look_up_queries,
        about="Answer each query of the sequences from the memory of its own time",
    ),
)
