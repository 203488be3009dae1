"""A shop with spaces trained on the spot: recommendations, the campaign feed, and language models that take over where they rank better."""

import json
import shutil
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from fashionrec.errors import UserError
from fashionrec.pipeline.steps import embeddings, promote, recommend
from fashionrec.settings import load_settings
from tests.builders import RUN_DATE
from tests.models.shop import ITEMS, World, examples, pseudonym

PATHS = list(examples())
STEPS = [step.name for step in (*embeddings.STEPS, *recommend.STEPS)]


def answer(user, category, item_id=None, title=None, **fields):
    error = None if item_id else "no_title"
    row = {"example_id": f"{user}{category}", "user_id": pseudonym(user), "category": category, "split": "score", "parse_error": error}
    return {**row, "item_id": item_id, "title": title, "answer": "", "finish_reason": "stop", "model_version": "4", **fields}


ANSWERS = [
    answer("known", "Bags", "B03", "Acme tote, black"),
    answer("known", "Shoes", "S05", "Acme boot, blue"),
    answer("invented", "Bags", "B99", "Acme tote, red"),
    answer("untitled", "Bags", "B07"),
    answer("unreadable", "Shoes"),
    answer("tested", "Bags", "B01", "x", split="test", target_item_id="B02"),
]


def purchase(user, item_id, event_id):
    at = {"event_at": datetime(2026, 2, 20, 8, tzinfo=UTC), "event_date": datetime(2026, 2, 20, tzinfo=UTC).date()}
    return {"event_id": event_id, "user_id": pseudonym(user), "action": "purchase", "item_id": item_id, **at}


BOUGHT = [purchase(user, item, f"{user}{item}") for user, item in (("a", "S09"), ("b", "S09"), ("b", "S05"), ("c", "S05"), ("d", "S05"))]
BOUGHT += [purchase("b", "S02", "x"), purchase("known", "B03", "y"), purchase("unreadable", "S09", "z")]


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    world = World(spark, tmp_path_factory.mktemp("world"))
    world.write("items", *ITEMS)
    world.write("sequences", *PATHS)
    world.write("interactions", *BOUGHT)
    world.write("generations", *ANSWERS)
    world.entries = {name: world.step(name) for name in STEPS}
    world.lists = {}
    for row in sorted(world.rows("recommendations"), key=lambda row: row["rank"]):
        world.lists.setdefault((row.user_id.rstrip("_"), row.category), []).append(row)
    return world


def test_both_models_are_registered_with_what_they_were_made_from(world):
    models = world.workspace().models
    assert {models.champion(name).label for name in ("id", "title")} == {"id@1", "title@1"}
    figures = world.entries["train_embeddings"]["figures"]
    assert figures["id_examples"] == figures["title_pairs"] == 40
    assert 0 <= figures["id_validation_recall_at_10"] <= 1
    assert world.entries["train_embeddings"]["warnings"] == []


def test_of_two_spaces_none_is_promoted_where_one_fails(world, monkeypatch):
    serving = {name: world.workspace().models.champion(name) for name in ("id", "title")}

    def train(name, inputs, folder, settings, base):
        if name == "title":
            raise UserError("model title: out of memory")
        shutil.copytree(serving[name].folder, folder, dirs_exist_ok=True)
        return json.loads((folder / "card.json").read_text())

    monkeypatch.setattr(embeddings, "train_in_own_process", train)
    with pytest.raises(UserError, match="out of memory"):
        world.step("train_embeddings")
    assert {name: world.workspace().models.champion(name) for name in serving} == serving


def test_indexes_hold_every_item(world):
    assert world.entries["build_indexes"]["rows_written"] == {"indexes": 40}
    assert world.entries["build_indexes"]["figures"] == {"categories": 2, "untrained_item_rate": 0}


def test_every_answer_of_today_gets_a_full_list_with_ranks_without_gaps_and_no_item_twice(world):
    assert set(world.lists) == {(a["user_id"].rstrip("_"), a["category"]) for a in ANSWERS if a["split"] == "score"}
    for (_, category), rows in world.lists.items():
        assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert len({row.item_id for row in rows}) == 6
        assert {row.item_id[0] for row in rows} == {category[0]}
        assert {row.models for row in rows} == {"4/1/1"}


def test_what_is_out_of_stock_is_never_shown(world):
    assert not {row.item_id for rows in world.lists.values() for row in rows} & {"B05", "S05"}


def test_the_generated_item_leads_and_the_title_space_follows(world):
    rows = world.lists["known", "Bags"]
    assert (rows[0].item_id, rows[0].source, rows[0].reason) == ("B03", "id", "the product expected next")
    assert {row.source for row in rows[1:]} == {"title"}
    assert all(-1 <= row.similarity <= 1 and f"({row.similarity:.2f})" in row.reason for row in rows[1:])


def test_an_invented_id_is_counted_and_answered_from_the_titles(world):
    assert {row.source for row in world.lists["invented", "Bags"]} == {"title"}
    assert world.entries["recommend"]["figures"]["unknown_id_rate"] == 0.25


def test_an_answer_without_a_title_is_answered_from_the_ids(world):
    assert {row.source for row in world.lists["untitled", "Bags"]} == {"id"}


