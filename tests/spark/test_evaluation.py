"""What is made of ranks: means, intervals that are paired, and which purchases each way of asking counts."""

import math
from datetime import UTC, datetime

import pytest

from fashionrec.evaluate.protocol import METHODS, copying, coverage, methods_for, metric_rows, metric_sums, test_paths
from fashionrec.metrics import NOT_RANKED
from fashionrec.retrieval.fusion import FUSION, MIXUP, SERVED
from tests.builders import action, table_rows

RANKED = (
    "example_id string, category string, user long, horizon string, protocols array<string>, method string, rank int, item_count int, "
    "target_known boolean, id_known boolean, parsed boolean"
)
# pytest takes the function for a test by its name.
paths_to_test = test_paths
del test_paths


def example(
    name, category="Shoes", *, user=1, horizon="overnight", protocols=("leave_one_out",), item_count=10, facts=(True,) * 3, **ranks
):
    """Return an example's rows, one per method."""
    return [(name, category, user, horizon, list(protocols), method, rank, item_count, *facts) for method, rank in ranks.items()]


def rows_of(spark, *examples, k=5, partitions=1):
    ranked = spark.createDataFrame([row for one in examples for row in one], RANKED).repartition(partitions)
    return metric_rows(metric_sums(ranked, k=k).collect())


def by_key(rows, protocol="leave_one_out", horizon="overnight"):
    chosen = [row for row in rows if (row["protocol"], row["horizon"]) == (protocol, horizon)]
    return {(row["category"], row["method"], row["metric"]): row for row in chosen}


def test_all_counts_every_example_once_whatever_its_category(spark):
    found = by_key(
        rows_of(
            spark,
            example("1", user=1, fashionrec=1, session=3),
            example("2", user=2, fashionrec=6, session=NOT_RANKED),
            example("3", "Hats", user=3, item_count=7, fashionrec=NOT_RANKED, session=2),
        )
    )
    assert len(found) == 3 * 2 * 3
    assert found["Shoes", SERVED, "recall@5"]["value"] == 0.5
    assert found["all", SERVED, "recall@5"]["value"] == pytest.approx(1 / 3)
    assert found["all", SERVED, "mrr"]["value"] == pytest.approx((1 + 1 / 6) / 3)
    assert found["all", "session", "ndcg@5"]["value"] == pytest.approx((1 / 2 + 1 / math.log2(3)) / 3)
    assert found["Hats", "session", "mrr"]["value"] == 0.5
    assert (found["all", SERVED, "mrr"]["example_count"], found["all", SERVED, "mrr"]["item_count"]) == (3, 10)
    assert (found["Hats", SERVED, "mrr"]["example_count"], found["Hats", SERVED, "mrr"]["item_count"]) == (1, 7)


def test_lists_that_rank_alike_gain_nothing_for_sure_and_the_mailed_list_has_no_gain(spark):
    ranks = [1, 4, NOT_RANKED, 2, 9, 1]
    found = by_key(rows_of(spark, *(example(str(n), user=n, fashionrec=rank, session=rank) for n, rank in enumerate(ranks))))
    for metric in ("recall@5", "ndcg@5", "mrr"):
        same, mailed = found["all", "session", metric], found["all", SERVED, metric]
        assert (same["gain_low"], same["gain_high"]) == (0, 0)
        assert (mailed["gain_low"], mailed["gain_high"]) == (None, None)
        assert mailed["low"] < mailed["value"] < mailed["high"]
        assert (same["value"], same["low"], same["high"]) == (mailed["value"], mailed["low"], mailed["high"])


def test_a_gain_is_paired_and_so_surer_than_the_difference_of_two_intervals(spark):
    # Ours finds what the other finds, and one more of ten: the lists differ little, and shoppers much.
    found = by_key(
        rows_of(
            spark,
            *(
                example(str(n), user=n, fashionrec=1 if n % 2 else NOT_RANKED, session=1 if n % 2 and n % 10 != 1 else NOT_RANKED)
                for n in range(300)
            ),
        )
    )
    ours, other = found["all", SERVED, "recall@5"], found["all", "session", "recall@5"]
    assert (ours["value"], other["value"]) == (0.5, 0.4)
    assert 0.05 < other["gain_low"] < 0.1 < other["gain_high"] < 0.15
    assert ours["low"] < other["high"], "the two intervals overlap"


