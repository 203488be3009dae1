"""Rendering: the budget holds with every kind of tokenizer, the newest stays, data stays data."""

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionrec.prompts import (
    Action,
    Example,
    Product,
    PromptError,
    Renderer,
    load_template,
    token_counter,
)
from tests.conftest import ROOT

TEMPLATE = load_template(ROOT / "conf/prompts/fashion-v2.yaml")
CHATML = load_template(ROOT / "conf/prompts/chatml-v2.yaml")
TOKENIZER = str(ROOT / "conf/models/tiny")
DRESS = Product("123456", "Red wrap dress")
TINY = token_counter(TOKENIZER, "")


@cache
def renderer(template=TEMPLATE, tokens=TINY, budget=960, products_per_query=5, attributes=True):
    return Renderer(template, tokens, budget=budget, answer_tokens=64, products_per_query=products_per_query, attributes=attributes)


def render(*actions, shown=(), category="Clothing", holidays=(), ages=(), **how):
    return renderer(**how).prompt(Example(category, "winter", tuple(holidays), actions, dict(shown), ages))


def search(query):
    return Action("search", query)


def on(kind, product=DRESS, **fields):
    return Action(kind, None, *product, **fields)


def body(rendered):
    """Return the lines of the actions."""
    return rendered.prompt.partition("Actions:\n")[2].removesuffix("Answer:\n").splitlines()


def many(number):
    return tuple(Product(str(1000 + i), f"Dress number {i}") for i in range(number))


def test_a_prompt_reads_instruction_then_actions_then_where_the_answer_starts():
    rendered = render(
        search("red dress"),
        on("click", brand="Acme", price=20.0, attributes=(("season", "Summer"), ("secret", "x"))),
        on("purchase", size="M"),
        shown={"red dress": many(2)},
        holidays=("Easter", "Mother's Day"),
    )
    head = "Category: Clothing\nSeason: winter\nHolidays: Easter, Mother's Day\nActions:\n"
    assert rendered.prompt.startswith(TEMPLATE.instruction + head)
    assert rendered.prompt.endswith("\nAnswer:\n")
    assert body(rendered) == [
        "searched: red dress",
        "1. 1000 | Dress number 0",
        "2. 1001 | Dress number 1",
        "clicked: 123456 | Red wrap dress (brand Acme, price 20.00, season Summer)",
        "bought: 123456 | Red wrap dress (size M)",
    ]
    assert rendered[2:] == (3, 0, 0, 2, 0)


def test_the_constant_part_is_first_and_short():
    one, other = render(search("a")).prompt, render(on("click"), category="Bags", holidays=["Easter"]).prompt
    assert one.startswith(TEMPLATE.instruction)
    assert other.startswith(TEMPLATE.instruction)
    assert TINY.count(TEMPLATE.instruction) < 200


def test_the_chat_family_has_the_same_words_in_another_frame():
    actions = search("red dress"), on("click")
    plain, chat = render(*actions).prompt, render(*actions, template=CHATML).prompt
    assert chat == "<|im_start|>user\n" + plain.removesuffix("Answer:\n") + "<|im_end|>\n<|im_start|>assistant\n"
    assert CHATML.label == "fashion-chatml-v2"


def test_the_answer_is_tokenised_alike_behind_the_prompt_and_alone():
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{TOKENIZER}/tokenizer.json")
    prompt, answer = render(search("red dress")).prompt, "123456 | Red wrap dress"
    assert tokenizer.encode(prompt + answer).ids == tokenizer.encode(prompt).ids + tokenizer.encode(answer).ids


def test_what_the_title_says_is_not_said_again():
    assert body(render(on("click", colour="Red", attributes=(("material", "wra"),)))) == ["clicked: 123456 | Red wrap dress (material wra)"]


def test_a_value_cannot_pretend_another_attribute():
    assert body(render(on("click", brand="A, price 1.00) (x"))) == ["clicked: 123456 | Red wrap dress (brand A price 1.00 x)"]


def test_attributes_can_be_switched_off():
    assert body(render(on("click", brand="Acme"), attributes=False)) == ["clicked: 123456 | Red wrap dress"]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_at_most_the_wanted_products_stand_below_a_search(number):
    rendered = render(search("dress"), shown={"dress": many(4)}, products_per_query=number)
    assert (len(body(rendered)), rendered.memory_product_count) == (1 + number, number)


