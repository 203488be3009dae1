"""Gates: what is about to be published is compared with its specification and with the last good days, and the outcome can be read."""

import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from delta.tables import DeltaTable
from rich.console import Console

from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.step import Step
from fashionrec.quality import GateError
from fashionrec.sources.synthetic import mark_synthetic
from tests.builders import RUN_DATE, table_rows
from tests.spark.test_tables import ids, items

YESTERDAY = RUN_DATE - timedelta(days=1)


def events(spark, counts, **fields):
    """Return interactions: so many clicks on each of some days, all alike but for what makes them events of their own."""
    rows = [
        {
            "event_id": f"{day} {number}",
            "event_date": day,
            "arrival_date": day,
            "event_at": datetime(day.year, day.month, day.day, 12, tzinfo=UTC),
        }
        for day, count in counts.items()
        for number in range(count)
    ]
    plain = {"user_id": "u" * 64, "action": "click", "item_id": "i", "position": 2, "sponsored": False, "marketplace": "de", **fields}
    return table_rows(spark, "interactions", *rows, **plain)


def write_events(run, counts, **fields):
    return run.write("interactions", events(run.spark, counts, **fields), days=sorted(counts))


def stored(spark, tmp_path, table="interactions"):
    column = table_spec(table).day_column
    return {row[0]: row[1] for row in spark.read.format("delta").load(str(tmp_path / "lake" / table)).groupBy(column).count().collect()}


def profile(spark, tmp_path, table="interactions"):
    return json.loads(DeltaTable.forPath(spark, str(tmp_path / "lake" / table)).history(1).first()["userMetadata"])["profile"]


def page(tmp_path):
    return (tmp_path / "reports" / str(RUN_DATE) / "quality.html").read_text()


def test_a_tiny_day_after_good_ones_is_published_only_when_told_so(spark, make_run, tmp_path):
    for age, count in ((3, 10), (2, 9), (1, 2)):
        day = RUN_DATE - timedelta(days=age)
        make_run("quality.min_rows_rate=0", run_date=day).write("items", items(spark, *(str(n) for n in range(count))))
    # Four rows are twice yesterday's two, but the median day has nine.
    with pytest.raises(
        GateError, match=r"at least 5 rows, 50% of the median good day's 9 \(found: 4 rows\); --set quality.min_rows_rate=0"
    ):
        make_run().write("items", items(spark, *"abcd"))
    assert RUN_DATE not in stored(spark, tmp_path, "items")
    make_run("quality.min_rows_rate=0").write("items", items(spark, *"abcd"))
    assert ids(make_run().read("items")) == list("abcd")


def test_a_full_day_is_not_replaced_by_a_tiny_or_empty_one_and_all_days_stay(spark, make_run, tmp_path):
    write_events(make_run(), {YESTERDAY: 8, RUN_DATE: 8})
    for late in ({YESTERDAY: 3, RUN_DATE: 8}, {YESTERDAY: 0, RUN_DATE: 8}):
        with pytest.raises(GateError, match=rf"at least 4 rows, 50% of the 8 of {YESTERDAY} that are replaced \(found: \d rows|no rows"):
            write_events(make_run(), late)
        assert stored(spark, tmp_path) == {YESTERDAY: 8, RUN_DATE: 8}
    write_events(make_run("quality.min_rows_rate=0"), {YESTERDAY: 0, RUN_DATE: 8})
    assert stored(spark, tmp_path) == {RUN_DATE: 8}


def test_a_scope_is_compared_with_itself_alone(spark, make_run):
    def reject(source, count, day):
        rows = [{"raw": str(number)} for number in range(count)]
        run = make_run(run_date=day)
        frame = table_rows(spark, "quarantine", *rows, arrival_date=day, source=source, reason="r", raw="r")
        assert run.write("quarantine", frame, scope={"source": source}) == count
        return run.warnings

    reject("catalog", 10, YESTERDAY)
    reject("interactions", 1, YESTERDAY)
    assert reject("catalog", 12, RUN_DATE) == []
    assert "at most 2 rows" in reject("interactions", 12, RUN_DATE)[0]
    # Fewer rejected rows are no reason to stop.
    assert reject("catalog", 1, RUN_DATE) == []


def test_keys_nulls_and_vocabularies_stop_the_run_in_one_line_and_leave_the_table(spark, make_run, tmp_path):
    write_events(make_run(), {RUN_DATE: 4})
    bad = events(spark, {RUN_DATE: 4}, action="stare", user_id=None)
    bad = bad.union(bad.limit(1))
    with pytest.raises(GateError) as error:
        make_run().write("interactions", bad)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith("interactions: not published, the table is as it was: ")
    for part in (
        "user_id values must never be null (found: 5 of 5 rows not so)",
        "event_id is unique (found: 1 of 5 rows repeat a key)",
        "action values must belong to this set: search click purchase (found: 5 of 5 rows not so)",
        f"See {tmp_path}/reports/{RUN_DATE}/quality.html",
    ):
        assert part in line
    assert "min_rows_rate" not in line
    assert stored(spark, tmp_path) == {RUN_DATE: 4}


def test_a_key_of_several_columns_is_checked_as_one(spark, make_run):
    make_run().write("items", items(spark, "a"))
    with pytest.raises(GateError, match=r"run_date \+ item_id is unique \(found: 1 of 2 rows repeat a key\)"):
        make_run().write("items", items(spark, "b", "b"))
    assert ids(make_run().read("items")) == ["a"]


