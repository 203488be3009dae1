"""The synthetic world keeps the raw contract and shows what the paper says of fashion."""

import gzip
import json
import math
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fashionrec.characteristics.figures import PAPER
from fashionrec.errors import UserError
from fashionrec.lake.spec import table_spec
from fashionrec.sources.world.shop import TABLE_1, make_table_1_world, make_world
from fashionrec.sources.world.words import CATEGORIES, FASHION, VERTICALS, brands

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


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    """Return (counts, events, items by ID, catalogues by date) of a year with all verticals, in Parquet, a robot of 300 events in it."""
    folder = tmp_path_factory.mktemp("year")
    counts = make_table_1_world(
        folder / "interactions",
        folder / "catalog",
        end_date=END,
        days=365,
        scale=0.005,
        seed=1,
        verticals=("fashion", "electronics", "toys"),
        heavy_user_events=300,
    )
    events = [row for path in sorted(folder.glob("interactions/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    catalogues = {
        path.parent.name: {row["item_id"]: row for row in pq.read_table(path).to_pylist(maps_as_pydicts="strict")}
        for path in sorted(folder.glob("catalog/*/*.parquet"))
    }
    assert (folder / "SYNTHETIC").exists()
    return counts, events, {name: item for one in catalogues.values() for name, item in one.items()}, catalogues


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


def test_a_part_of_table_1_has_its_proportions(year):
    counts, events, items, _ = year
    category = {name: item["category"] for name, item in items.items()}
    home = {event["user_id"]: category[event["item_id"]] for event in events if event["item_id"]}
    users, lengths = Counter(home.values()), Counter(home[event["user_id"]] for event in events)
    for name, (user_count, item_count, event_count) in TABLE_1.items():
        assert users[name] == pytest.approx(0.005 * user_count, rel=0.15, abs=15)
        assert lengths[name] == pytest.approx(0.005 * event_count, rel=0.15, abs=350)  # the robot is in Clothing
        assert Counter(category.values())[name] == pytest.approx(0.005 * item_count, rel=0.01)
    assert counts["events"] == len(events)


def test_items_come_and_go_and_are_described_anew(year):
    _, events, _, catalogues = year
    days = [date.fromisoformat(day) for day in catalogues]
    assert days[0] == END - timedelta(days=364)
    assert days[-1] == END
    assert max(b - a for a, b in pairwise(days)) == timedelta(days=30)
    first, last = (catalogues[str(day)] for day in (days[0], days[-1]))
    came, left = last.keys() - first.keys(), first.keys() - last.keys()
    assert len(came) == pytest.approx(len(left), rel=0.3)
    assert min(len(came), len(left)) > 0.2 * len(last)
    anew = [name for name in first.keys() & last.keys() if first[name]["title"] != last[name]["title"]]
    assert 0 < len(anew) < 0.5 * len(last)
    assert all(last[name]["size"] in last[name]["title"] for name in anew)
    assert any(first[name]["price"] != last[name]["price"] for name in first.keys() & last.keys())
    assert all(len(item["title"]) <= 80 for one in (first, last) for item in one.values())
    # What is bought is in the catalogue before it, or in the one after it: items may come and be bought between two.
    for event in events:
        if event["action"] == "purchase":
            at = event["event_at"][:10]
            around = [max(day for day in catalogues if day <= at), min((day for day in catalogues if day > at), default=str(END))]
            assert any(event["item_id"] in catalogues[day] for day in around)


def test_new_items_a_month_have_the_paper_s_ratios_for_as_many_on_sale(year):
    _, _, items, catalogues = year
    vertical = {name: vertical for vertical, names in CATEGORIES.items() for name in names}
    start = str(END - timedelta(days=364))
    new = Counter(vertical[item["category"]] for item in items.values() if item["first_available_date"] > start)
    on_sale = Counter(vertical[item["category"]] for item in catalogues[str(END)].values())
    for name in ("electronics", "toys"):
        assert on_sale[FASHION] == pytest.approx(on_sale[name], rel=0.1)
        assert new[FASHION] / new[name] == pytest.approx(VERTICALS[name].new_items, rel=0.15)


def test_different_queries_a_day_have_the_paper_s_ratios(year):
    _, events, items, _ = year
    vertical = {name: vertical for vertical, names in CATEGORIES.items() for name in names}
    typed = defaultdict(set)
    for event in events:
        if event["action"] == "search":
            typed[vertical[items[event["results"][0]]["category"]]].add((event["event_at"][:10], event["query"]))
    for name in ("electronics", "toys"):
        assert len(typed[FASHION]) / len(typed[name]) == pytest.approx(VERTICALS[name].queries, rel=0.03)


def test_a_wish_has_many_wordings(year):
    _, events, _, _ = year
    asked = {event["query"] for event in events if event["query"]}
    wish = "black wrap dress"
    assert {wish, f"womens {wish}", "dress black", "wrap dress black"} <= asked
    assert any(query.startswith(f"{wish} size ") for query in asked)
    assert any(sorted(query) == sorted(wish) for query in asked - {wish, "wrap dress black"}), "a slip of the finger"


def test_paid_places_are_marked_and_have_no_organic_position(year):
    _, events, _, _ = year
    searches = [event for event in events if event["action"] == "search"]
    assert 0.1 < sum(bool(event["sponsored_results"]) for event in searches) / len(searches) < 0.4
    for event in searches:
        assert set(event["sponsored_results"]) <= set(event["results"])
        assert len(set(event["results"])) == len(event["results"]) <= 14
        assert event["sponsored"] is None
    page = {}
    for event in events:
        if event["action"] == "search":
            page[event["user_id"]] = event
        elif event["sponsored"]:
            assert event["position"] is None
        else:
            organic = [name for name in page[event["user_id"]]["results"] if name not in page[event["user_id"]]["sponsored_results"]]
            # Journeys of one user may overlap: the page is the latest search only where the item is on it.
            assert event["item_id"] not in organic or organic.index(event["item_id"]) + 1 == event["position"]


def test_the_last_user_is_a_robot(year):
    counts, events, _, _ = year
    robot = [event for event in events if event["user_id"] == f"user-{counts['users'] - 1:05d}"]
    times = [datetime.fromisoformat(event["event_at"]) for event in robot]
    assert len(robot) == 300
    assert (max(times) - min(times)).total_seconds() < 300 / 2 + 2
    assert counts["users"] == len({event["user_id"] for event in events})


def test_names_of_brands_are_all_different():
    names = [brand.name for brand in brands(10_000)]
    assert len(names) == len(set(names)) == 8_290


def test_an_unknown_vertical_is_named(tmp_path):
    with pytest.raises(UserError, match="no vertical 'garden'; there are fashion, electronics, toys"):
        make_table_1_world(tmp_path / "i", tmp_path / "c", end_date=END, days=5, scale=0.001, seed=1, verticals=("garden",))


def test_the_worlds_ratios_are_those_of_the_paper_with_which_the_characteristics_are_compared():
    others = {name: vertical for name, vertical in VERTICALS.items() if name != FASHION}
    assert {
        "c1_turnover": {name: one.new_items for name, one in others.items()},
        "c2_comparison": {name: one.actions for name, one in others.items()},
        "c4_queries": {name: one.queries for name, one in others.items()},
    } == PAPER
