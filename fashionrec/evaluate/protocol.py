"""The evaluation: purchases that were hidden, ranked among ALL items of their category on sale that day (paper section 5.1)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from fashionrec.metrics import interval, ndcg_at_k, recall_at_k, reciprocal_rank, resampled_sums
from fashionrec.prompts.answer import SEPARATOR
from fashionrec.retrieval.candidates import SOURCES
from fashionrec.retrieval.fusion import FUSION, MIXUP, SERVED, WITHOUT_LLM

# What is mailed, and what it is compared with.
METHODS = (SERVED, WITHOUT_LLM, MIXUP, *SOURCES)
# leave_one_out: the last purchase of every path. by_time: of these, the purchases of the newest days. another_day: of these, the purchases
# before which nothing else was done that day.
PROTOCOLS = ("leave_one_out", "by_time", "another_day")
_SUMS = (
    "category string, protocol string, horizon string, method string, metric string, value double, examples long, items long, "
    "sums array<double>, draws array<double>"
)


def methods_for(serves: str) -> tuple[str, ...]:
    """Return the rows of the evaluation; the learnt list has one of its own where it does not serve."""
    return METHODS if serves == FUSION else (SERVED, FUSION, *METHODS[1:])


def test_paths(sequences: DataFrame) -> DataFrame:
    """Return the test paths of both horizons with `protocols`, those that they belong to."""
    is_by_time = f.col("split_by_time") == "test"
    touched = f.exists("actions", lambda action: action["event_at"] >= f.date_trunc("day", "target_at"))
    is_another_day = (f.size("actions") > 0) & ~touched
    names = [
        f.lit("leave_one_out"),
        f.when(is_by_time, "by_time"),
        f.when((f.col("horizon") == "in_session") & is_another_day, "another_day"),
    ]
    tested = sequences.where("split = 'test'")
    return tested.withColumn("protocols", f.array_compact(f.array(*names)))


def metric_sums(ranked: DataFrame, *, k: int) -> DataFrame:
    """Return per category, protocol, horizon, method and metric what the rows of `evaluations` are made of, from ranked targets.

    `value` is the sum over examples, `sums` the same in bootstrap samples of shoppers, `draws` how many examples each sample has.
    """

    def of_category(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(list(_sums(rows, k)), columns=[column.split()[0] for column in _SUMS.split(", ")])

    return ranked.groupBy("category").applyInPandas(of_category, _SUMS)


def _sums(rows: pd.DataFrame, k: int) -> Iterable[tuple[Any, ...]]:
    category = str(rows.category.iloc[0])
    ranks = rows.pivot(index="example_id", columns="method", values="rank")
    examples = rows.drop_duplicates("example_id").set_index("example_id").loc[ranks.index]
    figures = {f"recall@{k}": recall_at_k(ranks.to_numpy(), k), f"ndcg@{k}": ndcg_at_k(ranks.to_numpy(), k)}
    figures["mrr"] = reciprocal_rank(ranks.to_numpy())
    for protocol in PROTOCOLS:
        belongs = np.array([protocol in names for names in examples.protocols], bool)
        for horizon in ("in_session", "overnight"):
            at = np.flatnonzero(belongs & (examples.horizon == horizon).to_numpy())
            if not len(at):
                continue
            users = examples.user.to_numpy()[at].astype(np.int64).view(np.uint64)
            values = np.concatenate([value[at] for value in figures.values()], axis=1)
            sums = resampled_sums(users, np.concatenate([values, np.ones((len(at), 1))], axis=1))
            columns = ((metric, place) for metric in figures for place in range(len(ranks.columns)))
            for number, (metric, place) in enumerate(columns):
                value = float(figures[metric][at, place].sum())
                items = int(examples.item_count.to_numpy()[at].max())
                yield (
                    *(category, protocol, horizon, ranks.columns[place], metric, value, len(at), items),
                    *(sums[:, number].tolist(), sums[:, -1].tolist()),
                )


def metric_rows(sums: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the rows of the table evaluations from those of `metric_sums`: each category, and "all" with every example counted once.

    The item count of "all" is that of its largest category: every example is ranked within its own.
    """
    held: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in sums:
        for category in (row["category"], "all"):
            key = (row["protocol"], row["horizon"], category, row["method"], row["metric"])
            total = held.setdefault(key, {"value": 0.0, "examples": 0, "items": 0, "sums": 0.0, "draws": 0.0})
            total["value"] += row["value"]
            total["examples"] += row["examples"]
            total["items"] = max(total["items"], row["items"])
            total["sums"] = total["sums"] + np.array(row["sums"])
            total["draws"] = total["draws"] + np.array(row["draws"])
    rows = []
    for (protocol, horizon, category, method, metric), total in held.items():
        # The same samples for both: what is left is the difference between the lists.
        gains = held[protocol, horizon, category, SERVED, metric]["sums"] - total["sums"]
        low, high = interval(total["sums"], total["draws"])
        gain_low, gain_high = (None, None) if method == SERVED else interval(gains, total["draws"])
        rows.append(
            {
                "protocol": protocol,
                "horizon": horizon,
                "category": category,
                "method": method,
                "metric": metric,
                "value": round(total["value"] / total["examples"], 9),
                "low": round(low, 9),
                "high": round(high, 9),
                "gain_low": gain_low if gain_low is None else round(gain_low, 9),
                "gain_high": gain_high if gain_high is None else round(gain_high, 9),
                "example_count": total["examples"],
                "item_count": total["items"],
            }
        )
    return rows


def coverage(ranked: DataFrame) -> dict[str, float]:
    """Return what the metrics stand on: test_examples (of both horizons); of them targets_missing (no item of the category, or bought
    before where that is excluded), answers_missing (no answer that could be read) and ids_unknown."""
    target_known, id_known, parsed = map(f.col, ("target_known", "id_known", "parsed"))
    counts = (
        ranked.where(f.col("method") == SERVED)
        .agg(
            f.count("*").alias("test_examples"),
            f.count_if(~target_known).alias("targets_missing"),
            f.count_if(~parsed).alias("answers_missing"),
            f.count_if(parsed & ~id_known).alias("ids_unknown"),
        )
        .first()
    )
    return counts.asDict() if counts else {}


def copying(answers: DataFrame, prompts: DataFrame) -> dict[str, int]:
    """Return how many answers have the ID of a product that their prompt names.

    ids_copied counts all of them; targets_named the answers whose prompt names the target; targets_named_copied the copies among these. A
    model that has no product by heart finds a target by its ID only by copying.
    """
    asked = answers.join(prompts.select("example_id", "prompt"), "example_id")
    copied, named = _names("item_id"), _names("target_item_id")
    counts = asked.agg(
        f.count_if(copied).alias("ids_copied"),
        f.count_if(named).alias("targets_named"),
        f.count_if(copied & named).alias("targets_named_copied"),
    ).first()
    return counts.asDict() if counts else {}


def _names(item_id: str) -> Column:
    return f.contains("prompt", f.concat(f.lit(" "), item_id, f.lit(SEPARATOR)))
