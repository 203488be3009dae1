"""The demo: a synthetic shop, the whole pipeline on it, and what came out."""

from datetime import date
from pathlib import Path

from rich.console import Console

from fashionrec.ingest.world import make_world
from fashionrec.pipeline import show
from fashionrec.pipeline.registry import STEPS
from fashionrec.pipeline.runner import new_run, run_steps
from fashionrec.settings import Settings

RUN_DATE = date(2026, 3, 1)
USERS = 500
DAYS = 60


def run(settings: Settings, run_date: date, console: Console, *, users: int) -> None:
    """Make the world's raw files, run every step on them, and print tables, journeys and the evaluation."""
    this = new_run(settings, run_date)
    console.print(
        f"[bold]A synthetic fashion shop[/]: {users} users, {DAYS} days up to {run_date}, in {this.path('raw_interactions')}",
        soft_wrap=True,
    )
    counts = make_world(
        Path(this.path("raw_interactions")),
        Path(this.path("raw_catalog")),
        end_date=run_date,
        days=DAYS,
        user_count=users,
        items_per_category=300,
        seed=1,
    )
    console.print(", ".join(f"{value:,} {name}" for name, value in counts.items()), highlight=False, soft_wrap=True)
    run_steps(this, STEPS, console)
    show.summary(this, console)
    console.print("\nAll data above is synthetic. Look further:", style="bold")
    console.print("  .venv/bin/fashionrec show any --conf conf/demo.yaml", highlight=False)
    console.print('  .venv/bin/fashionrec memory "red dress" --conf conf/demo.yaml', highlight=False)
    console.print(f"  report: {Path(this.path('reports')) / str(run_date) / 'report.html'}", highlight=False, soft_wrap=True)
