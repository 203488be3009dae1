"""The four characteristics: each as counted by hand, on a synthetic world with known ratios, and on real purchases."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as f
from rich.console import Console

from fashionrec.characteristics.calendar import calendar_demand, calendar_rows, calendar_test
from fashionrec.characteristics.figures import PAPER, comparison, full_months, queries, turnover, with_vertical
from fashionrec.ingest.versions import DESCRIPTION, item_versions, touched_days
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline import workspace
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.steps.characteristics import STEPS
from fashionrec.reports.characteristics import ratios
from fashionrec.sources.importers.hm import import_files
from fashionrec.sources.world.shop import make_table_1_world
from fashionrec.sources.world.words import CATEGORIES, FASHION
from tests.builders import click, interval_rows, purchase, search
from tests.conftest import RUN_DATE

VERTICALS = {"toys": ["Toys"]}
(STEP,) = STEPS


def values(frame, *names):
    """Return category and period (and more) -> value."""
    return {tuple(row[name] for name in ("category", "period", *names)): row["value"] for row in frame.collect()}


def versions(spark, *rows):
    return interval_rows(spark, *({"category": "Bags", **row} for row in rows)).transform(with_vertical, VERTICALS)


def events(spark, *rows):
    """Return events as the sequence stage attributes them: each row names its category, and item events their item's attributes."""
    schema = (
        "event_id string, user_id string, event_at timestamp, arrival_date date, arrival_number long, action string, query string, "
        "category string, item struct<attributes: map<string, string>>"
    )
    made = [
        (
            *(row["event_id"], row["user_id"], row["event_at"], row["event_date"], None, row["action"]),
            *(row.get("query"), row["category"], (row.get("attributes"),)),
        )
        for row in rows
    ]
    return spark.createDataFrame(made, schema).transform(with_vertical, VERTICALS)


def test_new_items_are_those_that_came_after_the_first_catalogue(spark):
    opened = date(2026, 1, 1)
    rows = versions(
        spark,
        {"item_id": "old", "valid_from": opened},
        {"item_id": "dated before", "valid_from": opened, "first_available_date": date(2025, 12, 5)},
        {"item_id": "listed", "valid_from": date(2026, 2, 3)},
        {"item_id": "dated", "valid_from": date(2026, 2, 3), "first_available_date": date(2026, 1, 20)},
        {"item_id": "left", "valid_from": date(2026, 1, 9), "valid_to": date(2026, 2, 9)},
        # A second description makes no second item.
        {"item_id": "listed", "valid_from": date(2026, 2, 20)},
        {"item_id": "this month", "valid_from": date(2026, 3, 1)},
        {"item_id": "bear", "category": "Toys", "valid_from": date(2026, 2, 3)},
    )
    found = values(turnover(rows, until=RUN_DATE), "vertical", "metric")
    assert found == {
        **{(name, "2026-01", "fashion", "new_items"): 2 for name in ("Bags", "all")},
        **{(name, "2026-02", "fashion", "new_items"): 1 for name in ("Bags", "all")},
        **{(name, "whole", "fashion", "new_items"): 1.5 for name in ("Bags", "all")},
        **{(name, "whole", "fashion", "items_on_sale"): 5 for name in ("Bags", "all")},
        **{(name, "2026-02", "toys", "new_items"): 1 for name in ("Toys", "all")},
        **{(name, "whole", "toys", "new_items"): 0.5 for name in ("Toys", "all")},
        **{(name, "whole", "toys", "items_on_sale"): 1 for name in ("Toys", "all")},
    }


def test_a_first_catalogue_knows_only_what_is_still_on_sale(spark):
    dated = {"item_id": "a", "valid_from": RUN_DATE, "first_available_date": date(2025, 11, 2)}
    found = values(turnover(versions(spark, dated, {"item_id": "b", "valid_from": RUN_DATE}), until=RUN_DATE), "metric")
    assert found["all", "2025-11", "new_items_still_on_sale"] == 1
    assert {name for _, _, name in found} == {"new_items_still_on_sale", "items_on_sale"}
    assert values(turnover(versions(spark).limit(0), until=RUN_DATE)) == {}


def test_full_months_hold_all_their_days():
    assert full_months(date(2025, 12, 1), date(2026, 2, 28)) == ["2025-12", "2026-01", "2026-02"]
    assert full_months(date(2025, 12, 2), date(2026, 2, 27)) == ["2026-01"]
    assert full_months(date(2026, 2, 2), date(2026, 3, 1)) == []


