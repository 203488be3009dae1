"""From sequences and the memory's answers to prompts, in Spark."""

from datetime import timedelta

import pytest

from fashionrec.errors import UserError
from fashionrec.pipeline.registry import step_named
from fashionrec.prompts import AnswerError, PromptError, TokenizerError, load_template, parse_answer
from fashionrec.prompts.build import build_prompts
from fashionrec.settings import load_settings
from tests.builders import action, table_rows
from tests.conftest import ROOT, RUN_DATE

TODAY, EARLIER = RUN_DATE, RUN_DATE - timedelta(days=7)


def path(example_id, *actions, split="score", **fields):
    """Return a sequence's row; all but today's open path have a target."""
    target = {} if split == "score" else {"target_item_id": "99", "target_title": "Red | dress"}
    row = {"example_id": example_id, "user_id": "secret-user", "category": "Clothing", "split": split, "as_of_date": TODAY}
    return {**row, **target, "actions": list(actions), **fields}


def hits(query, *ids, as_of_date=TODAY, category="Clothing"):
    products = [{"item_id": i, "title": f"Dress {i}", "score": 1.0} for i in ids]
    return {"as_of_date": as_of_date, "category": category, "query": query, "match": "exact" if ids else "none", "products": products}


@pytest.fixture
def prompts(spark):
    """Return a function from sequences and the memory's answers to the prompts' rows by example."""

    def build(sequences, found=(), **changes):
        settings = load_settings(ROOT / "conf/test.yaml")
        arguments = {
            "template": load_template(settings.prompts.template),
            "tokenizer_path": settings.llm.base.path,
            "tokenizer_revision": "",
            **settings.prompts.model_dump(exclude={"template", "memory"}),
            **changes,
        }
        found = table_rows(spark, "query_hits", *found)
        return {row.example_id: row for row in build_prompts(table_rows(spark, "sequences", *sequences), found, **arguments).collect()}

    return build


SEARCH = action("search", query="red dress")
CLICK = action("click", item_id="7", title="Blue dress", brand="Acme", price=20.0, attributes={"occasion": "Party"})


def test_every_split_gets_a_prompt_and_all_but_score_an_answer(prompts):
    rows = prompts([path("open", SEARCH), *(path(split, SEARCH, split=split) for split in ("train", "validation", "test"))])
    assert {row.split: row.response for row in rows.values()} == {"score": None} | dict.fromkeys(
        ("train", "validation", "test"), "99 | Red dress"
    )
    assert parse_answer(rows["train"].response) == ("99", "Red dress", None)
    assert rows["train"].target_item_id == "99"
    assert {row.template for row in rows.values()} == {"fashion-v1"}


def test_products_stand_below_the_search_that_they_answer(prompts):
    rows = prompts([path("a", SEARCH, CLICK)], [hits("red dress", "1", "2"), hits("blue dress", "3")])
    assert rows["a"].prompt.endswith(
        "searched: red dress\n1. 1 | Dress 1\n2. 2 | Dress 2\nclicked: 7 | Blue dress (brand Acme, price 20.00, occasion Party)\nAnswer:\n"
    )
    assert (rows["a"].action_count, rows["a"].memory_product_count) == (2, 2)


def test_an_example_sees_the_memory_of_its_own_date_and_category_only(prompts):
    found = [hits("red dress", "1"), hits("red dress", "2", as_of_date=EARLIER), hits("red dress", "3", category="Footwear")]
    rows = prompts([path("now", SEARCH), path("then", SEARCH, as_of_date=EARLIER), path("shoes", SEARCH, category="Footwear")], found)
    shown = {name: row.prompt.partition("searched")[2].splitlines()[1] for name, row in rows.items()}
    assert shown == {"now": "1. 1 | Dress 1", "then": "1. 2 | Dress 2", "shoes": "1. 3 | Dress 3"}


def test_examples_without_a_search_or_without_hits_have_prompts_too(prompts):
    rows = prompts([path("no search", CLICK), path("no hits", SEARCH), path("near nothing", action("search", query="x"))], [hits("x")])
    assert {row.memory_product_count for row in rows.values()} == {0}
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("change", "gone"),
    [({"products_per_query": 0}, "1 | Dress 1"), ({"products_per_query": 1}, "2 | Dress 2"), ({"attributes": False}, "brand")],
)
def test_switches(prompts, change, gone):
    sequences, found = [path("a", SEARCH, CLICK)], [hits("red dress", "1", "2")]
    assert gone in prompts(sequences, found)["a"].prompt
    assert gone not in prompts(sequences, found, **change)["a"].prompt


def test_no_user_id_stands_in_a_prompt(prompts):
    assert "secret-user" not in prompts([path("a", SEARCH, CLICK, split="train")])["a"].prompt


def test_the_fingerprint_follows_the_prompt(prompts):
    rows = prompts([path("a", SEARCH), path("b", SEARCH), path("c", CLICK)])
    assert rows["a"].fingerprint == rows["b"].fingerprint != rows["c"].fingerprint


@pytest.mark.parametrize(
    ("sequences", "change", "error", "message"),
    [
        ([path("a", SEARCH, split="train", target_item_id="a b")], {}, AnswerError, "item 'a b' cannot be answered"),
        ([path("a", SEARCH)], {"max_tokens": 200}, PromptError, "leaves under 100 tokens beside"),
        ([path("a", SEARCH)], {"tokenizer_path": "/nowhere"}, TokenizerError, "llm.base /nowhere: no readable tokenizer"),
    ],
)
def test_what_cannot_be_rendered_is_said_in_one_line_before_any_worker_starts(prompts, sequences, change, error, message):
    with pytest.raises(error, match=message) as raised:
        prompts(sequences, **change)
    assert isinstance(raised.value, UserError)
    assert "\n" not in str(raised.value)


def test_the_step_writes_the_table_within_the_budget_and_says_what_it_cost(spark, make_run):
    step = step_named("build_prompts")
    for override in ("prompts.memory=true", "prompts.memory=false"):
        run = make_run("prompts.max_tokens=400", override)
        run.write("sequences", table_rows(spark, "sequences", path("long", SEARCH, *[CLICK] * 60), path("train", SEARCH, split="train")))
        run.write("query_hits", table_rows(spark, "query_hits", hits("red dress", "1")))
        run.step = step
        step.run(run)
        rows = {row.example_id: row for row in spark.read.format("delta").load(run.path("lake", "prompts")).collect()}
        assert ("Dress 1" in rows["train"].prompt) == (override == "prompts.memory=true")
        tokens = [row.token_count for row in rows.values()]
        assert max(tokens) <= 400 - 64
        dropped = rows["long"].dropped_action_count
        assert dropped > 0
        assert run.figures == {"over_budget": 0, "mean_tokens": sum(tokens) / 2, "dropped_action_rate": round(dropped / 62, 4)}
        assert run.rows_written["prompts"] == 2
