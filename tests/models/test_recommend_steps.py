"""A shop with spaces trained on the spot: releases that take over where their lists are better, recommendations, the campaign feed."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from fashionrec.errors import UserError
from fashionrec.pipeline import releases
from fashionrec.pipeline.models import ModelError
from fashionrec.pipeline.steps import embeddings, evaluate, fusion, llm, recommend
from fashionrec.retrieval.candidates import SOURCES
from tests.builders import RUN_DATE, action
from tests.models.shop import ITEMS, World, answered_by, examples, path, prompt, pseudonym, register_llm

# Categories of three items, of one, and of none in stock.
EXTRA = [("H00", "Hats"), ("H01", "Hats"), ("H02", "Hats"), ("L00", "Belts"), ("G00", "Gloves"), ("G01", "Gloves")]
CATALOGUE = [*ITEMS, *({"item_id": i, "title": f"Acme {c} {i}", "category": c, "in_stock": c != "Gloves"} for i, c in EXTRA)]
TONIGHT = [
    path("known", "Bags", action("search", query="black tote"), action(item_id="B02")),
    path("known", "Shoes", action(item_id="S02")),
    path("invented", "Bags", action("search", query="red tote")),
    path("untitled", "Bags", action(item_id="B06")),
    path("unreadable", "Shoes", action("search", query="no such")),
    path("few", "Hats", action("search", query="hat")),
    path("one", "Belts", action("search", query="belt")),
    path("sold out", "Gloves", action(item_id="G00")),
    path("renamed", "Coats", action(item_id="C00")),
]
PURCHASED = {"split": "test", "target_item_id": "B02", "target_title": "Acme tote 2, green"}
PATHS = [
    *examples(),
    *TONIGHT,
    path("empty", "Bags", **PURCHASED),
    path("moved", "Coats", action(item_id="C00", event_at=datetime(2026, 2, 27, 12, tzinfo=UTC)), **PURCHASED),
]
GIVEN = {
    "knownBagsovernight": ("B03", "Acme tote, black"),
    "knownShoesovernight": ("S05", "Acme boot, blue"),
    "inventedBagsovernight": ("B99", "Acme tote, red"),
    "untitledBagsovernight": ("B07", None),
    "unreadableShoesovernight": (None, None),
    "fewHatsovernight": ("H01", "Acme Hats"),
    "oneBeltsovernight": (None, None),
}
SPACES = ("id", "title", "id_serving", "title_serving")


def purchase(user, item_id, event_id):
    at = {"event_at": datetime(2026, 2, 20, 8, tzinfo=UTC), "event_date": datetime(2026, 2, 20, tzinfo=UTC).date()}
    return {"event_id": event_id, "user_id": pseudonym(user), "action": "purchase", "item_id": item_id, **at}


BOUGHT = [purchase(user, item, f"{user}{item}") for user, item in (("a", "S09"), ("b", "S09"), ("b", "S05"), ("c", "S05"), ("d", "S05"))]
BOUGHT += [purchase("b", "S02", "x"), purchase("known", "B03", "y"), purchase("unreadable", "S09", "z")]


def fill(world):
    """Write a day's tables but those of the steps that are tested."""
    world.write("items", *CATALOGUE)
    world.write("sequences", *PATHS)
    world.write("prompts", *map(prompt, PATHS))
    world.write("query_hits", {"as_of_date": RUN_DATE, "match": "none", "products": [], "neighbours": []})


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    world = World(spark, tmp_path_factory.mktemp("world"))
    fill(world)
    world.write_versions(CATALOGUE)
    world.write("interactions", *BOUGHT)
    register_llm(world.workspace().models, "first", GIVEN, finds=True)
    with pytest.MonkeyPatch.context() as patched:
        for module in (llm, fusion):
            patched.setattr(module, "answered_by", answered_by)
        world.entries = {}
        for step in (*embeddings.STEPS, *fusion.STEPS, *llm.SERVING, *recommend.STEPS, *evaluate.STEPS):
            world.entries[step.name] = world.step(step.name, "retrieval.fusion=mixup")
        world.lists = {}
        for row in sorted(world.rows("recommendations"), key=lambda row: row["rank"]):
            world.lists.setdefault((row.user_id.rstrip("_"), row.category), []).append(row)
        yield world


def tags(world, release):
    return world.workspace().models._client.get_model_version("release", release.version.version).tags


def newest(world, name):
    return world.workspace().models.challenger(name)


