"""From sequences and the memory's answers to prompts, in Spark."""

from datetime import UTC, datetime, timedelta

import pytest

from fashionrec.errors import UserError
from fashionrec.pipeline.registry import step_named
from fashionrec.prompts import AnswerError, PromptError, TokenizerError, load_calendar, load_template, parse_answer
from fashionrec.prompts.build import build_prompts
from fashionrec.settings import load_settings
from tests.builders import action, put, run_of, table_rows
from tests.conftest import ROOT, RUN_DATE

TODAY, EARLIER = RUN_DATE, RUN_DATE - timedelta(days=7)


def path(example_id, *actions, split="score", **fields):
    """Return a sequence's row; all but today's open path have a target."""
    target = {} if split == "score" else {"target_item_id": "99", "target_title": "Red | dress"}
    row = {"example_id": example_id, "user_id": "secret-user", "category": "Clothing", "split": split, "as_of_date": TODAY}
    return {**row, **target, "actions": list(actions), **fields}


def hits(query, *ids, as_of_date=TODAY, category="Clothing"):
    products = [{"item_id": i, "title": f"Dress {i}", "score": 1.0} for i in ids]
    found = {"match": "exact" if ids else "none", "neighbours": [], "products": products}
    return {"as_of_date": as_of_date, "category": category, "query": query, **found}


@pytest.fixture
def prompts(spark):
    """Return a function from sequences and the memory's answers to the prompts' rows by example."""

    def build(sequences, found=(), **changes):
        settings = load_settings(ROOT / "conf/test.yaml")
        arguments = {
            "template": load_template(settings.prompts.template),
            "calendar": load_calendar(settings.prompts.calendar),
            "tokenizer_path": settings.llm.base.path,
            "tokenizer_revision": "",
            **settings.prompts.model_dump(exclude={"template", "calendar", "memory"}),
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
    assert {row.template for row in rows.values()} == {"fashion-v2"}


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


def test_no_pseudonym_that_somebody_typed_stands_in_a_prompt(prompts):
    row = prompts([path("a", action("search", query=f"orders of {'0a1b' * 16} jane@example.org"))])["a"]
    assert "searched: orders of\n" in row.prompt


def test_the_fingerprint_follows_the_prompt_and_every_word_of_the_template(prompts):
    sequences = [path("a", SEARCH), path("b", SEARCH), path("c", CLICK)]
    rows = prompts(sequences)
    assert rows["a"].fingerprint == rows["b"].fingerprint != rows["c"].fingerprint
    template = load_template(load_settings().prompts.template)
    # A word that this prompt does not even show, under the same name and version.
    changed = prompts(sequences, template=template.model_copy(update={"no_holidays": "nothing"}), holiday_days=60)
    same = prompts(sequences, holiday_days=60)
    assert changed["a"].prompt == same["a"].prompt
    assert changed["a"].template == same["a"].template
    assert changed["a"].fingerprint != same["a"].fingerprint


def test_season_and_holidays_are_those_of_the_examples_date_and_market(prompts):
    rows = prompts([path("us", CLICK), path("south", CLICK, marketplace="au"), path("xmas", CLICK, as_of_date=TODAY.replace(month=12))])
    said = {name: row.prompt.partition("Season: ")[2].partition("\nActions")[0] for name, row in rows.items()}
    assert said == {
        "us": "spring\nHolidays: none",
        "south": "autumn\nHolidays: none",
        "xmas": "winter\nHolidays: Christmas, New Year's Eve",
    }


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_times_are_counted_to_the_day_after_the_as_of_date_in_utc(spark, prompts, zone):
    def clicked(day, hour):
        return {**CLICK, "event_at": datetime(2026, day[0], day[1], hour, 30, tzinfo=UTC)}

    paths = [path("a", clicked((2, 1), 0), clicked((2, 28), 23), clicked((3, 1), 0), clicked((3, 1), 23))]
    paths.append(path("train", clicked((2, 28), 23), clicked((3, 1), 0), as_of_date=TODAY - timedelta(days=1), split="train"))
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        rows = prompts(paths)
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    lines = {
        name: [line.split(":")[0] for line in row.prompt.splitlines() if "ed:" in line or line[-1] == ":"] for name, row in rows.items()
    }
    assert lines["a"][1:-1] == ["Weeks ago", "clicked", "This week", "clicked", "Yesterday", "clicked", "clicked"]
    # A training example predicts its target's own day.
    assert lines["train"][1:-1] == ["Yesterday", "clicked", "Today", "clicked"]


def test_each_row_keeps_its_own_actions_attributes_and_products_in_large_batches(prompts):
    def own(number):
        clicks = [{**CLICK, "item_id": f"{number}-{i}", "attributes": {"season": f"s{number}"} if i else None} for i in range(number % 4)]
        return path(f"{number}", action("search", query=f"q{number % 7}"), *clicks, split="train", target_item_id=f"t{number}")

    rows = prompts([own(number) for number in range(1203)], [hits(f"q{number}", f"p{number}") for number in range(0, 7, 2)])
    assert len(rows) == 1203
    for name, row in rows.items():
        number = int(name)
        lines = row.prompt.partition("Actions:\n")[2].splitlines()[1:-1]
        shown = [f"1. p{number % 7} | Dress p{number % 7}"] if number % 7 % 2 == 0 else []
        clicks = [
            f"clicked: {number}-{i} | Blue dress (brand Acme, price 20.00{f', season s{number}' if i else ''})" for i in range(number % 4)
        ]
        assert lines == [f"searched: q{number % 7}", *shown, *clicks]
        assert row.response == f"t{number} | Red dress"


@pytest.mark.parametrize(
    ("sequences", "change", "error", "message"),
    [
        ([path("a", SEARCH, split="train", target_item_id="a b")], {}, AnswerError, "item 'a b' cannot be answered"),
        ([path("a", SEARCH)], {"max_tokens": 200}, PromptError, "needs 2.. tokens with one search, the budget has 136"),
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
        given = make_run("prompts.max_tokens=400", override)
        put(
            given.workspace,
            "sequences",
            table_rows(
                spark,
                "sequences",
                path("long", SEARCH, *[CLICK] * 60),
                path("train", SEARCH, split="train"),
                # The night before this purchase nothing was known: there is nothing to ask.
                *(path(f"empty {split}", split=split, horizon="overnight") for split in ("validation", "test")),
            ),
        )
        put(given.workspace, "query_hits", table_rows(spark, "query_hits", hits("red dress", "1")))
        run = run_of(given.workspace, step)
        step.run(run)
        rows = {row.example_id: row for row in spark.read.format("delta").load(run.workspace.path("lake", "prompts")).collect()}
        assert set(rows) == {"long", "train"}
        assert ("Dress 1" in rows["train"].prompt) == (override == "prompts.memory=true")
        tokens = [row.token_count for row in rows.values()]
        assert max(tokens) <= 400 - 64
        dropped = rows["long"].dropped_action_count
        assert dropped > 0
        dropped_too = {"dropped_attributes": 0, "dropped_products": 0}
        figures = {"over_budget": 0, "mean_tokens": sum(tokens) / 2, "dropped_action_rate": round(dropped / 62, 4)}
        assert run.figures == figures | dropped_too
        assert run.warnings == []
        assert run.rows_written["prompts"] == 2
