"""Interactions and items become sequences."""

from datetime import timedelta

from pyspark.sql import Observation
from pyspark.sql import functions as f

from fashionrec.pipeline.step import Run, Step
from fashionrec.sequences import attach_items, attribute_searches, build_examples, left_out, sessionize


def build_sequences(run: Run) -> None:
    """Write one row per user, category and purchase to predict, and one per open path."""
    settings = run.settings.sequences
    items = run.read("items")
    first_day = run.run_date - timedelta(days=settings.history_days)
    counts = Observation()
    events = (
        run.read("interactions")
        .where(f.col("event_date") >= f.lit(first_day))
        .transform(attach_items, items)
        .transform(sessionize, gap_minutes=settings.session_gap_minutes)
        .transform(attribute_searches)
        .observe(counts, *left_out())
    )
    examples = build_examples(
        events,
        run_date=run.run_date,
        max_actions=settings.max_actions,
        max_train_examples=settings.max_train_examples,
        min_actions=settings.min_actions,
    )
    run.write("sequences", examples)
    run.figures.update(counts.get)


STEPS: tuple[Step, ...] = (
    Step(
        "build_sequences",
        reads=("interactions", "items"),
        writes=("sequences",),
        run=build_sequences,
        about="Turn interactions into one path per user and category, with the purchase to predict",
    ),
)
