"""A small shop for the tests of steps that need models, items and paths, run one by one in a folder of its own."""

import json
from datetime import UTC, date, datetime, timedelta
from io import StringIO

from rich.console import Console

from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import Workspace
from tests.builders import RUN_DATE, action, put, put_versions, table_rows, workspace_in

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
TITLES = {item["item_id"]: item["title"] for item in ITEMS}
SMALL = ("embeddings.dim=16", "embeddings.core.epochs=3", "embeddings.title.epochs=3", "recommend.per_category=6")
BOUGHT_AT = datetime(2026, 2, 28, 12, 5, tzinfo=UTC)


def examples():
    """Yield a training path to every item, and validation and test paths to a quarter of them each, of either horizon."""
    for number, item in enumerate(ITEMS):
        before = ITEMS[number - 1]["item_id"] if number % 20 else ITEMS[number + 1]["item_id"]
        query = f"{item['colour']} {NOUNS[item['category']]}"
        held_out = {0: "validation", 1: "test"}.get(number % 4)
        for split, horizon in [("train", "in_session"), *((held_out, horizon) for horizon in ("in_session", "overnight") if held_out)]:
            # What was done the day before is known overnight.
            at = {} if horizon == "in_session" else {"event_at": datetime(2026, 2, 27, 12, tzinfo=UTC)}
            yield path(
                f"{split}{number}",
                item["category"],
                action("search", query=query, **at),
                action(item_id=before, **at),
                split=split,
                horizon=horizon,
                target_item_id=item["item_id"],
                target_title=item["title"],
            )


def path(user, category, *actions, split="score", horizon="overnight", **fields):
    """Return a path whose example is named by its user, category and horizon."""
    held_out = {"target_at": BOUGHT_AT, "as_of_date": date(2026, 2, 27)} if split != "score" else {}
    names = {"example_id": f"{user}{category}{horizon}", "user_id": pseudonym(user), "category": category, "split": split}
    return {**names, "horizon": horizon, "target_bought_before": False, "actions": list(actions), **held_out, **fields}


def prompt(path):
    """Return the prompt of a path, which nobody reads here."""
    target = path.get("target_item_id")
    kept = {name: path[name] for name in ("example_id", "user_id", "category", "split")}
    return {**kept, "target_item_id": target, "prompt": "who knows", "response": target and f"{target} | {path['target_title']}"}


def pseudonym(user):
    """Return a user ID as long as the tables want it, that a test can read."""
    return user.ljust(64, "_")


def register_llm(models, name, given=None, *, finds):
    """Register a language model without weights: it answers what is `given` by example, and else finds the purchase, or another item.

    The title that it answers is never that of the purchase.
    """
    folder = models.new_folder("llm", name)
    (folder / "answers.json").write_text(json.dumps({"given": given or {}, "finds": finds}))
    return models.register("llm", folder, {}, {"loss_after": 1.0}, {}, trained_for=RUN_DATE)


def answered_by(run, model, prompts):
    """Answer as the registered folder of a language model says, in place of an engine."""
    known, ids = json.loads((model.folder / "answers.json").read_text()), list(TITLES)
    rows = []
    for one in prompts.collect():
        other = ids[(ids.index(one.target_item_id) + 7) % len(ids)] if one.target_item_id in TITLES else "B00"
        found = [one.target_item_id if known["finds"] else other, TITLES[other]]
        item_id, title = known["given"].get(one.example_id, found)
        kept = {name: one[name] for name in ("example_id", "user_id", "category", "split", "target_item_id")}
        error = None if item_id else "no_title"
        rows.append({**kept, "item_id": item_id, "title": title, "parse_error": error, "model_version": model.label, "log_prob": -1.0})
    return table_rows(run.spark, "generations", *rows)


class World:
    """Steps run one by one in a folder of their own, on a date."""

    def __init__(self, spark, folder, run_date=RUN_DATE):
        self.spark, self.folder, self.run_date = spark, folder, run_date

    def workspace(self, *overrides) -> Workspace:
        return workspace_in(self.folder, self.spark, *SMALL, *overrides, run_date=self.run_date)

    def write(self, table, *rows):
        days = [row.get("event_date", self.run_date) for row in rows]
        put(self.workspace(), table, table_rows(self.spark, table, *rows), days=days)

    def write_versions(self, items):
        """Write since when items are described as they are: since the first catalogue of all, a month ago."""
        kept = ("item_id", "title", "category", "colour")
        put_versions(self.workspace(), *({name: item.get(name) for name in kept} for item in items), since=RUN_DATE - timedelta(days=30))

    def step(self, name, *overrides):
        manifest = run_steps(self.workspace(*overrides), [step_named(name)], Console(file=StringIO()))
        return manifest["steps"][0]

    def rows(self, table):
        return self.workspace().read(table).collect()
