"""Render one example within the token budget (paper section 4.2): plain Python, no Spark."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from fashionrec.errors import UserError
from fashionrec.prompts.answer import MAX_ID_CHARS, SEPARATOR, clean_text, clean_title, cut_words, render_answer
from fashionrec.prompts.template import Template
from fashionrec.prompts.tokens import CountTokens

MAX_QUERY_CHARS = 80
MAX_VALUE_CHARS = 24
MAX_CATEGORY_CHARS = 40


# A rendered action: its own line, then those of the products below it; each ends in a line end.
Lines = tuple[str, ...]


class PromptError(UserError):
    """An example cannot be rendered with this template and budget."""


class Product(NamedTuple):
    item_id: str
    title: str


@dataclass(frozen=True)
class Example:
    """What a prompt is made of: no user in it.

    `actions` stand oldest to newest, each with the fields of the table `sequences` (`action`, `query`, `item_id`, `title`, `brand`, ...,
    `attributes`: a mapping). `shown` gives the memory's products of a query as it stands in the actions.
    """

    category: str
    as_of_date: date
    actions: Sequence[Mapping[str, Any]]
    shown: Mapping[str, Sequence[Product]]


class Rendered(NamedTuple):
    """A prompt, its tokens with those that the tokenizer adds, and how many actions and products stand in it or were left out."""

    prompt: str
    token_count: int
    action_count: int
    dropped_action_count: int
    memory_product_count: int


def render_prompt(
    example: Example, template: Template, *, count_tokens: CountTokens, budget: int, products_per_query: int, attributes: bool
) -> Rendered:
    """Return the prompt of an example with at most `budget` tokens.

    The oldest actions are left out first; the last search (the newest action where none was a search) and its products never. Where not
    even they fit, products are left out from the last one, then the text of the line is cut.

    Raises:
        PromptError: the budget does not hold the template itself, or the template has no line for a kind of action.
    """
    head, tail = _frame(example, template)
    blocks = [_block(action, example.shown, template, products_per_query, attributes) for action in example.actions]
    anchor = _anchor(example.actions)
    # The instruction is counted apart: it is the same every time, and its count is remembered.
    own_tokens = count_tokens(template.instruction) + count_tokens(head.removeprefix(template.instruction) + tail) - count_tokens("")
    kept = _newest_that_fit(blocks, anchor, budget - own_tokens, count_tokens)
    while True:
        prompt = head + "".join(line for index in sorted(kept) for line in kept[index]) + tail
        token_count = count_tokens(prompt)
        if token_count <= budget:
            products = sum(len(lines) - 1 for lines in kept.values())
            return Rendered(prompt, token_count, len(kept), len(blocks) - len(kept), products)
        # The anchor alone is too long, or the tokens of lines do not add up to those of the text: some tokenizers merge across line ends.
        kept = _smaller(kept, anchor, template, budget)


def render_response(item_id: str, title: str, *, count_tokens: CountTokens, budget: int) -> str:
    """Return the answer to learn, its title cut so that it and an end token keep to `budget` tokens.

    Raises:
        AnswerError: the ID cannot be answered.
    """
    words = clean_title(title)
    answer = render_answer(item_id, words)
    while count_tokens(answer) + 1 > budget and len(words) > 1:
        words = cut_words(words, len(words) * 4 // 5)
        answer = render_answer(item_id, words)
    return answer


def _frame(example: Example, template: Template) -> tuple[str, str]:
    """Return what stands before and after the actions."""
    category = _data(example.category, template, MAX_CATEGORY_CHARS) or "unknown"
    month = template.months[example.as_of_date.month - 1]
    return template.instruction + template.input.format(category=category, month=month), template.answer + "\n"


def _anchor(actions: Sequence[Mapping[str, Any]]) -> int:
    """Return the index of the last search, or of the newest action where there is none."""
    return max((index for index, action in enumerate(actions) if action.get("query")), default=len(actions) - 1)


def _newest_that_fit(blocks: Sequence[Lines], anchor: int, room: int, count_tokens: CountTokens) -> dict[int, Lines]:
    """Return the anchor's lines and those of the newest actions, without a gap, that fit `room` tokens, by their index."""
    added = count_tokens("")

    def tokens(lines: Lines) -> int:
        return sum(count_tokens(line) - added for line in lines)

    kept = {anchor: blocks[anchor]}
    room -= tokens(blocks[anchor])
    for index in reversed(range(len(blocks))):
        if index == anchor:
            continue
        room -= tokens(blocks[index])
        if room < 0:
            break
        kept[index] = blocks[index]
    return kept


def _smaller(kept: dict[int, Lines], anchor: int, template: Template, budget: int) -> dict[int, Lines]:
    """Return a little less: without the oldest action but the anchor, else without its last product, else with its line cut."""
    others = sorted(set(kept) - {anchor})
    if others:
        return {index: lines for index, lines in kept.items() if index != others[0]}
    line, *products = kept[anchor]
    if products:
        return {anchor: (line, *products[:-1])}
    text = line.rstrip()
    if len(text) < 2:
        raise PromptError(f"prompt template {template.label}: {budget} tokens do not hold its own text; raise prompts.max_tokens")
    return {anchor: (text[: len(text) * 4 // 5].rstrip() + "\n",)}


def _block(
    action: Mapping[str, Any], shown: Mapping[str, Sequence[Product]], template: Template, products_per_query: int, attributes: bool
) -> Lines:
    """Return an action's line and, for a search, one line per product of the memory."""
    form = template.actions.get(action["action"])
    if form is None:
        raise PromptError(f"prompt template {template.label}: no line for the action {action['action']!r}; add one to its actions")
    if "{query}" not in form:
        product = _product(action["item_id"] or "", action["title"] or "", template)
        return (form.format(product=product + (_attributes(action, template) if attributes else "")) + "\n",)
    query = action["query"] or ""
    lines = [form.format(query=_data(query, template, MAX_QUERY_CHARS)).rstrip() + "\n"]
    for rank, (item_id, title) in enumerate(shown.get(query, ())[:products_per_query], start=1):
        lines.append(template.shown.format(rank=rank, product=_product(item_id, title, template)) + "\n")
    return tuple(lines)


def _product(item_id: str, title: str, template: Template) -> str:
    shown_title = template.markers.sub(r"\1", clean_title(title))
    return _data(item_id, template, MAX_ID_CHARS) + SEPARATOR + shown_title


def _attributes(action: Mapping[str, Any], template: Template) -> str:
    """Return those of the template's attributes that the item has and its title does not say, in brackets."""
    title = f" {_WORD_ENDS.sub(' ', action['title'] or '').lower()} "
    further = action.get("attributes") or {}
    said = []
    for name in template.attributes:
        value = action.get(name)
        value = further.get(name) if value is None else value
        text = _data(f"{value:.2f}" if isinstance(value, float) else value or "", template, MAX_VALUE_CHARS)
        if text and f" {text.lower()} " not in title:
            said.append(f"{name} {text}")
    return f" ({', '.join(said)})" if said else ""


def _data(text: str, template: Template, max_chars: int) -> str:
    """Return data as it may stand in a line: cleaned, cut, and without what begins the template's own lines."""
    return template.markers.sub(r"\1", clean_text(text, max_chars))


# What may stand between the words of a title.
_WORD_ENDS = re.compile(r"[\s,.;()/]+")
