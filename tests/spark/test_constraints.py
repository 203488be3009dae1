"""Every constraint of every table refuses a bad row, by name, and lets a good one in."""

from datetime import UTC, date, datetime

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Row
from pyspark.sql import types as t

from fashionrec.lake.spec import table_specs
from fashionrec.lake.tables import create_table

DAY, TIME = date(2026, 3, 1), datetime(2026, 3, 1, 12, tzinfo=UTC)
SPECS = {spec.table: spec for spec in table_specs() if spec.constraints}

# Values with which a row is good, beyond those that its types give.
GOOD = {
    "interactions": {"user_id": "0" * 64, "action": "click", "query": None, "position": 1, "sponsored": False},
    "item_versions": {"is_listed": True},
    "arrivals": {"source": "catalog"},
    "quarantine": {"source": "catalog"},
    "sequences": {"split": "train", "split_by_time": "train", "horizon": "in_session"},
    "query_hits": {"match": "exact"},
    "prompts": {"split": "train"},
    "generations": {"parse_error": None},
    "recommendations": {"source": "answer_id", "rank": 1},
    "evaluations": {"horizon": "overnight"},
}
# For each constraint, what breaks it and nothing else.
BAD = {
    ("interactions", "action_known"): {"action": "stare"},
    ("interactions", "search_has_query"): {"action": "search", "query": None, "item_id": None},
    ("interactions", "item_action_has_item"): {"item_id": None},
    ("interactions", "position_from_one"): {"position": 0},
    ("interactions", "date_of_time"): {"event_date": date(2026, 2, 1)},
    ("interactions", "sponsored_has_no_position"): {"sponsored": True},
    ("interactions", "user_is_pseudonym"): {"user_id": "jane.doe@example.com"},
    ("interactions", "arrives_after_it_happens"): {"arrival_date": date(2026, 2, 28)},
    ("item_versions", "listed_has_title_and_category"): {"title": " "},
    ("item_versions", "unlisted_is_undescribed"): {"is_listed": False},
    ("arrivals", "source_known"): {"source": "elsewhere"},
    ("arrivals", "key_of_interactions"): {"source": "interactions", "key_fingerprint": None},
    ("quarantine", "source_known"): {"source": "elsewhere"},
    ("items", "title_not_blank"): {"title": "  "},
    ("items", "price_not_negative"): {"price": -1.0},
    ("sequences", "split_known"): {"split": "holdout"},
    ("sequences", "split_by_time_known"): {"split_by_time": "holdout"},
    ("sequences", "target_unless_score"): {"split": "score"},
    ("sequences", "horizon_known"): {"horizon": "at_noon"},
    ("sequences", "not_empty"): {"actions": []},
    ("query_products", "has_products"): {"products": []},
    ("query_products", "has_a_wording"): {"wordings": []},
    ("query_products", "askers_are_counted"): {"user_count": 2},
    ("query_vectors", "has_embedding"): {"embedding": []},
    ("query_hits", "match_known"): {"match": "perhaps"},
    ("query_hits", "none_has_no_products"): {"match": "none"},
    ("prompts", "response_unless_score"): {"split": "score"},
    ("prompts", "tokens_counted"): {"token_count": 0},
    ("generations", "parsed_or_why"): {"item_id": None},
    ("recommendations", "rank_from_one"): {"rank": 0},
    ("recommendations", "source_known"): {"source": "magic"},
    ("campaign_feed", "has_products"): {"products": []},
    ("characteristics", "value_is_number"): {"value": float("nan")},
    ("evaluations", "value_is_share"): {"value": 1.5},
    ("evaluations", "horizon_of_evaluation"): {"horizon": "at_noon"},
    ("evaluations", "interval_in_order"): {"gain_low": 0.6},
}


def value(kind: t.DataType):
    match kind:
        case t.ArrayType():
            return [value(kind.elementType)]
        case t.MapType():
            return {"season": "Summer"}
        case t.StructType():
            return Row(**{field.name: value(field.dataType) for field in kind})
        case t.StringType():
            return "a"
        case t.BooleanType():
            return True
        case t.DateType():
            return DAY
        case t.TimestampType():
            return TIME
        case t.FloatType() | t.DoubleType():
            return 0.5
    return 1


def good_row(spec, **changes):
    row = {field.name: value(field.dataType) for field in spec.struct} | GOOD.get(spec.table, {}) | changes
    return [Row(**row)]


def test_every_constraint_has_a_bad_row():
    assert set(BAD) == {(spec.table, constraint.name) for spec in SPECS.values() for constraint in spec.constraints}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_constraints_refuse_bad_rows_and_pass_good_ones(spark, tmp_path, spec):
    path = str(tmp_path / spec.table)
    create_table(spark, path, spec)

    def write(rows):
        spark.createDataFrame(rows, spec.struct).coalesce(1).write.format("delta").mode("append").save(path)

    write(good_row(spec))
    for (table, name), change in BAD.items():
        if table == spec.table:
            with pytest.raises((PySparkException, Py4JJavaError), match=f"(?i)check constraint {name}"):
                write(good_row(spec, **change))
    assert spark.read.format("delta").load(path).count() == 1


def test_only_a_held_out_purchase_may_have_an_empty_path_and_only_the_night_before(spark, tmp_path):
    path, spec = str(tmp_path / "sequences"), SPECS["sequences"]
    create_table(spark, path, spec)

    def write(split, horizon):
        target = "a" if split != "score" else None
        row = good_row(spec, split=split, split_by_time=split, horizon=horizon, target_item_id=target, actions=[])
        spark.createDataFrame(row, spec.struct).coalesce(1).write.format("delta").mode("append").save(path)

    for split, horizon in (("train", "in_session"), ("test", "in_session"), ("train", "overnight"), ("score", "overnight")):
        with pytest.raises((PySparkException, Py4JJavaError), match=r"(?i)check constraint not_empty"):
            write(split, horizon)
    write("validation", "overnight")
    write("test", "overnight")
    assert spark.read.format("delta").load(path).count() == 2