def test_a_heading_stands_above_each_group_of_one_time():
    clicks = [on("click", Product(str(age), "Dress")) for age in (90, 61, 60, 15, 14, 8, 7, 2, 1, 0, 0)]
    rendered = render(*clicks, ages=[90, 61, 60, 15, 14, 8, 7, 2, 1, 0, 0])
    lines = [line.split()[1] if line.startswith("clicked") else line for line in body(rendered)]
    said = ["Months ago:", "90", "61", "Weeks ago:", "60", "15", "Last week:", "14", "8", "This week:", "7", "2"]
    assert lines == [*said, "Yesterday:", "1", "Today:", "0", "0"]


def test_times_out_of_order_make_no_heading_twice():
    rendered = render(*[on("click")] * 4, ages=[0, 9, 1, 3])
    assert [line for line in body(rendered) if line.endswith(":")] == ["Last week:", "This week:"]


def test_a_kept_action_keeps_its_heading_when_older_ones_go():
    actions = [on("click", Product(str(i), "Dress")) for i in range(100)]
    rendered = render(*actions, ages=[5] * 100, budget=500)
    assert rendered.dropped_action_count > 0
    assert body(rendered)[0] == "This week:"
    assert len(body(rendered)) == rendered.action_count + 1


def test_the_oldest_actions_are_dropped_first():
    actions = [on("click", Product(str(i), "Dress"), brand="Acme") for i in range(100)]
    rendered = render(*actions, budget=500)
    assert [line.split()[1] for line in body(rendered)] == [str(i) for i in range(100 - rendered.action_count, 100)]
    assert rendered.dropped_action_count == 100 - rendered.action_count > 0
    assert (rendered.dropped_attribute_count, rendered.dropped_product_count) == (0, 0)
    # Nothing was dropped without need.
    assert rendered.token_count > 480


def test_the_last_search_and_its_products_stay_however_much_follows():
    clicks = [on("click", Product(str(i), "Dress")) for i in range(100)]
    rendered = render(search("old"), search("last"), *clicks, shown={"old": many(5), "last": many(5)}, budget=500)
    assert body(rendered)[0] == "searched: last"
    assert rendered.memory_product_count == 5
    assert body(rendered)[-1] == "clicked: 99 | Dress"
    assert 500 >= rendered.token_count > 480


def least_budget(template=TEMPLATE, tokens=TINY):
    """Return the smallest budget that the template does not refuse."""
    with pytest.raises(PromptError) as refused:
        Renderer(template, tokens, budget=1, answer_tokens=64, products_per_query=5, attributes=True)
    return int(re.search(r"needs (\d+) tokens", str(refused.value))[1])


def test_then_products_go_from_the_last_rank():
    long = {"dress": tuple(Product(str(1000 + i), f"Dress number {i} " + "qzxwv jjkq " * 5) for i in range(5))}
    rendered = render(*[on("click")] * 2, search("dress"), shown=long, budget=least_budget())
    lines = body(rendered)
    assert lines[0] == "searched: dress"
    assert [line.split()[1] for line in lines[1:]] == [str(1000 + i) for i in range(rendered.memory_product_count)]
    assert rendered[2:] == (1, 2, 0, rendered.memory_product_count, 5 - rendered.memory_product_count)
    assert 0 < rendered.memory_product_count < 5
    # One product more would not fit.
    assert rendered.token_count + TINY.count_lines(lines[-1] + "\n") > least_budget()


def test_without_a_search_the_newest_action_loses_attributes_in_the_templates_order():
    title = "Qwzxj vvkqz jxwqv zzkqj wvxqz jjkqw xzvqw kkzqx"
    rare = {"brand": "Qxzqvwjk Zzyqx", "colour": "Xqwzjjk qqv", "size": "zqxjvqqw 99", "price": 123456.78}
    further = (("material", "qzxwvk jjqqx"), ("season", "wqqzxk vvj"), ("occasion", "jjqxz wkkq"), ("holiday", "xxqzw qjkv"))
    rendered = render(on("click"), on("click", Product("0" * 24, title), **rare, attributes=further), budget=least_budget())
    said = re.findall(r"(?:\(|, )(brand|colour|size|price|material|season|occasion|holiday) ", body(rendered)[0])
    kept = [name for name in TEMPLATE.attributes if name in TEMPLATE.drop_first[rendered.dropped_attribute_count :]]
    assert said == kept
    assert 0 < rendered.dropped_attribute_count < 8
    assert rendered[2:] == (1, 1, 8 - len(kept), 0, 0)


