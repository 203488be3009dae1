"""Prompts per second and core, through Spark: make bench-prompts [SCALE=0.1].

The examples are SYNTHETIC: 10,000 times SCALE shoppers, each with one path on 50,000 made-up products with attributes, and four examples
of it that share their actions, as purchases do; they have 12 to 13 actions on average, as in the paper's Table 1, and up to 50; each
search shows five products of the memory. They are rendered at 1,024 tokens from Parquet to Parquet by two tasks, once with the tiny base's
tokenizer and once with one of Falcon's size and rules (65,024 entries), after a small turn that takes start-up and compilation off the
figures. Then every prompt is counted again, as a whole, by its tokenizer. What the memory answers comes from memory.py. The last line is
JSON.
"""

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from falcon_like import falcon_like
from memory import memory_figures
from pyspark.sql import SparkSession
from rich.console import Console

from fashionrec.lake.session import spark_session
from fashionrec.prompts import load_calendar, load_template, token_counter
from fashionrec.prompts.build import build_prompts
from fashionrec.settings import Settings, load_settings, resource
from tools.tiny_base.text import ATTRIBUTES, random_query, random_title, random_word

SHOPPERS, PRODUCTS, QUERIES = 10_000, 50_000, 5_000
EXAMPLES_EACH = 4
RUN_DATE = date(2026, 3, 1)
CORES = 2
_CATEGORY = "Clothing"
_PARTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 10,000 shoppers")
    options = parser.parse_args()
    console = Console(width=160)
    with tempfile.TemporaryDirectory(prefix="fashionrec-bench-", dir=os.environ.get("TMPDIR")) as root:
        figures = {**prompt_figures(Path(root), options.scale, console), **memory_figures(Path(root), options.scale, console)}
    print(json.dumps(figures))


def prompt_figures(root: Path, scale: float, console: Console) -> dict[str, float]:
    """Return both speeds and the prompts above the budget."""
    make_world(root / "world", shoppers=int(SHOPPERS * scale), seed=7)
    make_world(root / "warm-up", shoppers=500, seed=8)
    overrides = [f"spark.master=local[{CORES}]", "spark.driver_memory=2g", "spark.java_options=-XX:+UseParallelGC"]
    settings = load_settings(resource("conf") / "test.yaml", overrides)
    spark = spark_session(settings, "bench-prompts")
    tokenizers = {"": Path(settings.llm.base.path), "falcon_vocabulary_": falcon_like(root / "falcon")}
    figures: dict[str, float] = {}
    over_budget = 0
    for name, tokenizer in tokenizers.items():
        _render(spark, settings, tokenizer, root / "warm-up", root / "out")
        cpu = _cpu_seconds()
        seconds, rows = _render(spark, settings, tokenizer, root / "world", root / "out")
        cpu = _cpu_seconds() - cpu
        speed = rows / (seconds * CORES)
        figures[f"{name}prompts_per_second_per_core"] = round(speed, 1)
        over_budget += _count_again(root / "out", tokenizer, settings, console)
        entries = len(json.loads((tokenizer / "tokenizer.json").read_text())["model"]["vocab"])
        console.print(
            f"{entries:,} entries: {rows:,} prompts in {seconds:.1f} s, {speed:,.0f}/s per core ({rows / cpu:,.0f} per CPU second)",
            highlight=False,
        )
    return {**figures, "prompts_over_budget": over_budget}


def _cpu_seconds() -> float:
    """Return the CPU time so far of this process, the JVM and its Python workers: on a shared machine, it says more than the clock."""
    me = psutil.Process()
    return sum(process.cpu_times().user + process.cpu_times().system for process in (me, *me.children(recursive=True)))


def _render(spark: SparkSession, settings: Settings, tokenizer: Path, world: Path, out: Path) -> tuple[float, int]:
    """Return the seconds from Parquet to Parquet, and the rows."""
    chosen = settings.prompts
    start = time.monotonic()
    prompts = build_prompts(
        spark.read.parquet(str(world / "sequences")),
        spark.read.parquet(str(world / "query_hits")),
        template=load_template(chosen.template),
        calendar=load_calendar(chosen.calendar),
        tokenizer_path=str(tokenizer),
        tokenizer_revision="",
        **chosen.model_dump(exclude={"template", "calendar", "memory"}),
    )
    prompts.write.mode("overwrite").parquet(str(out))
    return time.monotonic() - start, spark.read.parquet(str(out)).count()


