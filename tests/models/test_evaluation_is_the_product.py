"""The rank that the evaluation gives an item is the place at which the product shows it."""

from itertools import product

import numpy as np
import pytest

from fashionrec.index_folders import slug
from fashionrec.metrics import NOT_RANKED
from fashionrec.retrieval.fusion import FUSION, MIXUP, SERVED, Fusion, Weights
from fashionrec.retrieval.indexes import load_index
from fashionrec.retrieval.lists import Retrieval, ranked_targets, served_lists
from tests.unit.category_made import ATTRIBUTES, TONIGHT, batch_of, buy, category, click, drawn, session_drawn

NAMES = [f"{n:02}" for n in range(40)]
UNTRAINED = NAMES[30:]
# The last ones are out of stock tonight; some others were, weeks ago, and one was not on sale yet.
SOLD_OUT, SOLD_OUT_EARLIER, NEW = NAMES[37:], NAMES[10:13], NAMES[20]
EARLIER = TONIGHT - 20
REQUESTS = (
    "example_id string, user_id string, category string, horizon string, as_of int, "
    "touched array<struct<item_id: string, day: int, bought: boolean>>, elsewhere array<array<string>>, queries array<string>, "
    "remembered array<struct<place: int, item_id: string, score: float>>, item_id string, title string, log_prob float, "
    "user long, protocols array<string>, target_item_id string, target_bought_before boolean"
)
COLUMNS = (
    *("example_id", "user_id", "category", "horizon", "as_of", "touched", "elsewhere", "queries", "remembered", "item_id", "title"),
    *("log_prob", "user", "protocols", "target_item_id", "target_bought_before"),
)
PATHS = {
    "of all kinds": {
        "touched": [click("03"), buy("07", TONIGHT - 3), click("33", TONIGHT - 4), buy("38", TONIGHT - 9), click("gone", TONIGHT - 9)],
        "queries": ["a bag 12"],
        "remembered": [{"place": 0, "item_id": "15", "score": 0.9}, {"place": 0, "item_id": "38", "score": 0.4}],
        "elsewhere": [["red", None]],
        "item_id": "05",
        "title": "a title 7",
        "log_prob": -0.5,
    },
    "answered with what nobody trained": {"queries": ["a bag 1"], "item_id": "33", "title": "a title 3", "log_prob": -1.0},
    "answered with what was bought": {"touched": [buy("07")], "item_id": "07", "title": "item 07", "log_prob": -1.0},
    "answered with what is no item": {"touched": [click("01")], "item_id": "unknown", "title": "a title 9", "log_prob": -3.0},
    "not answered": {"touched": [click("02"), click("04")]},
    "earlier": {
        "as_of": EARLIER,
        "touched": [buy("07", EARLIER - 2), click("11", EARLIER - 3)],
        "item_id": "12",
        "title": "a title 2",
        "log_prob": -0.1,
    },
    "empty": {"horizon": "overnight"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A category of 40 items, the last 10 unknown to the ID space, and purchases of 30 shoppers."""
    folder, dice = tmp_path_factory.mktemp("indexes"), np.random.default_rng(3)
    items = [
        {
            "item_id": name,
            "title": f"item {name}",
            "in_stock": name not in SOLD_OUT,
            "family": f"family {n // 3}",
            "price": 5.0 + n,
            "on_sale_from": TONIGHT - 5 if name == NEW else 0,
            "sold_out": [EARLIER] if name in SOLD_OUT_EARLIER else [],
            "tastes": [("red", "blue", "green")[n % 3], ("slim", "wide")[n % 2]],
        }
        for n, name in enumerate(NAMES)
    ]
    bought = [(f"u{n % 30}", NAMES[dice.integers(40)], TONIGHT - int(dice.integers(100))) for n in range(300)]
    category(folder, items, bought, encode=drawn, untrained=UNTRAINED, cold="cold")
    return folder


def fusion_of(serves, retrieval, folder, m=1):
    """Return a fusion that serves a method, with weights drawn for all features."""
    names, _, _ = retrieval.retrieve(batch_of({}), "Bags", load_index(folder / slug("Bags"))).known
    dice = np.random.default_rng(8)

    def weights():
        return {name: float(weight) for name, weight in zip(names, dice.normal(size=len(names)), strict=True)}

    learnt = Weights(common=weights(), categories={"Bags": weights()}, states={"empty": weights(), "overnight": weights()})
    return Fusion(serves=serves, why="", mixup_m={"": m}, weights={FUSION: learnt}, rivals={}, attributes=ATTRIBUTES, made_with={})


def requests(spark, names, targets):
    plain = {"horizon": "in_session", "as_of": TONIGHT, "touched": [], "elsewhere": None, "queries": [], "remembered": None}
    plain |= {"item_id": None, "title": None, "log_prob": None, "category": "Bags", "user": 1, "protocols": ["leave_one_out"]}
    rows = []
    for name, target in product(names, targets):
        path = {**plain, **PATHS[name], "example_id": f"{name}/{target}", "user_id": name, "target_item_id": target}
        bought = {one["item_id"] for one in path["touched"] if one["bought"]}
        rows.append({**path, "target_bought_before": target in bought})
    return spark.createDataFrame([tuple(row[name] for name in COLUMNS) for row in rows], REQUESTS)


@pytest.mark.parametrize("again", [(), ("Bags",)], ids=["nothing again", "bought again"])
@pytest.mark.parametrize(("serves", "m"), [(FUSION, 1), *((MIXUP, m) for m in (0, 1, 3)), ("memory", 1), ("session", 1)], ids=str)
def test_every_item_has_the_rank_of_its_place_in_the_list_that_is_shown(spark, folder, serves, m, again):
    retrieval = Retrieval(folder, drawn, session_drawn, candidates=12, attributes=ATTRIBUTES, bought_again=again)
    fusion = fusion_of(serves, retrieval, folder, m)
    shown = served_lists(requests(spark, PATHS, NAMES[:1]), retrieval, fusion, per_category=len(NAMES), partitions=2).collect()
    places = {(row.user_id, row.item_id): row["rank"] for row in shown}
    ranked = ranked_targets(requests(spark, PATHS, [*NAMES, "gone"]), retrieval, fusion, (SERVED,), partitions=2).collect()
    ranks = {tuple(row.example_id.split("/")): row["rank"] for row in ranked}
    assert ranks == {key: places.get(key, NOT_RANKED) for key in product(PATHS, [*NAMES, "gone"])}

    lists = {name: {item for user, item in places if user == name} for name in PATHS}
    assert all(len(items) >= 12 for items in lists.values())
    assert not set().union(*(lists[name] for name in PATHS if name != "earlier")) & set(SOLD_OUT), "out of stock tonight"
    assert not lists["earlier"] & {*SOLD_OUT_EARLIER, NEW}, "and that evening"
    touched = {
        name: {one["item_id"] for one in PATHS[name].get("touched", ()) if again != ("Bags",) or not one["bought"]} for name in PATHS
    }
    assert not [name for name in PATHS if lists[name] & touched[name]]
    if again and serves == FUSION:
        assert "07" in lists["answered with what was bought"]
    known = {tuple(row.example_id.split("/")): row.target_known for row in ranked}
    assert not known["of all kinds", "gone"]
    assert known["answered with what was bought", "07"] == bool(again)
    counts = {row.example_id.split("/")[0]: row.item_count for row in ranked}
    assert (counts["empty"], counts["earlier"]) == (37, 36)


def test_equal_vectors_have_equal_scores_to_the_last_bit(spark, tmp_path):
    # All items of one title: whoever of them is asked for is as near, and in the order of their IDs.
    items = [{"item_id": name, "title": "all alike", "family": name} for name in NAMES]
    category(tmp_path, items, encode=drawn)
    retrieval = Retrieval(tmp_path, drawn, session_drawn, candidates=len(NAMES), attributes=ATTRIBUTES, bought_again=())
    fusion = fusion_of("answer_title", retrieval, tmp_path)
    shown = served_lists(requests(spark, ["answered with what is no item"], ["05"]), retrieval, fusion, per_category=40, partitions=1)
    assert [row.item_id for row in shown.orderBy("rank").collect()] == [name for name in NAMES if name != "01"]


@pytest.mark.parametrize("serves", [FUSION, MIXUP, "memory"])
def test_where_all_is_out_of_stock_nothing_is_shown_and_nothing_found(spark, tmp_path, serves):
    category(tmp_path, [{"item_id": name, "title": f"item {name}", "in_stock": False} for name in NAMES[:5]], encode=drawn)
    retrieval = Retrieval(tmp_path, drawn, session_drawn, candidates=12, attributes=ATTRIBUTES, bought_again=())
    fusion = fusion_of(serves, retrieval, tmp_path)
    asked = requests(spark, ["of all kinds", "empty"], ["00"])
    assert served_lists(asked, retrieval, fusion, per_category=5, partitions=1).collect() == []
    ranked = ranked_targets(asked, retrieval, fusion, (SERVED, MIXUP, "session"), partitions=1).collect()
    assert [(row["rank"], row.item_count, row.target_known) for row in ranked] == [(NOT_RANKED, 0, True)] * 6
