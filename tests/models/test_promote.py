"""A newly trained model takes over only where it ranks validation purchases better, and says why."""

import json
import shutil

import pytest

from fashionrec.errors import UserError
from fashionrec.settings import load_settings
from tests.models.shop import ITEMS, World, examples

PATHS = list(examples())


def prompt(path):
    """Return a prompt whose search shows the purchase first: a model that can copy finds it."""
    response = f"{path['target_item_id']} | {path['target_title']}"
    text = f"Actions:\nsearched: {path['actions'][0]['query']}\n1. {response}\nAnswer:\n"
    kept = {name: path[name] for name in ("example_id", "user_id", "category", "split", "target_item_id")}
    return {**kept, "prompt": text, "response": response}


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    world = World(spark, tmp_path_factory.mktemp("promote"))
    world.write("items", *ITEMS)
    world.write("sequences", *PATHS)
    world.write("prompts", *map(prompt, PATHS))
    world.step("train_embeddings")
    world.step("build_indexes")
    return world


def register(world, base, name):
    """Register a base as it is, as if it had been trained and merged."""
    registry = world.workspace().models
    folder = registry.new_folder("llm", name)
    shutil.copytree(base.path, folder / "merged")
    (folder / "card.json").write_text(json.dumps({"base": base.model_dump(mode="json")}))
    return registry.register("llm", folder, {}, {"loss_after": 1.0}, {})


def tags(world, version):
    return world.workspace().models._client.get_model_version("llm", version.version).tags


def test_the_better_model_takes_over_and_the_worse_one_does_not(world, tiny_falcon):
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


def test_without_validation_prompts_the_champion_stays_and_the_run_says_so(spark, world, tiny_falcon, tmp_path):
    other = World(spark, tmp_path)
    other.write("prompts", *(prompt(path) for path in PATHS if path["split"] == "train"))
    first = register(other, tiny_falcon, "first")
    other.workspace().models.promote(first, "the first")
    register(other, tiny_falcon, "second")
    with pytest.raises(UserError, match=r"no validation prompts on 2026-03-01 to compare by; llm@1 stays champion"):
        other.step("promote_llm")
    assert other.workspace().models.champion("llm") == first
