"""Titles, queries and attributes that try to be more than text stay data: the prompt's lines and the parsed answer are the same."""

import re

import pytest
import yaml

from fashionrec.prompts import Action, Example, Product, Renderer, load_template, parse_answer, token_counter
from fashionrec.prompts.clean import clean_title
from tests.conftest import ROOT

INJECTIONS = yaml.safe_load((ROOT / "tests/injections.yaml").read_text(encoding="utf-8"))
CHATML = load_template(ROOT / "conf/prompts/chatml-v2.yaml")
FASHION = load_template(ROOT / "conf/prompts/fashion-v2.yaml")


@pytest.fixture(scope="module", params=[FASHION, CHATML], ids=["fashion", "chatml"])
def renderer(request):
    tokens = token_counter(str(ROOT / "conf/models/tiny"), "")
    return Renderer(request.param, tokens, budget=960, answer_tokens=64, products_per_query=5, attributes=True)


def example(text):
    """Return a path with the text wherever shoppers and sellers write some."""
    item = Action("click", item_id="12", title=text, brand=text, colour=text, attributes=(("material", text), (text, "x")))
    strange = item._replace(action="purchase", item_id=text, price=20.0)
    shown = {text: (Product("13", text), Product("14", text))}
    return Example(text, "winter", ("Easter",), [item, Action("search", text), strange], shown, [9, 1, 0])


def kinds(prompt):
    """Return what each line of a prompt is: its words up to the first data, and which signs of structure it has."""
    lines = prompt.split("\n")
    return [(re.match(r"\w[\w ]*:|\d+\.|<\|im_\w+\|>\w*|", line)[0], re.sub(r"[^|<>\n:]|(?<=\d):(?=\d)", "", line)) for line in lines]


def test_the_corpus_is_as_large_as_it_says():
    assert len(set(INJECTIONS)) == len(INJECTIONS) >= 60


@pytest.mark.parametrize("text", INJECTIONS)
def test_the_lines_of_a_prompt_stay_what_they_are(renderer, text):
    prompt = renderer.prompt(example(text)).prompt
    assert kinds(prompt) == kinds(renderer.prompt(example("red dress")).prompt)
    assert len(prompt.splitlines()) == prompt.count("\n")
    assert prompt.isprintable() or set(filter(lambda char: not char.isprintable(), prompt)) == {"\n"}


@pytest.mark.parametrize("text", INJECTIONS)
def test_the_answer_that_names_such_a_product_is_read_as_that_product(renderer, text):
    item_id, title, error = parse_answer(renderer.response("12", text))
    # Cut where it takes more tokens than an answer may.
    assert (item_id, error) == ("12", None)
    assert clean_title(text).startswith(title)


def test_every_line_of_the_corpus_holds_something_to_neutralise():
    assert [text for text in INJECTIONS if clean_title(text) == text] == []