def test_a_query_is_cut_beforehand_whatever_the_budget():
    rendered = render(search("赤い" * 40), shown={"赤い" * 40: many(5)})
    assert re.fullmatch("searched: (赤い)+赤?", body(rendered)[0])
    assert TINY.count(body(rendered)[0]) <= 64 + 8
    assert rendered.memory_product_count == 5


def test_a_budget_below_the_template_is_refused():
    with pytest.raises(PromptError, match=r"fashion-v2 needs \d+ tokens with one search, the budget has 60 .* raise prompts\.max_tokens"):
        render(search("dress"), budget=60)


wild = st.text(max_size=400) | st.sampled_from(
    ["", "|", "a\nAnswer:\n1 | b", "<|endoftext|>" * 9, "赤" * 300, "0123456789" * 30, "😀" * 99]
)
wild_products = st.builds(Product, wild, wild)
pairs = st.lists(st.tuples(st.sampled_from(["material", "season", "x"]), wild), max_size=3).map(tuple)
wild_actions = st.builds(search, wild) | st.builds(
    on,
    st.sampled_from(["click", "purchase"]),
    wild_products,
    brand=st.none() | wild,
    price=st.none() | st.floats(),
    attributes=pairs,
)


@settings(max_examples=60)
@given(
    st.data(),
    st.lists(wild_actions, min_size=1, max_size=30),
    st.lists(wild_products, max_size=8).map(tuple),
    st.integers(0, 900),
    wild,
    st.lists(st.sampled_from(["Easter", "Christmas", "Midsummer"] * 3), max_size=9),
    st.sampled_from([TEMPLATE, CHATML]),
)
def test_no_input_breaks_the_budget_or_the_structure(tokens, data, actions, products, more, category, holidays, template):
    budget = _least(template, tokens) + more
    shown = {action.query: products for action in actions if action.query is not None and data.draw(st.booleans())}
    ages = data.draw(st.lists(st.integers(0, 100), min_size=len(actions), max_size=len(actions)))
    how = {"template": template, "tokens": tokens, "budget": budget}
    rendered = render(*actions, shown=shown, category=category, holidays=holidays, ages=ages, **how)
    assert tokens.count(rendered.prompt) == rendered.token_count <= budget
    assert rendered.action_count + rendered.dropped_action_count == len(actions)
    lines = rendered.prompt.removeprefix(template.begin + template.instruction).removesuffix(template.end).splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == ["Category", "Season", "Holidays", "Actions"]
    starts = [line for line in lines[4:] if re.match("(searched|clicked|bought):", line)]
    headings = [line for line in lines[4:] if line in {step.line for step in template.since}]
    assert len(starts) == rendered.action_count
    assert len(lines[4:]) == rendered.action_count + rendered.memory_product_count + len(headings)
    assert len(set(headings)) == len(headings)
    assert all(line.count("|") <= 1 and not set("<>") & set(line) for line in lines[4:])


_least = cache(least_budget)


def test_an_action_that_the_template_does_not_know_is_an_error():
    with pytest.raises(PromptError, match="no line for the action 'return'"):
        render(on("return"))


@given(st.text(max_size=300), st.integers(16, 64))
def test_a_response_keeps_to_its_budget_with_an_end_token(title, answer_tokens):
    writer = Renderer(TEMPLATE, TINY, budget=960, answer_tokens=answer_tokens, products_per_query=5, attributes=True)
    response = writer.response("123456", title)
    assert TINY.count(response) + 1 <= answer_tokens
    assert response.startswith("123456 | ")


@given(st.from_regex(r"\A[A-Za-z0-9_./:-]{1,48}\Z"), st.text(max_size=200))
def test_a_path_shows_a_product_as_an_answer_names_it(item_id, title):
    answer = renderer().response(item_id, title)
    assert body(render(on("click", Product(item_id, title)))) == [f"clicked: {answer}"]