def test_a_day_whose_newest_event_is_older_than_the_run_date_is_stale(spark, make_run):
    with pytest.raises(GateError, match=rf"event_date maximum value must be greater than or equal to {RUN_DATE} \(found: {YESTERDAY}\)"):
        write_events(make_run(), {YESTERDAY: 3})


def test_drift_against_the_last_good_days_is_warned_of_and_published(spark, make_run, tmp_path):
    history = {RUN_DATE - timedelta(days=age): 20 for age in (4, 3, 2, 1)}
    write_events(make_run(run_date=YESTERDAY), history)
    calm = make_run()
    write_events(calm, {RUN_DATE: 21})
    assert calm.warnings == []
    wild = make_run()
    write_events(wild, {RUN_DATE: 50}, action="purchase", position=3, marketplace=None)
    warned = "; ".join(wild.warnings)
    for part in (
        "at most 40 rows, 2 times the median good day's 20 (found: 50 rows)",
        "action: shares of its values diverge from the median good day's by at most 0.1 nats (found: 4.6",
        "position: mean within 25% of the median good day's 2 (found: 3)",
        "marketplace: share of nulls within 0.1 of the median good day's 0.000 (found: 1.000)",
    ):
        assert part in warned
    assert len(wild.warnings) == 4
    assert stored(spark, tmp_path)[RUN_DATE] == 50


def test_the_past_of_a_backfill_is_the_days_before_it_among_them_those_of_the_same_write(spark, make_run):
    days = [RUN_DATE - timedelta(days=age) for age in range(5)]
    with pytest.raises(GateError, match="50% of the median good day's 10"):
        write_events(make_run(), {day: 10 if day < RUN_DATE else 2 for day in days})
    write_events(make_run(), dict.fromkeys(days, 10))
    # A later, busier day says nothing about an older one.
    write_events(make_run("quality.max_rows_rate=9", run_date=RUN_DATE + timedelta(days=1)), {RUN_DATE + timedelta(days=1): 40})
    older = make_run(run_date=days[2])
    write_events(older, {days[2]: 10}, position=4)
    assert older.warnings == ["interactions: position: mean within 25% of the median good day's 2 (found: 4)"]


def test_a_day_that_was_taken_back_is_no_good_day(spark, make_run, tmp_path):
    write_events(make_run(run_date=YESTERDAY), {YESTERDAY: 10})
    write_events(make_run("quality.max_rows_rate=999", run_date=YESTERDAY), {YESTERDAY: 1000})
    DeltaTable.forPath(spark, str(tmp_path / "lake/interactions")).restoreToVersion(1)
    run = make_run()
    write_events(run, {RUN_DATE: 10})
    assert run.warnings == []


def test_each_day_keeps_its_figures_in_the_commit_that_publishes_it(spark, make_run, tmp_path):
    write_events(make_run(), {YESTERDAY: 1, RUN_DATE: 4}, marketplace="se")
    found = profile(spark, tmp_path)
    assert sorted(found) == [str(YESTERDAY), str(RUN_DATE)]
    today = found[str(RUN_DATE)]
    assert (today["rows"], today["means"], today["shares"]) == (
        4,
        {"position": 2.0},
        {"action": {"click": 1.0}, "marketplace": {"se": 1.0}},
    )
    assert (today["null_rates"]["query"], today["null_rates"]["item_id"]) == (1.0, 0.0)


def test_stock_that_vanishes_is_warned_of(spark, make_run):
    make_run(run_date=YESTERDAY).write("items", items(spark, *"abcd"))
    run = make_run()
    run.write("items", table_rows(spark, "items", *({"item_id": name} for name in "abcd"), title="t", category="c", in_stock=False))
    assert [line for line in run.warnings if "in_stock: shares" in line]


def test_the_page_of_a_failed_gate_shows_every_table_offline(spark, make_run, tmp_path):
    run = make_run()
    make_run(run_date=YESTERDAY).write("items", items(spark, *"abcdef"))

    def publish(run):
        write_events(run, {YESTERDAY: 4, RUN_DATE: 4})
        run.write("items", items(spark, "<script>", "<script>"))

    with pytest.raises(GateError):
        run_steps(run.workspace, [Step("publish", (), ("interactions", "items"), publish, "")], Console(file=io.StringIO()))
    text = page(tmp_path)
    assert text.index("items: failed") < text.index("interactions: passed")
    assert "1 of 2 rows repeat a key" in text
    assert "at least 3 rows, 50% of the median good day&#39;s 6" in text
    assert "<polyline" in text
    # Nothing to load, no raw value.
    assert not re.search(r"(src|href)=.(?!#)|@import|url\(|&lt;script|<script", text)


def test_gates_of_one_date_add_to_one_page_and_a_rerun_replaces_its_own_part(spark, make_run, tmp_path):
    write_events(make_run(), {RUN_DATE: 4})
    make_run().write("items", items(spark, *"ab"))
    first = page(tmp_path)
    make_run().write("items", items(spark, *"ab"))
    second = page(tmp_path)
    assert first.count('<section class="card"') == second.count('<section class="card"') == 2


def test_the_page_calls_made_up_data_synthetic(spark, make_run, tmp_path):
    make_run().write("items", items(spark, "a"))
    assert "synthetic" not in page(tmp_path)
    (tmp_path / "raw").mkdir()
    mark_synthetic(tmp_path / "raw" / "interactions")
    make_run().write("items", items(spark, "b"))
    assert "synthetic data: no real shopper or product" in page(tmp_path)