def test_all_spaces_are_registered_with_what_they_were_made_from_and_make_a_release_with_the_rest(world):
    assert {newest(world, name).label for name in SPACES} == {f"{name}@1" for name in SPACES}
    figures = world.entries["train_embeddings"]["figures"]
    assert figures["id_examples"] == figures["title_pairs"] == 40
    assert 0 <= figures["id_validation_recall_at_10"] <= 1
    assert world.entries["train_embeddings"]["warnings"] == []
    release = releases.serving(world.workspace().models)
    assert {name: one.label for name, one in release.parts.items()} == {name: f"{name}@1" for name in ("llm", *SPACES, "fusion")}


def test_the_first_release_serves_at_once(world):
    assert world.entries["promote_release"]["notes"] == ["release@1 serves: it is the first"]
    assert tags(world, releases.serving(world.workspace().models))["why_champion"] == "the first release: there was none to compare with"


@pytest.mark.parametrize("failing", [("title", "title"), ("title", "title_serving"), ("id", "id_serving")])
def test_of_the_spaces_none_is_registered_where_one_fails(world, monkeypatch, failing):
    before = {name: newest(world, name) for name in SPACES}

    def train(name, inputs, folder, settings, base):
        if (name, folder.parent.name) == failing:
            raise UserError("out of memory")
        shutil.copytree(before[name].folder, folder, dirs_exist_ok=True)
        return json.loads((folder / "card.json").read_text())

    monkeypatch.setattr(embeddings, "train_in_own_process", train)
    with pytest.raises(UserError, match="out of memory"):
        world.step("train_embeddings")
    assert {name: newest(world, name) for name in SPACES} == before


def test_indexes_hold_every_item(world):
    assert world.entries["build_indexes"]["rows_written"] == {"indexes": len(CATALOGUE)}
    assert world.entries["build_indexes"]["figures"] == {"categories": 5, "untrained_item_rate": round(6 / 46, 4)}


def test_every_path_of_today_gets_a_full_list_with_ranks_without_gaps_and_no_item_twice(world):
    sizes = {(one["user_id"].rstrip("_"), one["category"]): {"Hats": 3, "Belts": 1}.get(one["category"], 6) for one in TONIGHT}
    assert {key: len(rows) for key, rows in world.lists.items()} == {
        key: size for key, size in sizes.items() if key[1] not in ("Gloves", "Coats")
    }
    initial = {item["item_id"]: item["category"] for item in CATALOGUE}
    for (_, category), rows in world.lists.items():
        assert [row["rank"] for row in rows] == [*range(1, len(rows) + 1)]
        assert len({row.item_id for row in rows}) == len(rows)
        assert {initial[row.item_id] for row in rows} == {category}
        assert {row.release for row in rows} == {"release@1"}
        assert all(row.reason == SOURCES[row.source].reason for row in rows)
        scores = [row.score for row in rows]
        assert scores == sorted(scores, reverse=True)


def test_what_is_out_of_stock_or_was_looked_at_is_never_shown(world):
    shown = {key: {row.item_id for row in rows} for key, rows in world.lists.items()}
    assert not set().union(*shown.values()) & {"B05", "S05", "G00", "G01"}
    assert "B02" not in shown["known", "Bags"]
    assert "B06" not in shown["untitled", "Bags"]


def test_paths_without_a_row_are_counted_whether_all_is_sold_or_the_category_is_gone(world):
    (warning,) = world.entries["recommend"]["warnings"]
    assert warning.startswith("2 of 9 paths got no row: nothing of their category is in stock, or the catalogue has no such category")


def test_the_generated_item_leads_and_the_title_space_follows(world):
    rows = world.lists["known", "Bags"]
    assert (rows[0].item_id, rows[0].source, rows[0].reason) == ("B03", "answer_id", "goes with the product expected next")
    assert {row.source for row in rows[1:]} <= {"answer_id", "answer_title"}
    assert "answer_title" in {row.source for row in rows[1:]}


def test_an_answer_that_is_out_of_stock_is_not_shown_but_what_is_like_it(world):
    assert {row.source for row in world.lists["known", "Shoes"]} <= {"answer_id", "answer_title"}


def test_an_invented_id_is_counted_and_answered_from_the_titles(world):
    assert {row.source for row in world.lists["invented", "Bags"]} == {"answer_title"}
    assert world.entries["recommend"]["figures"]["unknown_id_rate"] == 0.2


def test_an_answer_without_a_title_is_answered_from_the_ids(world):
    assert {row.source for row in world.lists["untitled", "Bags"]} == {"answer_id"}
    assert world.lists["untitled", "Bags"][0].item_id == "B07"


def test_an_unreadable_answer_gets_what_is_popular_and_is_counted(world):
    rows = world.lists["unreadable", "Shoes"]
    assert {row.source for row in rows} == {"popularity_28"}
    # S05 was bought most often and is out of stock; what nobody bought follows in the order of the IDs.
    assert [row.item_id for row in rows] == ["S09", "S02", "S00", "S01", "S03", "S04"]
    assert rows[0].reason == "popular this month"
    figures = world.entries["recommend"]["figures"]
    assert figures["fallback_rate"] == round(7 / 34, 4)
    assert figures["unparsed_rate"] == round(2 / 7, 4)
    assert world.entries["recommend"]["notes"] == ["release@1 serves lists of mixup"]