def _count_again(out: Path, tokenizer: Path, settings: Settings, console: Console) -> int:
    """Return the prompts above the budget; exit where a count in the table is not that of the whole text."""
    count = token_counter(str(tokenizer), "").count
    budget = settings.prompts.max_tokens - settings.prompts.answer_tokens
    rows = pq.read_table(out, columns=["prompt", "token_count", "action_count", "dropped_action_count"]).to_pydict()
    real = [count(prompt) for prompt in rows["prompt"]]
    if real != rows["token_count"]:
        raise SystemExit("token_count is not what the tokenizer counts")
    means = {name: sum(rows[name]) / len(real) for name in ("token_count", "action_count", "dropped_action_count")}
    console.print("  " + ", ".join(f"{name} {mean:.0f} on average" for name, mean in means.items()), highlight=False)
    return sum(tokens > budget for tokens in real)


def make_world(folder: Path, *, shoppers: int, seed: int) -> None:
    """Write `sequences` and `query_hits` as Parquet, with the columns that prompts read."""
    rng = Random(seed)
    products = [_product(rng) for _ in range(PRODUCTS)]
    queries = sorted({random_query(rng, rng.choice(products)["title"]) for _ in range(QUERIES)})
    for part in range(_PARTS):
        rows = [row for shopper in range(part, shoppers, _PARTS) for row in _examples(rng, shopper, products, queries)]
        _write(folder / "sequences", part, rows, _SEQUENCES)
    for number, query in enumerate(queries):
        top = [{"item_id": p["item_id"], "title": p["title"], "score": 1.0} for p in rng.sample(products, 5)]
        queries[number] = {"query": query, "products": top}
    for back in range(EXAMPLES_EACH):
        day = {"as_of_date": RUN_DATE - timedelta(days=7 * back), "category": _CATEGORY}
        _write(folder / "query_hits", back, [{**day, **found} for found in queries], _HITS)


def _product(rng: Random) -> dict[str, Any]:
    further = {name: rng.choice(ATTRIBUTES[name]) for name in ("material", "season", "occasion") if rng.random() < 0.6}
    return {
        "item_id": f"{rng.randrange(10**9):010}",
        "title": random_title(rng, _CATEGORY),
        "brand": random_word(rng).capitalize(),
        "colour": rng.choice(ATTRIBUTES["colour"]),
        "size": rng.choice(ATTRIBUTES["size"]),
        "price": round(rng.lognormvariate(3.5, 1), 2),
        "attributes": [*further.items()],
    }


def _examples(rng: Random, shopper: int, products: list[dict[str, Any]], queries: list[str]) -> list[dict[str, Any]]:
    """Return the examples of one path: its whole as of today, and as it stood one, two and three weeks before."""
    # The examples then have 12 to 13 actions on average.
    length = min(50, 4 + int(rng.expovariate(1 / 11.5)))
    path = []
    for number in range(length):
        kind = rng.choices(("search", "click", "purchase"), (0.3, 0.6, 0.1))[0]
        # Some products are met far more often than others.
        about = {"query": rng.choice(queries)} if kind == "search" else products[int(PRODUCTS * rng.random() ** 3)]
        at = datetime(2026, 3, 1, 12, tzinfo=UTC) - timedelta(days=(length - number) * 60 // length, minutes=length - number)
        path.append({"action": kind, "event_at": at, "session_id": "s", "position": 1, **about})
    target = rng.choice(products)
    return [
        {
            "example_id": f"{shopper}-{back}",
            "user_id": str(shopper),
            "category": _CATEGORY,
            "split": "train" if back else "score",
            "as_of_date": RUN_DATE - timedelta(days=7 * back),
            "marketplace": rng.choice(("US", "DE", "AU", None)),
            "actions": path[: max(1, length - length * back // 8)],
            "target_item_id": target["item_id"] if back else None,
            "target_title": target["title"] if back else None,
        }
        for back in range(EXAMPLES_EACH)
    ]


def _write(folder: Path, part: int, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"part-{part}.parquet")


_TEXTS = ("action", "session_id", "query", "item_id", "title", "brand", "colour", "size")
_ACTION = pa.struct(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("event_at", pa.timestamp("us", "UTC")),
        ("position", pa.int32()),
        ("price", pa.float64()),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
_SEQUENCES = pa.schema(
    [
        *((name, pa.string()) for name in ("example_id", "user_id", "category", "split", "marketplace", "target_item_id", "target_title")),
        ("as_of_date", pa.date32()),
        ("actions", pa.list_(_ACTION)),
    ]
)
_PRODUCT = pa.struct([("item_id", pa.string()), ("title", pa.string()), ("score", pa.float64())])
_HITS = pa.schema([("as_of_date", pa.date32()), ("category", pa.string()), ("query", pa.string()), ("products", pa.list_(_PRODUCT))])


if __name__ == "__main__":
    main()