def test_actions_count_from_the_purchase_before_in_the_category(spark):
    bags, toys = {"category": "Bags"}, {"category": "Toys"}
    rows = events(
        spark,
        search("2026-01-05 10:00", "tote", **bags),
        click("2026-01-05 10:01", "a", **bags),
        click("2026-01-05 10:02", "t", **toys),
        purchase("2026-01-05 10:03", "a", **bags),
        click("2026-02-05 10:00", "b", **bags),
        purchase("2026-02-05 10:01", "b", **bags),
        click("2026-02-05 10:02", "c", **bags),
        click("2026-02-05 10:00", "b", user_id="v", **bags),
        search("2026-02-06 10:00", "nobody knows", category=None),
    )
    assert values(comparison(rows)) == {
        **{(name, "2026-01"): 2 for name in ("Bags", "all")},
        **{(name, "2026-02"): 1 for name in ("Bags", "all")},
        **{(name, "whole"): 1.5 for name in ("Bags", "all")},
    }
    assert values(comparison(rows.where("action = 'purchase'"))) == {}


def test_queries_count_once_a_day_over_the_days_on_which_anybody_acted(spark):
    rows = events(
        spark,
        search("2025-12-01 10:00", "tote", category="Bags"),
        search("2025-12-01 11:00", "bag", category="Bags"),
        search("2025-12-01 12:00", "tote", category="Bags", user_id="v"),
        click("2025-12-02 10:00", "a", category="Bags"),
        search("2026-02-01 10:00", "tote", category="Bags"),
        search("2026-02-01 10:00", "case", category="Cases"),
        search("2026-02-01 11:00", "tote", category="Cases", user_id="v"),
    )
    assert values(queries(rows, until=RUN_DATE)) == {
        **{(name, "2025-12"): 1.0 for name in ("Bags", "all")},
        ("Bags", "2026-02"): 1.0,
        ("Cases", "2026-02"): 2.0,
        ("all", "2026-02"): 2.0,
        # From 2 December on: two days, one of them without a search.
        ("Bags", "last_3_months"): 0.5,
        ("Cases", "last_3_months"): 1.0,
        ("all", "last_3_months"): 1.0,
    }


def test_a_shopper_counts_once_per_value_and_month_of_any_year(spark):
    summer = {"category": "Bags", "attributes": {"season": "Summer"}}
    rows = events(
        spark,
        purchase("2025-07-01 10:00", "a", **summer),
        purchase("2025-07-02 10:00", "b", **summer),
        purchase("2024-07-02 10:00", "b", **summer),
        purchase("2025-07-02 10:00", "a", user_id="v", **summer),
        purchase("2025-08-02 10:00", "a", user_id="v", **summer),
        click("2025-08-02 10:00", "a", user_id="w", **summer),
        purchase("2025-08-02 10:00", "c", category="Bags", attributes={"colour": "red"}),
    )
    found = calendar_demand(rows, ["season", "occasion"]).collect()
    assert sorted((row.attribute, row.attribute_value, row.month, row.shoppers) for row in found) == [
        ("season", "Summer", 7, 2),
        ("season", "Summer", 8, 1),
    ]


def test_the_test_of_independence_tells_a_season_from_chance():
    alike = calendar_test(np.array([[100, 102, 99], [51, 50, 49]]))
    seasonal = calendar_test(np.array([[150, 50], [50, 150]]))
    assert alike.p_value > 0.9
    assert alike.cramers_v == 0
    # By hand: 4 fields, each 50 from the 100 expected.
    assert seasonal.chi_squared == pytest.approx(100)
    assert seasonal.p_value == pytest.approx(1.5e-23, rel=0.05)
    assert seasonal.cramers_v == pytest.approx(0.5, abs=0.01)
    assert calendar_test(np.array([[1, 2, 3]])) is None


def test_an_index_is_the_share_of_the_month_over_that_of_the_year():
    counts = {("Summer", 1): 10, ("Summer", 7): 30, ("Winter", 1): 30, ("Winter", 7): 10, ("Rare", 7): 3}
    rows = [
        {"vertical": "fashion", "attribute": "season", "attribute_value": value, "month": month, "shoppers": count}
        for (value, month), count in counts.items()
    ]
    found = {(row[1], *row[5:7]): row[7] for row in calendar_rows(rows)}
    assert found["index", "Summer", "07"] == 1.5
    assert found["index", "Summer", "01"] == 0.5
    assert found["shoppers", "Winter", "01"] == 30
    assert found["p_value", "all", "whole"] < 0.001
    assert not any("Rare" in key for key in found)


def test_the_verticals_of_the_settings_are_those_of_the_synthetic_world(make_run):
    verticals = make_run().settings.evaluate.verticals
    assert {FASHION: CATEGORIES[FASHION], **verticals} == CATEGORIES


@pytest.fixture
def as_they_are(monkeypatch):
    """Let tables be read that were written without their constraints: raw rows do not keep them."""
    monkeypatch.setattr(workspace, "require_current", lambda *table: None)


