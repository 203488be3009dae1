"""The synthetic world keeps the raw contract and shows what the paper says of fashion."""

import gzip
import json
import math
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

import pytest

from fashionrec.ingest.world import make_world
from fashionrec.ingest.world_words import CATEGORIES, FASHION
from fashionrec.lake.spec import table_spec

END = date(2026, 3, 1)


def make(folder: Path, seed: int = 1, **size: int) -> dict[str, int]:
    return make_world(
        folder / "interactions",
        folder / "catalog",
        end_date=END,
        seed=seed,
        **{"days": 30, "user_count": 200, "items_per_category": 80, **size},
    )


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("*/*.jsonl.gz")) for line in gzip.open(path, "rt", encoding="utf-8")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return (counts, events, items by ID) of a world of 200 users."""
    folder = tmp_path_factory.mktemp("world")
    counts = make(folder)
    return counts, lines(folder / "interactions"), {item["item_id"]: item for item in lines(folder / "catalog")}


def test_the_same_arguments_give_the_same_bytes_and_another_seed_another_world(tmp_path):
    def files(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.gz")}

    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make(tmp_path / name, seed, user_count=20, days=10)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert files(tmp_path / "a") != files(tmp_path / "c")


def test_rows_have_the_columns_of_the_contract_and_each_day_has_a_folder(world, tmp_path):
    counts, events, items = world
    assert list(events[0]) == [column.name for column in table_spec("raw_interactions").columns if column.name != "marketplace"]
    assert list(next(iter(items.values()))) == [column.name for column in table_spec("raw_catalog").columns]
    assert len({event["event_id"] for event in events}) == len(events) == counts["events"]
    assert len({event["event_at"][:10] for event in events}) == 30
    assert max(event["event_at"] for event in events) < "2026-03-02"
    assert Counter(item["category"] for item in items.values()) == dict.fromkeys(CATEGORIES[FASHION], 80)
    assert all(len(item["title"]) <= 80 and "|" not in item["title"] and item["title"].isprintable() for item in items.values())
    assert all(len(item_id) == 6 and item_id.isdigit() for item_id in items)


def test_nobody_sees_or_buys_an_item_before_it_is_on_sale(world):
    _, events, items = world
    for event in events:
        for item_id in event["results"] or [event["item_id"]]:
            assert items[item_id]["first_available_date"] <= event["event_at"][:10]


def test_every_user_acts_and_most_buy_three_times_in_one_category(world):
    counts, events, items = world
    bought = defaultdict(Counter)
    for event in events:
        bought[event["user_id"]].update([items[event["item_id"]]["category"]] if event["action"] == "purchase" else [])
    assert len(bought) == counts["users"]
    assert sum(max(categories.values(), default=0) >= 3 for categories in bought.values()) > 0.6 * counts["users"]


def test_the_top_products_of_a_query_predict_the_purchase_and_popularity_alone_does_not(world):
    _, events, items = world
    exposure, sold, query = defaultdict(Counter), defaultdict(Counter), {}
    by_query = by_popularity = purchases = 0
    for event in events:
        user, item = event["user_id"], event["item_id"]
        if event["action"] == "search":
            query[user] = event["query"]
            for place, shown in enumerate(event["results"], start=1):
                exposure[event["query"]][shown] += 1 / math.log2(1 + place)
        elif event["action"] == "purchase":
            category = items[item]["category"]
            purchases += 1
            by_query += item in dict(exposure[query[user]].most_common(5))
            by_popularity += item in dict(sold[category].most_common(5))
            sold[category][item] += 1
    assert by_query > 0.6 * purchases
    assert by_popularity < 0.4 * purchases


def test_a_world_may_be_tiny(tmp_path):
    for seed in range(10):
        counts = make(tmp_path, seed, days=1 + seed % 2, user_count=3, items_per_category=1 + seed % 4)
        assert counts["events"] >= counts["searches"] >= 3
