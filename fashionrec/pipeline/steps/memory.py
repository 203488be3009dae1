"""Interactions become the query-product memory, and the sequences' queries get its answers."""

from pyspark.sql import Observation

from fashionrec.memory import attribute_queries, build_query_products, exposures, hit_rates, look_up, results_without_item
from fashionrec.pipeline.step import Run, Step
from fashionrec.pipeline.steps.sequences import people
from fashionrec.sequences import sessionize


def write_query_products(run: Run) -> None:
    """Write each query's top products as of each date of the grid."""
    settings = run.settings.memory
    sequences = run.settings.sequences
    sessions = run.read("interactions").transform(sessionize, gap_minutes=sequences.session_gap_minutes)
    events = sessions.transform(people, settings=sequences).transform(attribute_queries)
    shown = exposures(
        events,
        run.read("items"),
        run_date=run.run_date,
        as_of_every_days=settings.as_of_every_days,
        half_life_days=settings.half_life_days,
    ).persist()
    try:
        memory = build_query_products(
            events,
            shown,
            run_date=run.run_date,
            as_of_every_days=settings.as_of_every_days,
            half_life_days=settings.half_life_days,
            min_support=settings.min_support,
            top_products=settings.top_products,
            encoder_dim=settings.encoder_dim,
        )
        run.write("query_products", memory)
        # Not observed while writing: Spark skips one side of a join when the other is empty, and the counts with it.
        run.figures["results_without_item"] = shown.agg(results_without_item()).first()[0]  # type: ignore[index]
    finally:
        shown.unpersist()


def look_up_queries(run: Run) -> None:
    """Write the memory's answer to each query of the sequences."""
    settings = run.settings.memory
    rates = Observation()
    hits = look_up(
        run.read("sequences"),
        run.read("query_products"),
        neighbours=settings.neighbours,
        min_similarity=settings.min_similarity,
        top_products=settings.top_products,
    )
    run.write("query_hits", hits.observe(rates, *hit_rates()))
    run.figures.update({name: rate for name, rate in rates.get.items() if rate is not None})


STEPS: tuple[Step, ...] = (
    Step(
        "build_query_products",
        reads=("interactions", "items"),
        writes=("query_products",),
        run=write_query_products,
        about="Remember which products each query showed at the top, as of each date of a grid",
    ),
    Step(
        "look_up_queries",
        reads=("sequences", "query_products"),
        writes=("query_hits",),
        run=look_up_queries,
        about="Answer each query of the sequences from the memory of its own time",
    ),
)
