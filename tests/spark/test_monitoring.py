"""A day beside the day before; the report that a run leaves."""

from datetime import UTC, date, datetime

import pytest

from fashionrec.pipeline.steps.monitor import MONITORED, monitor
from fashionrec.quality.health import ROW_COUNT
from fashionrec.reports.journeys import example_paths
from tests.builders import RUN_DATE, action, put, table_rows

YESTERDAY = date(2026, 2, 28)


def event(number, day, kind="purchase", **fields):
    return {
        "event_id": str(number),
        "user_id": "0" * 64,
        "event_date": day,
        "event_at": datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        "action": kind,
        **fields,
    }


def test_example_paths_show_each_shopper_once_and_the_richest_journey_of_each_category(spark):
    rich = [action("search", query="red"), action(title="Red <b>dress</b>", item_id="i"), action("purchase", title="Hat", item_id="j")]
    paths = table_rows(
        spark,
        "sequences",
        {"example_id": "poor", "user_id": "u", "category": "Shoes", "actions": [action(title="Boot")]},
        {"example_id": "rich", "user_id": "v", "category": "Shoes", "actions": rich},
        {"example_id": "again", "user_id": "v", "category": "Hats", "actions": rich},
        {"example_id": "past", "user_id": "w", "category": "Hats", "actions": rich, "split": "test", "target_item_id": "k"},
        split="score",
    )
    answers = table_rows(spark, "generations", {"example_id": "again", "answer": "i | Red dress", "item_id": "i"})
    products = table_rows(
        spark, "recommendations", *({"user_id": "v", "category": "Hats", "rank": rank, "item_id": str(rank)} for rank in (2, 1))
    )
    found = example_paths(paths, answers, products, count=3)
    assert [(path["category"], path["answer"]) for path in found] == [("Hats", "i | Red dress"), ("Shoes", "")]
    assert [one["words"] for one in found[0]["actions"]] == ["“red”", "Red <b>dress</b>", "Hat"]
    assert [product["rank"] for product in found[0]["products"]] == [1, 2]
    assert "user_id" not in found[0]


@pytest.fixture
def monitored_run(spark, make_run):
    """A run whose tables hold a small day: 4 items, one answer of two malformed, one product of four a fallback."""
    run = make_run()
    days = {RUN_DATE: 2, YESTERDAY: 1}
    events = [event(f"{day}-{n}", day, item_id="i") for day, count in days.items() for n in range(count)]
    put(run.workspace, "interactions", table_rows(spark, "interactions", *events), days=list(days))
    arrived = [date(2026, 2, 25), date(2026, 2, 27), RUN_DATE]
    put(
        run.workspace,
        "arrivals",
        table_rows(spark, "arrivals", *({"arrival_date": day} for day in arrived), source="interactions", key_fingerprint="k"),
        days=arrived,
    )
    put(run.workspace, "items", table_rows(spark, "items", *({"item_id": i} for i in "ijkl")))
    long_ago = date(2026, 1, 1)
    rejected = [
        {"arrival_date": day, "source": source} for day in (RUN_DATE, long_ago, YESTERDAY) for source in ("interactions", "catalog")
    ]
    # Of today's catalogue: none.
    rejected = [row for row in rejected if row != {"arrival_date": RUN_DATE, "source": "catalog"}]
    put(run.workspace, "quarantine", table_rows(spark, "quarantine", *rejected, reason="no_user"), days=[RUN_DATE, long_ago, YESTERDAY])
    put(
        run.workspace,
        "sequences",
        table_rows(
            spark,
            "sequences",
            {
                "split": "score",
                "split_by_time": "score",
                "category": "Shoes",
                "user_id": "u",
                "actions": [action(title="<script>alert(1)</script>")],
            },
        ),
    )
    put(run.workspace, "query_hits", table_rows(spark, "query_hits"))
    put(run.workspace, "prompts", table_rows(spark, "prompts", {"split": "score"}))
    put(
        run.workspace,
        "generations",
        table_rows(spark, "generations", {"example_id": "1", "item_id": "i"}, {"example_id": "2", "parse_error": "empty"}),
    )
    sources = ["answer_id", "session", "session", "popularity_28"]
    products = [{"rank": n + 1, "item_id": str(n), "source": source} for n, source in enumerate(sources)]
    put(run.workspace, "recommendations", table_rows(spark, "recommendations", *products, user_id="u", category="Shoes"))
    put(run.workspace, "campaign_feed", table_rows(spark, "campaign_feed", {"products": [{"item_id": "0", "title": "x"}]}))
    recalls = {"fashionrec": 0.25, "popularity_28": 0.125}
    asked = {"category": "all", "protocol": "leave_one_out", "horizon": "overnight", "metric": "recall@10"}
    put(
        run.workspace,
        "evaluations",
        table_rows(spark, "evaluations", *({"method": m, "value": v, "low": v / 2, "high": 2 * v} for m, v in recalls.items()), **asked),
    )
    put(run.workspace, "characteristics", table_rows(spark, "characteristics", {"characteristic": "c1_turnover", "category": "Shoes"}))
    return run


def test_monitor_sets_the_day_beside_the_newest_earlier_one_and_writes_the_report(spark, monitored_run, tmp_path):
    key = {"table_name": "generations", "metric": "malformed_answer_rate"}
    rates = {date(2026, 2, 20): 0.5, YESTERDAY: 0.1, date(2026, 3, 5): 0.5}
    days = spark.createDataFrame(list(rates.items()), "run_date date, value double")
    put(monitored_run.workspace, "health", table_rows(spark, "health", key).drop("value").crossJoin(days), days=list(rates))
    monitor(monitored_run)
    found = {(row.table_name, row.metric): (row.value, row.previous) for row in monitored_run.read("health").collect()}
    assert {table for table, metric in found if metric == ROW_COUNT} == set(MONITORED)
    assert found["interactions", ROW_COUNT] == (2, None)
    assert found["generations", "malformed_answer_rate"] == (0.5, 0.1)
    assert found["recommendations", "fallback_rate"] == (0.25, None)
    assert found["quarantine", ROW_COUNT] == (1, None)
    assert found["interactions", "quarantine_rate"] == (1 / 3, None), "one rejected beside two kept, of what arrived today"
    assert found["items", "quarantine_rate"] == (0, None)
    assert ("query_hits", "memory_none_rate") not in found, "a share of no rows is no figure"
    assert monitored_run.warnings == [
        "interactions: nothing has arrived of 2026-02-26, 2026-02-28",
        "generations: malformed_answer_rate 0.5, was 0.1 on 2026-02-28",
    ]
    page = (tmp_path / "reports/2026-03-01/report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "asked the evening before (12.5% to 50.0%); best single list 12.5%" in page