def analysed(run):
    """Put raw events and catalogues into the tables as they are, run the step, and return its rows and its page."""
    raw = {name: table_spec(f"raw_{name}").struct for name in ("interactions", "catalog")}
    read = run.spark.read.schema(raw["interactions"])
    folder = run.workspace.path("raw_interactions")
    rows = (
        read.parquet(f"{folder}/*/*.parquet") if run.settings.paths.root.endswith("world") else read.json(f"{folder}/*/*.gz")
    ).withColumns(
        {
            "event_at": f.to_timestamp("event_at"),
            "event_date": f.to_date(f.to_timestamp("event_at")),
            "arrival_date": f.to_date(f.to_timestamp("event_at")),
            "arrival_number": f.lit(None).cast("long"),
        }
    )
    rows.coalesce(2).write.format("delta").save(run.workspace.path("lake", "interactions"))
    read = run.spark.read.schema(raw["catalog"])
    folder = run.workspace.path("raw_catalog")
    items = read.parquet(f"{folder}/*/*.parquet") if run.settings.paths.root.endswith("world") else read.json(f"{folder}/*/*.gz")
    day = f.to_date(f.regexp_extract("_metadata.file_path", r"/(\d{4}-\d{2}-\d{2})/", 1))
    items = items.withColumns({"arrival_date": day, "first_available_date": f.to_date("first_available_date")})
    days = [row[0] for row in items.select("arrival_date").distinct().collect()]
    anew, places = touched_days(days, [])
    states = items.select("item_id", *DESCRIPTION, "arrival_date")
    item_versions(states, anew=anew, places=places).write.format("delta").save(run.workspace.path("lake", "item_versions"))
    run_steps(run.workspace, [STEP], Console(quiet=True))
    found = run.spark.read.format("delta").load(run.workspace.path("lake", "characteristics")).collect()
    page = Path(run.workspace.path("reports", str(run.run_date), "characteristics.html")).read_text(encoding="utf-8")
    return [row.asDict() for row in found], page


def strengths(rows):
    """Return attribute and vertical -> p-value and Cramér's V."""
    whole = {(row["attribute"], row["vertical"], row["metric"]): row["value"] for row in rows if row["attribute_value"] == "all"}
    return {key[:2]: (whole[(*key[:2], "p_value")], whole[(*key[:2], "cramers_v")]) for key in whole}


def test_a_synthetic_world_shows_the_ratios_that_it_was_made_with(make_run, tmp_path, as_they_are):
    run = make_run(f"paths.root={tmp_path / 'world'}")
    folders = [tmp_path / "world" / "raw" / name for name in ("interactions", "catalog")]
    make_table_1_world(*folders, end_date=RUN_DATE, days=365, scale=0.005, seed=1, verticals=("electronics", "toys"))
    rows, page = analysed(run)
    for characteristic, expected in PAPER.items():
        assert ratios(rows)[characteristic] == pytest.approx(expected, rel=0.1), characteristic
    found = strengths(rows)
    for attribute in ("season", "occasion", "holiday"):
        p_value, effect = found[attribute, "fashion"]
        assert p_value < 1e-6
        assert all(effect > 2 * found[attribute, other][1] for other in ("electronics", "toys") if (attribute, other) in found)
    # What kind of thing is wanted does not depend on the month in this world.
    assert found["type", "fashion"][0] > 0.001
    index = {
        (row["attribute_value"], row["period"]): row["value"] for row in rows if row["metric"] == "index" and row["vertical"] == "fashion"
    }
    assert index["Summer", "07"] > 1.3 > 0.8 > index["Summer", "01"]
    assert "synthetic" in page


def test_real_purchases_show_real_seasons(make_run, real_data, tmp_path, as_they_are):
    if not (real_data / "hm").is_dir():
        pytest.skip(f"no H&M files in {real_data}")
    run = make_run(run_date=date(2020, 9, 22))
    import_files(real_data / "hm", tmp_path / "raw" / "interactions", tmp_path / "raw" / "catalog")
    rows, page = analysed(run)
    p_value, effect = strengths(rows)["type", "fashion"]
    assert p_value < 1e-100
    assert effect > 0.05
    index = {(row["attribute_value"], int(row["period"])): row["value"] for row in rows if row["metric"] == "index"}

    def mean(value, *months):
        return sum(index[value, month] for month in months) / len(months)

    for kind, season, other in (
        ("Bikini top", (5, 6, 7), (10, 11, 12)),
        ("Shorts", (5, 6, 7), (10, 11, 12)),
        ("Sweater", (10, 11, 12), (5, 6, 7)),
    ):
        assert mean(kind, *season) > 1.5 > 0.6 > mean(kind, *other), kind
    assert {row["characteristic"] for row in rows} == {"c1_turnover", "c3_calendar"}, "no queries, no clicks"
    assert "synthetic" not in page
    assert "no searches and no clicks" in page
    assert "Bikini top" in page
