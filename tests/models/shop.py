"""A small shop for the tests of steps that need models, items and paths, run one by one in a folder of its own."""

from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import Workspace
from tests.builders import RUN_DATE, action, put, table_rows, workspace_in

NOUNS, COLOURS = {"Bags": "tote", "Shoes": "boot"}, ("red", "blue", "green", "black")
ITEMS = [
    {
        "item_id": f"{category[0]}{i:02}",
        "title": f"Acme {noun} {i}, {COLOURS[i % 4]}",
        "category": category,
        "price": 10.0 + i,
        "in_stock": i != 5,
        "colour": COLOURS[i % 4],
    }
    for category, noun in NOUNS.items()
    for i in range(20)
]
SMALL = ("embeddings.dim=16", "embeddings.core.epochs=3", "embeddings.title.epochs=3", "recommend.per_category=6")


def examples():
    for number, item in enumerate(ITEMS):
        before = ITEMS[number - 1]["item_id"] if number % 20 else ITEMS[number + 1]["item_id"]
        noun = NOUNS[item["category"]]
        actions = [action("search", query=f"{item['colour']} {noun}"), action(item_id=before)]
        target = {"target_item_id": item["item_id"], "target_title": item["title"], "target_at": datetime(2026, 2, 28, 12, 5, tzinfo=UTC)}
        for split in ("train", "validation") if number % 4 == 0 else ("train",):
            shopper = pseudonym(f"{split}{number}")
            yield {
                "example_id": f"{split}{number}",
                "user_id": shopper,
                "category": item["category"],
                "split": split,
                "actions": actions,
                **target,
            }


def pseudonym(user):
    """Return a user ID as long as the tables want it, that a test can read."""
    return user.ljust(64, "_")


class World:
    """Steps run one by one in a folder of their own."""

    def __init__(self, spark, folder):
        self.spark, self.folder = spark, folder

    def workspace(self, *overrides) -> Workspace:
        return workspace_in(self.folder, self.spark, *SMALL, *overrides)

    def write(self, table, *rows):
        days = [row.get("event_date", RUN_DATE) for row in rows]
        put(self.workspace(), table, table_rows(self.spark, table, *rows), days=days)

    def step(self, name, *overrides):
        manifest = run_steps(self.workspace(*overrides), [step_named(name)], Console(file=StringIO()))
        return manifest["steps"][0]

    def rows(self, table):
        return self.workspace().read(table).collect()