def test_running_again_gives_the_same_rows(world):
    before = sorted(world.rows("recommendations"))
    world.step("recommend")
    assert sorted(world.rows("recommendations")) == before


def test_a_release_lists_by_the_attributes_that_it_learnt_whatever_the_settings_name_since(world):
    before = sorted(world.rows("recommendations"))
    entry = world.step("recommend", 'retrieval.attributes=["size"]')
    assert "indexes" not in entry["rows_written"]
    assert sorted(world.rows("recommendations")) == before


def test_the_feed_has_one_row_per_user_without_what_was_bought(world):
    feed = {row.user_id.rstrip("_"): [product.item_id for product in row.products] for row in world.rows("campaign_feed")}
    assert set(feed) == {"known", "invented", "untitled", "unreadable", "few", "one"}
    assert "B03" not in feed["known"]
    assert "S09" not in feed["unreadable"]
    assert world.entries["publish_campaign"]["figures"] == {"users_mailed": 6, "users_suppressed": 0}


def test_suppressed_users_are_not_in_the_feed_and_are_counted(world, tmp_path):
    listed = tmp_path / "suppressed.csv"
    listed.write_text(
        f"user_id,since\n{pseudonym('known')},2026-02-01\n {pseudonym('unreadable')} ,2026-02-01\nnobody we know,2026-02-01\n"
    )
    entry = world.step("publish_campaign", f"campaign.suppression={listed}", "quality.min_rows_rate=0")
    assert {row.user_id.rstrip("_") for row in world.rows("campaign_feed")} == {"invented", "untitled", "few", "one"}
    assert entry["figures"] == {"users_mailed": 4, "users_suppressed": 2}


def test_the_evaluation_counts_paths_that_hold_nothing_and_categories_that_are_gone(world):
    rows = {
        (row.category, row.horizon, row.method): row
        for row in world.rows("evaluations")
        if row.metric == "recall@10" and row.protocol == "leave_one_out"
    }
    counts = {key[:2]: row.example_count for key, row in rows.items()}
    assert counts == {
        ("all", "in_session"): 10,
        ("Bags", "in_session"): 5,
        ("Shoes", "in_session"): 5,
        ("all", "overnight"): 12,
        ("Bags", "overnight"): 6,
        ("Shoes", "overnight"): 5,
        ("Coats", "overnight"): 1,
    }
    # Also what is out of stock today, and was not on the day it was bought.
    assert rows["Bags", "in_session", "fashionrec"].value == 1
    assert rows["all", "overnight", "fashionrec"].value == round(11 / 12, 9)
    assert {row.value for (category, _, _), row in rows.items() if category == "Coats"} == {0}
    assert (rows["Coats", "overnight", "mixup"].gain_low, rows["Coats", "overnight", "mixup"].gain_high) == (0, 0)
    assert rows["Bags", "overnight", "session"].item_count == 20
    figures = world.entries["evaluate"]["figures"]
    assert (figures["test_examples"], figures["targets_missing"], figures["answers_missing"]) == (22, 1, 0)


def older(world):
    """Return the same shop on the day before."""
    return World(world.spark, world.folder, RUN_DATE - timedelta(days=1))


@pytest.mark.parametrize("step", ["recommend", "generate", "evaluate"])
def test_a_backfill_with_a_release_of_a_later_date_is_refused(world, step):
    with pytest.raises(ModelError, match=r"release@1 was trained for 2026-03-01, later than this run's 2026-02-28.*allow_newer=true"):
        older(world).step(step)


def test_a_backfill_that_may_use_a_later_release_says_so_in_every_row(world):
    before = older(world)
    fill(before)
    for step in ("generate", "build_indexes", "recommend", "evaluate"):
        (first, *_) = before.step(step, "release.allow_newer=true")["warnings"]
        assert first == "release@1 was trained for 2026-03-01, later than this run's 2026-02-28: release.allow_newer is set"
    assert {row.release for row in before.rows("recommendations")} == {"release@1+newer"}
    assert {row.release for row in world.rows("recommendations")} == {"release@1"}


def test_answers_of_another_model_than_the_releases_are_an_error(world):
    before = [row.asDict() for row in world.rows("generations")]
    world.write("generations", *({**row, "model_version": "llm@9"} for row in before))
    with pytest.raises(UserError, match=r"answers of llm@9, while llm@1 belongs to the release; run the step generate again"):
        world.step("recommend")
    world.write("generations", *before)


