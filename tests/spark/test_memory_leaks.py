"""No example's memory knows what came after it or the example's own purchase, and a path is answered alike when scored and when learnt."""

from dataclasses import replace
from datetime import date

import pytest
from pyspark.sql import functions as f
from rich.console import Console

from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.steps import memory, prompts, sequences
from tests.builders import click, purchase, put, run_of, search
from tests.conftest import RUN_DATE
from tests.spark.test_sequence_steps import given

pytestmark = pytest.mark.usefixtures("ungated")

STEPS = [*sequences.STEPS, *memory.STEPS, *prompts.STEPS]
# Each day has a memory of its own, so that one day too many would be seen.
DAILY = "memory.as_of_every_days=1"

# What others asked and were shown long before, remembered as "wide hat" -> a.
BEFORE = [search(f"2026-02-{day} 09:00", "wide hat", results=["a"], user_id=user) for day, user in ((10, "v"), (11, "w"))]
# The example: its own search shows b, which is then bought.
OWN = [
    search("2026-02-26 10:00", "wide hat", results=["b", "c"]),
    click("2026-02-26 10:01", "c"),
    purchase("2026-02-26 10:05", "b"),
]
FUTURE = [
    search("2026-02-26 11:00", "wide hat", results=["d"], user_id="v"),
    search("2026-02-27 09:00", "wide hat", results=["d"], user_id="w"),
    purchase("2026-02-27 09:01", "d", user_id="w"),
]


@pytest.fixture
def example(make_run):
    """Return a function from events to the prompt of user u's last purchase and the memory's answer to it."""

    def make(*events):
        run = make_run(DAILY)
        given(run, *events)
        run_steps(run.workspace, STEPS, Console(quiet=True))
        prompt, hit = (run.spark.read.format("delta").load(run.workspace.path("lake", table)) for table in ("prompts", "query_hits"))
        (row,) = prompt.where((f.col("split") == "test") & f.col("user_id").startswith("u")).collect()
        (answer,) = hit.where(f.col("as_of_date") == date(2026, 2, 25)).collect()
        return row, [product.item_id for product in answer.products], answer.match

    return make


def test_neither_the_future_nor_the_examples_own_pair_is_in_its_memory(example):
    prompt, products, match = example(*BEFORE, *OWN, *FUTURE)
    assert prompt.target_item_id == "b"
    assert (match, products) == ("exact", ["a"])
    assert "Item a" in prompt.prompt
    assert "Item b" not in prompt.prompt
    assert "Item d" not in prompt.prompt


@pytest.mark.parametrize("every_days", [1, 7])
def test_a_path_is_answered_alike_when_it_is_scored_and_when_it_is_learnt(make_run, every_days):
    def evening(user, query):
        return [search("2026-02-25 10:00", query, results=["c"], user_id=user), click("2026-02-25 10:01", "c", user_id=user)]

    # On the day of the purchase u only buys; t looks around, too.
    looks_around = [{**event, "user_id": "t", "event_id": f"t {event['event_id']}"} for event in OWN]
    # Asked in the week that the day of the score lies in, which a later run sees whole.
    since = [search(f"2026-02-{day} 09:00", "wide hat", results=["e", "a"], user_id=user) for day, user in ((23, "x"), (25, "y"))]
    run = make_run(f"memory.as_of_every_days={every_days}")
    given(run, *BEFORE, *since, *evening("u", "wide hats"), *OWN[2:], *evening("t", "hats, wide"), *looks_around, *FUTURE)
    seen = {}
    for day, split in ((date(2026, 2, 25), "score"), (RUN_DATE, "test")):
        of_day = run_of(replace(run.workspace, run_date=day))
        # What was in stock when the path was scored, nobody knows when it is learnt.
        sold_out = (f.col("item_id") == "a") & (f.lit(split) == "score")
        put(of_day.workspace, "items", run.read("items").drop("run_date").withColumn("in_stock", ~sold_out))
        run_steps(of_day.workspace, STEPS, Console(quiet=True))
        prompt, sequence = (run.spark.read.format("delta").load(run.workspace.path("lake", table)) for table in ("prompts", "sequences"))
        rows = prompt.join(sequence.select("run_date", "example_id", "horizon"), ["run_date", "example_id"])
        rows = rows.where((f.col("run_date") == f.lit(day)) & (f.col("split") == split) & f.col("user_id").rlike("^[tu]")).collect()
        seen |= {(row.user_id[0], split, row.horizon): row.prompt for row in rows}
    assert len(seen) == 2 + 4
    assert "Item a" in seen["u", "score", "overnight"]
    assert seen["u", "test", "in_session"] == seen["u", "test", "overnight"] == seen["u", "score", "overnight"]
    assert seen["t", "test", "in_session"] != seen["t", "test", "overnight"] == seen["t", "score", "overnight"]