def test_an_unreadable_answer_gets_what_is_popular_and_is_counted(world):
    rows = world.lists["unreadable", "Shoes"]
    assert {row.source for row in rows} == {"popular"}
    # S05 was bought most often and is out of stock; what nobody bought follows in the order of the IDs.
    assert [row.item_id for row in rows] == ["S09", "S02", "S00", "S01", "S03", "S04"]
    assert rows[0].reason == "bought 3 times in 365 days"
    figures = world.entries["recommend"]["figures"]
    assert figures["fallback_rate"] == round(6 / 30, 4)
    assert figures["unparsed_rate"] == 0.2


def test_running_again_gives_the_same_rows(world):
    before = sorted(world.rows("recommendations"))
    world.step("recommend")
    assert sorted(world.rows("recommendations")) == before


def test_the_feed_has_one_row_per_user_without_what_was_bought(world):
    feed = {row.user_id.rstrip("_"): [product.item_id for product in row.products] for row in world.rows("campaign_feed")}
    assert set(feed) == {"known", "invented", "untitled", "unreadable"}
    assert "B03" not in feed["known"]
    assert "S09" not in feed["unreadable"]
    assert world.entries["publish_campaign"]["figures"] == {"users_mailed": 4, "users_suppressed": 0}


def test_suppressed_users_are_not_in_the_feed_and_are_counted(world, tmp_path):
    listed = tmp_path / "suppressed.csv"
    listed.write_text(
        f"user_id,since\n{pseudonym('known')},2026-02-01\n {pseudonym('unreadable')} ,2026-02-01\nnobody we know,2026-02-01\n"
    )
    entry = world.step("publish_campaign", f"campaign.suppression={listed}", "quality.min_rows_rate=0")
    assert {row.user_id.rstrip("_") for row in world.rows("campaign_feed")} == {"invented", "untitled"}
    assert entry["figures"] == {"users_mailed": 2, "users_suppressed": 2}


def prompt(path):
    """Return a prompt whose search shows the purchase first: a model that can copy finds it."""
    response = f"{path['target_item_id']} | {path['target_title']}"
    text = f"Actions:\nsearched: {path['actions'][0]['query']}\n1. {response}\nAnswer:\n"
    kept = {name: path[name] for name in ("example_id", "user_id", "category", "split", "target_item_id")}
    return {**kept, "prompt": text, "response": response}


def register(world, base, name):
    """Register a base as it is, as if it had been trained and merged."""
    registry = world.workspace().models
    folder = registry.new_folder("llm", name)
    shutil.copytree(base.path, folder / "merged")
    (folder / "card.json").write_text(json.dumps({"base": base.model_dump(mode="json")}))
    return registry.register("llm", folder, {}, {"loss_after": 1.0}, {}, trained_for=RUN_DATE)


def tags(world, version):
    return world.workspace().models._client.get_model_version("llm", version.version).tags


@pytest.fixture
def answered_once(monkeypatch):
    """Let vLLM answer once for all versions that have the same weights."""
    known, answers = {}, promote._answers

    def once(run, version, prompts):
        weights = sha256((version.folder / "merged/model.safetensors").read_bytes()).hexdigest()
        if weights not in known:
            found = answers(run, version, prompts)
            known[weights] = found.collect(), found.schema
        return run.spark.createDataFrame(*known[weights])

    monkeypatch.setattr(promote, "_answers", once)
    return known


def test_the_better_language_model_takes_over_and_the_worse_one_does_not(world, tiny_falcon, answered_once):
    world.write("prompts", *map(prompt, PATHS))
    models = world.workspace().models
    random = register(world, tiny_falcon, "random")
    models.promote(random, "the first")
    assert world.step("promote_llm")["notes"] == ["llm@1 is champion, and nothing newer was trained"]

    copying = register(world, load_settings().llm.base, "copying")
    entry = world.step("promote_llm")
    (note,) = entry["notes"]
    assert note.startswith("llm@2 is better than llm@1 on 10 validation purchases of 2026-03-01: NDCG@10 ")
    assert note.endswith("; llm@2 answers from the next run on")
    assert entry["figures"]["challenger_ndcg"] > entry["figures"]["champion_ndcg"]
    assert models.champion("llm") == copying
    assert tags(world, copying)["why_champion"] in note

    worse = register(world, tiny_falcon, "worse")
    (note,) = world.step("promote_llm")["notes"]
    assert "llm@3 is not better than llm@2" in note
    assert note.endswith("; llm@2 answers from the next run on")
    assert models.champion("llm") == copying
    assert tags(world, worse)["why_not_champion"] in note
    assert len(answered_once) == 2


def test_without_validation_prompts_the_champion_stays_and_the_run_says_so(spark, tiny_falcon, tmp_path):
    other = World(spark, tmp_path)
    other.write("prompts", *(prompt(path) for path in PATHS if path["split"] == "train"))
    first = register(other, tiny_falcon, "first")
    other.workspace().models.promote(first, "the first")
    register(other, tiny_falcon, "second")
    with pytest.raises(UserError, match=r"no validation prompts on 2026-03-01 to compare by; llm@1 stays champion"):
        other.step("promote_llm")
    assert other.workspace().models.champion("llm") == first


def test_indexes_that_do_not_fit_the_snapshot_are_refused(world):
    # The last test: it leaves the snapshot changed.
    world.write("items", *ITEMS[:-1], {**ITEMS[-1], "in_stock": False})
    with pytest.raises(UserError, match=r"were made from items .* run the step build_indexes again"):
        world.step("recommend")
