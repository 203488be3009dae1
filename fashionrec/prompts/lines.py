"""The lines of a prompt with their tokens: one action, one search with its products, one heading (paper section 4.2).

The same lines come again in all examples of a user and in all that search alike: each is rendered and counted once per process.
"""

import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import NamedTuple

from fashionrec.errors import UserError
from fashionrec.prompts.answer import ID_PATTERN, MAX_ID_CHARS, render_answer
from fashionrec.prompts.clean import clean_text, clean_title, cut_words
from fashionrec.prompts.template import Template
from fashionrec.prompts.tokens import TokenCounter

MAX_QUERY_CHARS = 80
MAX_VALUE_CHARS = 24
MAX_CATEGORY_CHARS = 40
# Cut as cleaning, whatever the budget: so the last search always fits.
MAX_QUERY_TOKENS = 64
MAX_CATEGORY_TOKENS = 24
MAX_HOLIDAY_TOKENS = 48
# A line filled in may take a few tokens more than its words and its data each alone.
_JOINTS = 8
# Lines remembered per process; a few hundred bytes each.
_REMEMBERED = 200_000


class PromptError(UserError):
    """An example cannot be rendered with this template and budget."""


class Product(NamedTuple):
    item_id: str
    title: str


class Action(NamedTuple):
    """One action of a path, as the table `sequences` has it: what decides its line. `attributes` are the further ones, as pairs."""

    action: str
    query: str | None = None
    item_id: str | None = None
    title: str | None = None
    brand: str | None = None
    colour: str | None = None
    size: str | None = None
    price: float | None = None
    attributes: tuple[tuple[str, str], ...] = ()


class Block(NamedTuple):
    """Whole lines, their tokens, and how many attributes or products of the memory stand in them."""

    text: str
    tokens: int
    parts: int


