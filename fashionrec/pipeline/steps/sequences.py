"""Interactions and items become sequences."""

from datetime import date, timedelta

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as f

from fashionrec.ingest.versions import intervals
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.sequences import as_of_today, attribute_searches, build_examples, describe_items, left_out, sessionize, set_robots_aside
from fashionrec.settings import Settings
from fashionrec.settings.model import Sequences


def build_sequences(run: StepRun) -> None:
    """Write one row per user, category and purchase to predict, and one per open path."""
    first_day = run.run_date - timedelta(days=run.settings.sequences.history_days)
    events = run.read("interactions").where(f.col("event_date") >= f.lit(first_day))
    robots, without = Observation(), Observation()
    settings = run.settings.sequences
    versions = as_of_today(intervals(run.read("item_versions")), run.read("items"))
    attributed = attributed_events(events, versions, robots, settings=settings)
    run.write("sequences", examples_of(attributed.observe(without, *left_out()), run.run_date, run.settings))
    run.figures.update({**without.get, **robots.get})


def attributed_events(events: DataFrame, versions: DataFrame, robots: Observation | None = None, *, settings: Sequences) -> DataFrame:
    """Return people's events with item, session and category; `robots` observes those of others."""
    return (
        events.transform(describe_items, versions)
        .transform(sessionize, gap_minutes=settings.session_gap_minutes)
        .transform(people, robots, settings=settings)
        .transform(attribute_searches)
    )


def people(events: DataFrame, robots: Observation | None = None, *, settings: Sequences) -> DataFrame:
    """Return the events without those of robots and shared accounts, by the thresholds of the settings."""
    return set_robots_aside(
        events,
        robots,
        max_events_per_minute=settings.max_events_per_minute,
        max_events_per_day=settings.max_events_per_day,
        max_purchases=settings.max_purchases,
    )


def examples_of(attributed: DataFrame, run_date: date, wanted: Settings) -> DataFrame:
    """Return the rows of the table `sequences` (without run_date), as the settings want them."""
    settings = wanted.sequences
    return build_examples(
        attributed,
        run_date=run_date,
        max_actions=settings.max_actions,
        max_train_examples=settings.max_train_examples,
        min_actions=settings.min_actions,
        overnight_rate=settings.overnight_rate,
        bought_again=wanted.recommend.bought_again,
        validation_days=settings.validation_days,
        test_days=settings.test_days,
    )


STEPS: tuple[Step, ...] = (
    Step(
        "build_sequences",
        reads=("interactions", "items", "item_versions"),
        writes=("sequences",),
        run=build_sequences,
        about="Turn interactions into one path per user and category, with the purchase to predict",
    ),
)
