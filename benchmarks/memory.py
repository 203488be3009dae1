"""What the memory answers, how well and fast near queries are found, and what a day costs: make bench-memory [SCALE=0.1].

The last line is JSON. All worlds are SYNTHETIC. The shares of exact, near and no answers are those of the demo's shop (500 times SCALE
shoppers, by the steps of the pipeline). The index holds 200,000 times SCALE different made-up queries; 2,000 of them, each with a slip of
the finger, are looked up by it and by exact search in turn. A day more is added to lakes of 30 and of 365 days of the same size (20 times
SCALE new shoppers each): an ordinary day, and the one after it, which ends a week.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random

from pyspark.sql import functions as f
from rich.console import Console

from fashionrec.commands import demo
from fashionrec.encoders.text import load_encoder
from fashionrec.lake.session import spark_session
from fashionrec.memory.query_index import build_query_indexes, open_query_index
from fashionrec.memory.vectors import embed_queries
from fashionrec.pipeline.registry import STEPS, step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import open_workspace
from fashionrec.settings import Settings, load_settings, resource
from fashionrec.sources.world.shop import make_world
from tools.tiny_base.text import KINDS, random_query, random_title

QUERIES, ASKED, ROUNDS = 200_000, 2_000, 3
_NEIGHBOURS = 10
_DAY = date(2026, 3, 1)
LAKES, USERS_A_DAY = (30, 365), 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 500 shoppers, and 200,000 queries in the index")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fashionrec-bench-", dir=os.environ.get("TMPDIR")) as root:
        figures = memory_figures(Path(root), options.scale, Console(width=160))
    print(json.dumps(figures))


def memory_figures(root: Path, scale: float, console: Console) -> dict[str, float]:
    """Return the shares of answers, and the recall and speed of the approximate index."""
    settings = load_settings(resource("conf") / "demo.yaml", [f"paths.root={root}/shop"])
    return {
        **coverage(settings, int(demo.USERS * scale), console),
        **index_figures(settings, root / "index", int(QUERIES * scale), console),
        **day_figures(root / "days", scale, console),
    }


def day_figures(root: Path, scale: float, console: Console) -> dict[str, float]:
    """Return the seconds of `build_query_products` on a day more, on top of a short and of a long lake of days of the same size."""
    figures: dict[str, float] = {}
    ingest = [step_named("ingest_catalog"), step_named("ingest_interactions")]
    for days in (LAKES[0], *LAKES):  # the first one warms up
        folder = root / f"{days}-{len(figures)}"
        settings = load_settings(
            resource("conf") / "demo.yaml",
            # The world's catalogues are 30 days apart, so that clicks on newer items are rejected.
            [f"paths.root={folder}", f"ingest.lookback_days={days}", "ingest.max_quarantine_rate=1"],
        )
        workspace = open_workspace(settings, _DAY)
        raw = Path(workspace.path("raw_interactions")), Path(workspace.path("raw_catalog"))
        make_world(*raw, end_date=_DAY, days=days, user_count=max(1, int(USERS_A_DAY * scale * days)), items_per_category=300, seed=1)
        run_steps(workspace, ingest, console)
        for before, name in ((2, "first_run"), (1, "day"), (0, "week_end")):
            of_day = open_workspace(settings, _DAY - timedelta(days=before))
            manifest = run_steps(of_day, [step_named("build_query_products")], console)
            figures[f"{name}_seconds_at_{days}_days"] = manifest["steps"][-1]["seconds"]
    return figures


def coverage(settings: Settings, users: int, console: Console) -> dict[str, float]:
    """Return which share of the demo's queries has an exact, a near and no answer."""
    workspace = open_workspace(settings, demo.RUN_DATE)
    raw = Path(workspace.path("raw_interactions")), Path(workspace.path("raw_catalog"))
    make_world(*raw, end_date=demo.RUN_DATE, days=demo.DAYS, user_count=users, items_per_category=300, seed=1)
    last = next(place for place, step in enumerate(STEPS) if step.name == "look_up_queries")
    manifest = run_steps(workspace, STEPS[: last + 1], console)
    rates = manifest["steps"][-1]["figures"]
    return {name: round(rates[f"{name}_rate"], 4) for name in ("memory_exact", "memory_near", "memory_none")}


def index_figures(settings: Settings, folder: Path, count: int, console: Console) -> dict[str, float]:
    """Return recall@10 of an approximate index of so many made-up queries, and the milliseconds of its look-ups and of exact ones."""
    rng = Random(5)
    known: set[str] = set()
    while len(known) < count:
        known.add(random_query(rng, random_title(rng, rng.choice(list(KINDS)))))
    spark, encoder = spark_session(settings, "bench-memory"), load_encoder(settings.memory.encoder)
    queries = spark.createDataFrame([(query,) for query in sorted(known)], "query string")
    vectors = embed_queries(queries, encoder=encoder, partitions=settings.spark.shuffle_partitions).select(
        f.lit("all").alias("category"), "query", "embedding", f.array(f.lit(_DAY)).alias("memory_dates")
    )
    folder.mkdir()
    (built,) = build_query_indexes(vectors, folder / "i", encoder=encoder, exact_up_to=count // 2).values()
    index = open_query_index(folder / "i", "all")
    exact = replace(index, exact_up_to=count)
    wanted = encoder.encode([_slip(query, rng) for query in rng.sample(sorted(known), min(ASKED, count))])
    seconds: dict[str, list[float]] = {"index": [], "exact": []}
    for _ in range(ROUNDS):
        for name, one in (("index", index), ("exact", exact)):
            start = time.monotonic()
            one.nearest(wanted, _DAY, _NEIGHBOURS)
            seconds[name].append(time.monotonic() - start)
    each = {f"{name}_ms_per_query": round(1000 * statistics.median(times) / len(wanted), 3) for name, times in seconds.items()}
    console.print(f"{count:,} queries: {built.kind} index built in {built.seconds:.1f} s, {each}", highlight=False)
    return {"index_queries": count, "index_recall_at_10": round(built.recall_at_10, 4), **each}


def _slip(query: str, rng: Random) -> str:
    place = rng.randrange(len(query))
    return query[:place] + query[place + 1 :] or query


if __name__ == "__main__":
    main()
