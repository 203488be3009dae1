"""The demo: a synthetic shop, the whole pipeline on it, and what came out."""

from datetime import date

from rich.console import Console
from rich.text import Text

from fashionrec.commands import show
from fashionrec.lake.storage import require_local
from fashionrec.pipeline.job import start
from fashionrec.pipeline.registry import STEPS
from fashionrec.pipeline.runner import run_steps
from fashionrec.settings import Settings
from fashionrec.sources.world.shop import make_world

RUN_DATE = date(2026, 3, 1)
USERS = 500
DAYS = 60


def run(settings: Settings, run_date: date, console: Console, *, users: int) -> None:
    """Make the world's raw files, run every step on them, and print tables, journeys and the evaluation."""
    raw_interactions, raw_catalog = (require_local(settings.paths.locate(name)) for name in ("raw_interactions", "raw_catalog"))
    title = ("A synthetic fashion shop", "bold")
    console.print(Text.assemble(title, f": {users} users, {DAYS} days up to {run_date}, in {raw_interactions}"), soft_wrap=True)
    counts = make_world(raw_interactions, raw_catalog, end_date=run_date, days=DAYS, user_count=users, items_per_category=300, seed=1)
    console.print(Text(", ".join(f"{value:,} {name}" for name, value in counts.items())), soft_wrap=True)
    workspace = start(settings, run_date, console)
    manifest = run_steps(workspace, STEPS, console)
    show.summary(workspace, manifest, console)
    console.print(Text("\nAll data above is synthetic. Look further:", "bold"))
    console.print(Text("  .venv/bin/fashionrec show any --conf conf/demo.yaml"))
    console.print(Text('  .venv/bin/fashionrec memory "red dress" --conf conf/demo.yaml'))
    console.print(Text(f"  report: {workspace.path('reports', str(run_date), 'report.html')}"), soft_wrap=True)