def test_a_shoppers_examples_are_resampled_together(spark):
    alone = [example(str(n), user=n, fashionrec=1 if n % 2 else NOT_RANKED) for n in range(200)]
    together = [example(str(n), user=n // 2, fashionrec=1 if n // 2 % 2 else NOT_RANKED) for n in range(200)]
    (first, second) = (by_key(rows_of(spark, *rows))["all", SERVED, "recall@5"] for rows in (alone, together))
    assert first["value"] == second["value"] == 0.5
    # Shoppers of two examples alike: half as many that are independent, and so an interval that is wider by the root of two.
    assert (second["high"] - second["low"]) / (first["high"] - first["low"]) == pytest.approx(math.sqrt(2), rel=0.15)


def test_a_shopper_of_two_categories_counts_as_one_in_all(spark):
    # In one category found, in the other not: whoever is drawn, all finds half.
    rows = rows_of(
        spark, *(example(f"{n}{c}", c, user=n, fashionrec=1 if c == "Hats" else NOT_RANKED) for n in range(40) for c in ("Hats", "Shoes"))
    )
    both = by_key(rows)["all", SERVED, "recall@5"]
    assert (both["low"], both["value"], both["high"]) == (0.5, 0.5, 0.5)


def test_each_way_of_asking_counts_its_own_examples(spark):
    rows = rows_of(
        spark,
        example("1", user=1, fashionrec=1),
        example("2", user=2, protocols=("leave_one_out", "by_time"), fashionrec=NOT_RANKED),
        example("3", user=3, horizon="in_session", protocols=("leave_one_out", "by_time", "another_day"), fashionrec=1),
        example("4", user=4, horizon="in_session", protocols=("leave_one_out",), fashionrec=2),
    )
    counts = {(row["protocol"], row["horizon"]): (row["example_count"], row["value"]) for row in rows if row["metric"] == "mrr"}
    assert counts == {
        ("leave_one_out", "overnight"): (2, 0.5),
        ("by_time", "overnight"): (1, 0),
        ("leave_one_out", "in_session"): (2, 0.75),
        ("by_time", "in_session"): (1, 1),
        ("another_day", "in_session"): (1, 1),
    }


def test_how_the_rows_are_spread_changes_no_figure(spark):
    examples = [example(str(n), "ABC"[n % 3], user=n // 2, fashionrec=n % 7, session=n % 5, item_count=n) for n in range(60)]
    rows = {partitions: sorted(rows_of(spark, *examples, partitions=partitions), key=str) for partitions in (1, 4)}
    assert rows[1] == rows[4]
    assert rows_of(spark, *examples[::-1], partitions=4) == rows_of(spark, *examples[::-1], partitions=4)


def test_the_learnt_list_has_a_row_of_its_own_where_it_does_not_serve():
    assert methods_for(FUSION) == METHODS
    for serves in (MIXUP, "session"):
        assert methods_for(serves) == (SERVED, FUSION, *METHODS[1:])
    assert METHODS[0] == SERVED


def at(day, hour):
    return datetime(2026, 2, day, hour, tzinfo=UTC)


def test_the_paths_to_test_and_the_protocols_that_each_belongs_to(spark):
    before, same_day = [action(event_at=at(19, 9))], [action(event_at=at(20, 9))]
    rows = {
        "old": {"split_by_time": "train", "actions": same_day},
        "new": {"split_by_time": "test", "actions": same_day},
        "from another day": {"split_by_time": "train", "actions": before},
        "new, from another day": {"split_by_time": "test", "actions": before},
        "overnight": {"split_by_time": "test", "actions": before, "horizon": "overnight"},
        "overnight, nothing known": {"split_by_time": "train", "actions": [], "horizon": "overnight"},
        "validation": {"split": "validation", "split_by_time": "test", "actions": same_day},
        "of tonight": {"split": "score", "split_by_time": "score", "target_item_id": None, "target_at": None, "actions": before},
    }
    plain = {"split": "test", "horizon": "in_session", "target_item_id": "a", "target_at": at(20, 12)}
    paths = table_rows(spark, "sequences", *({**plain, "example_id": name, **row} for name, row in rows.items()))
    assert {row.example_id: row.protocols for row in paths_to_test(paths).collect()} == {
        "old": ["leave_one_out"],
        "new": ["leave_one_out", "by_time"],
        "from another day": ["leave_one_out", "another_day"],
        "new, from another day": ["leave_one_out", "by_time", "another_day"],
        "overnight": ["leave_one_out", "by_time"],
        "overnight, nothing known": ["leave_one_out"],
    }


def test_what_the_metrics_stand_on_is_counted_once_per_example(spark):
    facts = {
        "1": (True, True, True),
        "2": (False, True, True),
        "3": (True, False, True),
        "4": (True, False, False),
        "5": (True, False, False),
    }
    examples = [example(name, facts=fact, fashionrec=1, session=2) for name, fact in facts.items()]
    counted = coverage(spark.createDataFrame([row for one in examples for row in one], RANKED))
    assert counted == {"test_examples": 5, "targets_missing": 1, "answers_missing": 2, "ids_unknown": 1}


def test_answers_that_copy_an_id_of_their_prompt_are_counted(spark):
    prompt = "clicked: 12 | Red dress\n1. 345 | Blue dress, 9\nAnswer:\n"
    rows = {
        "copied": ("12", "345"),
        "invented": ("2", "12"),
        "of a longer ID": ("34", "5"),
        "no product": ("9", "6"),
        "unreadable": (None, "12"),
    }
    answers = [{"example_id": name, "item_id": item, "target_item_id": target} for name, (item, target) in rows.items()]
    prompts = [{"example_id": name, "prompt": prompt} for name in [*rows, "not asked"]]
    counted = copying(table_rows(spark, "generations", *answers), table_rows(spark, "prompts", *prompts))
    assert counted == {"ids_copied": 1, "targets_named": 3, "targets_named_copied": 1}