class Lines:
    """Renders the template's lines; `answer_tokens` is the most that a product and an end token take, in a line as in an answer."""

    def __init__(self, template: Template, tokens: TokenCounter, *, answer_tokens: int, attributes: bool) -> None:
        self._template, self._tokens, self._answer_tokens = template, tokens, answer_tokens
        self._attributes = template.attributes if attributes else ()
        self.head = lru_cache(1000)(self._head)
        self.heading = lru_cache(10_000)(self._heading)
        self.search = lru_cache(_REMEMBERED)(self._search)
        self.product = lru_cache(_REMEMBERED)(self._shown)
        self.on_item = lru_cache(_REMEMBERED)(self._on_item)
        self.end = self._block(template.end)

    def form(self, action: str) -> str:
        """Return the template's line for an action; raise PromptError where it has none."""
        try:
            return self._template.actions[action]
        except KeyError:
            raise PromptError(
                f"prompt template {self._template.label}: no line for the action {action!r}; add one to its actions"
            ) from None

    def answer(self, item_id: str, title: str) -> str:
        """Return the answer that names a product, its title cut so that it and an end token keep to `answer_tokens`.

        Raises:
            AnswerError: the ID cannot be answered.
        """
        words = clean_title(title)
        answer = render_answer(item_id, words)
        while self._tokens.count(answer) + 1 > self._answer_tokens and len(words) > 1:
            words = clean_title(cut_words(words, len(words) * 4 // 5))
            answer = render_answer(item_id, words)
        return answer

    def room_needed(self) -> int:
        """Return the tokens of the longest prompt of which everything is left out that can be: only a template can make it too long."""
        template, count = self._template, self._tokens.count_lines
        inside = count(template.input.format(category="", season="", holidays="")) + MAX_CATEGORY_TOKENS + MAX_HOLIDAY_TOKENS
        inside += max(count(f"{step.line}\n") for step in template.since)
        line = max(count(form.format(query="", product="").rstrip() + "\n") for form in template.actions.values())
        longest = max(MAX_QUERY_TOKENS, self._answer_tokens, MAX_ID_CHARS + 8)
        return self._tokens.count(self._opening) + inside + line + longest + self.end.tokens + _JOINTS

    def add_up(self, products_per_query: int) -> bool:
        """Return whether a prompt's tokens are those of its lines together (see TokenCounter.lines_add_up)."""
        template = self._template
        shown = [template.shown.replace("{rank}", str(rank)) for rank in range(1, products_per_query + 1)]
        data_lines = [*template.actions.values(), *shown]
        fixed = [f"{step.line}" for step in template.since]
        starts = [*(line.partition("{")[0] for line in (*data_lines, template.input)), *fixed, template.end]
        ends = [*(line.rpartition("}")[2] for line in data_lines), *fixed, self._opening, template.input.rpartition("}")[2]]
        return self._tokens.lines_add_up(starts, ends)

    @property
    def _opening(self) -> str:
        return self._template.begin + self._template.instruction

    def _head(self, category: str, season: str, holidays: tuple[str, ...]) -> Block:
        """Return all lines above the actions. Of holidays that take too many tokens, the last ones are left out."""
        name = self._cut(clean_text(category, MAX_CATEGORY_CHARS), MAX_CATEGORY_TOKENS) or "unknown"
        while self._tokens.count(", ".join(holidays)) > MAX_HOLIDAY_TOKENS:
            holidays = holidays[:-1]
        situation = self._template.input.format(category=name, season=season, holidays=", ".join(holidays) or self._template.no_holidays)
        return Block(self._opening + situation, self._tokens.count(self._opening) + self._tokens.count_lines(situation), 0)

    def _heading(self, days: int) -> Block:
        return self._block(self._template.heading(days) + "\n")

    def _search(self, action: str, query: str, products: tuple[Product, ...]) -> Block:
        """Return the line of a search and one line per product."""
        form = self.form(action)
        line = self._block(form.format(query=clean_text(query, MAX_QUERY_CHARS)).rstrip() + "\n")
        if line.tokens > MAX_QUERY_TOKENS:
            words = self._cut(clean_text(query, MAX_QUERY_CHARS), MAX_QUERY_TOKENS)
            line = self._block(form.format(query=words).rstrip() + "\n")
        lines = [line, *(self.product(rank, product) for rank, product in enumerate(products, start=1))]
        return Block("".join(line.text for line in lines), sum(line.tokens for line in lines), len(products))

    def _shown(self, rank: int, product: Product) -> Block:
        """Return the line of a product below a search."""
        return self._with_product(product.item_id, product.title, lambda text: self._template.shown.format(rank=rank, product=text))

    def _on_item(self, action: Action, dropped: frozenset[str] = frozenset()) -> Block:
        """Return the line of an action on an item, without the attributes of the names in `dropped`."""
        form, said = self.form(action.action), self._said(action, dropped)
        brackets = f" ({', '.join(said)})" if said else ""
        line = self._with_product(action.item_id or "", action.title or "", lambda text: form.format(product=text + brackets))
        return Block(line.text, line.tokens, len(said))

    def _with_product(self, item_id: str, title: str, line_of: Callable[[str], str]) -> Block:
        """Return a line with a product's ID and title, cut as an answer cuts it: an answer names what the path showed."""
        if not _ANSWERABLE.fullmatch(item_id):
            item_id = _NO_ID.sub("", item_id)[:MAX_ID_CHARS] or "-"
        line = self._block(line_of(render_answer(item_id, title)) + "\n")
        # Within the limit with all that the line says beside it; counting each product alone, too, would take half of the time.
        return line if line.tokens < self._answer_tokens else self._block(line_of(self.answer(item_id, title)) + "\n")

    def _said(self, action: Action, dropped: Collection[str]) -> list[str]:
        """Return name and value of those of the template's attributes that the item has and its title does not say."""
        title = _bare(action.title or "")
        values: dict[str, str | float | None] = {
            **dict(action.attributes),
            "brand": action.brand,
            "colour": action.colour,
            "size": action.size,
            "price": action.price,
        }
        said = []
        for name in self._attributes:
            value = values.get(name)
            if value is None or name in dropped:
                continue
            text = _value(f"{value:.2f}" if isinstance(value, float) else value)
            if text and f" {text.lower()} " not in title:
                said.append(f"{name} {text}")
        return said

    def _cut(self, text: str, max_tokens: int) -> str:
        while self._tokens.count(text) > max_tokens and len(text) > 1:
            text = cut_words(text, len(text) * 4 // 5)
        return text

    def _block(self, lines: str) -> Block:
        return Block(lines, self._tokens.count_lines(lines), 0)


@lru_cache(_REMEMBERED)
def _bare(title: str) -> str:
    """Return a title's words, to be searched for others."""
    return f" {_WORD_ENDS.sub(' ', title).lower()} "


@lru_cache(_REMEMBERED)
def _value(text: str) -> str:
    """Return an attribute's value as its brackets may hold it: with no comma and bracket of its own, it can pretend no other attribute."""
    return clean_text(_LIST.sub(" ", text), MAX_VALUE_CHARS)


_LIST = re.compile("[(),]")
_ANSWERABLE = re.compile(ID_PATTERN)
_NO_ID = re.compile("[^A-Za-z0-9_-]")
# What may stand between the words of a title.
_WORD_ENDS = re.compile(r"[\s,.;()/]+")