def test_a_release_whose_files_changed_is_an_error(world):
    file = newest(world, "fusion").folder / "fusion.json"
    text = file.read_text()
    file.write_text(text.replace("mixup", "memory"))
    with pytest.raises(ModelError, match=r"release@1, part fusion: .*missing or changed since training"):
        world.step("recommend")
    file.write_text(text)
    world.step("recommend")


def test_what_is_learnt_is_readable_and_names_every_row_that_it_was_compared_with(world):
    before = newest(world, "fusion")
    entry = world.step("train_fusion")
    learnt = json.loads((newest(world, "fusion").folder / "fusion.json").read_text())
    assert newest(world, "fusion") != before
    assert entry["figures"]["lists"] == 20
    assert set(learnt["rivals"]) == {"without_llm", "mixup", *SOURCES}
    assert set(learnt["weights"]) == {"fusion", "without_llm"}
    assert not [name for name in learnt["weights"]["without_llm"]["common"] if "answer" in name]
    assert learnt["made_with"] == {name: f"{name}@1" for name in ("llm", *SPACES)}
    (note,) = entry["notes"]
    assert note == f"release@2 serves lists of {learnt['serves']}: {learnt['why']}"


def test_of_equal_releases_the_one_that_serves_stays_and_says_why(world):
    models = world.workspace().models
    serving = releases.serving(models)
    world.step("train_fusion", "retrieval.fusion=mixup")
    equal = releases.candidate(models)
    (note,) = world.step("promote_release")["notes"]
    assert "release@3 is not better for sure than release@1 on 10 validation purchases of 2026-03-01, overnight" in note
    assert "gain +0.0000 to +0.0000; release@1 serves from the next run on" in note
    assert releases.serving(models).version == serving.version
    assert tags(world, equal)["why_not_champion"] in note


def test_a_worse_release_is_refused_and_a_better_one_takes_over(world):
    models = world.workspace().models
    serving = releases.serving(models)
    register_llm(models, "worse", GIVEN, finds=False)
    world.step("train_fusion", "retrieval.fusion=mixup")
    worse = releases.candidate(models)
    assert worse.parts["llm"].label == "llm@2"
    (note,) = world.step("promote_release")["notes"]
    assert f"{worse.label} is not better for sure than {serving.label}" in note
    assert note.endswith(f"; {serving.label} serves from the next run on")
    assert releases.serving(models).version == serving.version
    assert tags(world, worse)["why_not_champion"] in note

    releases.promote(models, worse, "by hand")
    register_llm(models, "better", GIVEN, finds=True)
    world.step("train_fusion", "retrieval.fusion=mixup")
    better = releases.candidate(models)
    entry = world.step("promote_release")
    (note,) = entry["notes"]
    assert (
        f"{better.label} is better than {worse.label} on 10 validation purchases of 2026-03-01, overnight: NDCG@10 1.0000 against" in note
    )
    assert entry["figures"]["candidate_ndcg"] > entry["figures"]["serving_ndcg"]
    assert entry["figures"]["gain_low"] > 0
    assert releases.serving(models).version == better.version
    assert tags(world, better)["why_champion"] in note
    assert world.step("promote_release")["notes"] == [f"{better.label} serves, and nothing newer was made"]


def test_a_fusion_that_was_learnt_in_other_spaces_is_an_error_in_one_line(world):
    models = world.workspace().models
    serving = releases.serving(models)
    folder = models.new_folder("id", "other")
    shutil.copytree(serving.parts["id"].folder, folder, dirs_exist_ok=True)
    other = models.register("id", folder, {}, {}, {}, trained_for=RUN_DATE)
    mixed = releases.make_release(models, {**serving.parts, "id": other}, run_id="mixed", inputs={}, metrics={}, trained_for=RUN_DATE)
    releases.promote(models, mixed, "by hand")
    for step in ("recommend", "evaluate"):
        with pytest.raises(UserError) as raised:
            world.step(step)
        assert str(raised.value) == f"{mixed.label}: its fusion was learnt with id id@1 instead of id@2; run the training steps again"
    releases.rollback(models)


def test_without_validation_purchases_the_release_stays_and_the_run_says_so(world):
    # The last test: it leaves other paths.
    models = world.workspace().models
    serving = releases.serving(models)
    releases.make_release(models, serving.parts, run_id="later", inputs={}, metrics={}, trained_for=RUN_DATE)
    world.write("sequences", *(path for path in PATHS if path["split"] != "validation"))
    with pytest.raises(UserError, match=rf"no validation purchases on 2026-03-01 to compare by; {serving.label} stays"):
        world.step("promote_release")
    assert releases.serving(models).version == serving.version
