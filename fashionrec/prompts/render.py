"""Render one example within the token budget (paper section 4.2): plain Python, no Spark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from fashionrec.prompts.lines import Action, Block, Lines, Product, PromptError
from fashionrec.prompts.template import Template
from fashionrec.prompts.tokens import TokenCounter


@dataclass(frozen=True)
class Example:
    """What a prompt is made of: no user in it.

    `actions` stand oldest to newest; `ages` are the days from each to the day that is predicted (0: that day), none where times are not
    known. `shown` gives the memory's products of a query as it stands in the actions.
    """

    category: str
    season: str
    holidays: tuple[str, ...]
    actions: Sequence[Action]
    shown: Mapping[str, tuple[Product, ...]]
    ages: Sequence[int] = ()


class Rendered(NamedTuple):
    """A prompt, its tokens with those that the tokenizer adds, and what stands in it and was left out to keep the budget.

    Attributes and products that went with their action are not counted again.
    """

    prompt: str
    token_count: int
    action_count: int
    dropped_action_count: int
    dropped_attribute_count: int
    memory_product_count: int
    dropped_product_count: int


class Renderer:
    """Renders examples and answers with one template and one tokenizer.

    Args:
        budget: most tokens of a prompt.
        answer_tokens: most tokens of an answer with its end token.
        products_per_query: most products of the memory below a search.
        attributes: whether item attributes are rendered.

    Raises:
        PromptError: the template leaves no room for a last search.
    """

    def __init__(
        self, template: Template, tokens: TokenCounter, *, budget: int, answer_tokens: int, products_per_query: int, attributes: bool
    ) -> None:
        self._template, self._tokens, self._budget, self._products_per_query = template, tokens, budget, products_per_query
        self._lines = Lines(template, tokens, answer_tokens=answer_tokens, attributes=attributes)
        self.response = self._lines.answer
        needed = self._lines.room_needed()
        if needed > budget:
            raise PromptError(
                f"template {template.label} needs {needed} tokens with one search, the budget has {budget} beside "
                f"{answer_tokens} for the answer; raise prompts.max_tokens"
            )
        self._searches = frozenset(name for name, form in template.actions.items() if "{query}" in form)
        self._add_up = self._lines.add_up(products_per_query)

    def prompt(self, example: Example) -> Rendered:
        """Return the prompt of an example with at most `budget` tokens.

        What is left out, in this order: the oldest actions, but never the last search (the newest action where none was a search); its
        attributes, in the template's order; its products, from the last one. Then the template and one line are left, which always fit.

        Raises:
            PromptError: the template has no line for a kind of action.
        """
        head, end = self._lines.head(example.category, example.season, example.holidays), self._lines.end
        room = self._budget - head.tokens - end.tokens
        while True:
            chosen = self._fit(example, room)
            prompt = "".join((head.text, *chosen.texts, end.text))
            token_count = head.tokens + chosen.tokens + end.tokens if self._add_up else self._tokens.count(prompt)
            if token_count <= self._budget:
                return Rendered(prompt, token_count, *chosen.counts)
            if chosen.is_least:
                raise PromptError(f"template {self._template.label}: {self._budget} tokens do not hold it; raise prompts.max_tokens")
            room -= token_count - self._budget

    def _fit(self, example: Example, room: int) -> "_Chosen":
        """Return the lines of the last search (else the newest action), and of the newest actions without a gap, that fit `room` tokens."""
        actions, headings, anchor = example.actions, self._headings(example), self._anchor(example.actions)
        used, said = headings[anchor].tokens, {headings[anchor].text}
        blocks = {anchor: self._block(actions[anchor], example)}
        used += blocks[anchor].tokens
        if used > room:
            return self._least(example, anchor, headings[anchor], room)
        for index in range(len(actions) - 1, -1, -1):
            if index == anchor:
                continue
            heading, block = headings[index], self._block(actions[index], example)
            # Actions stand in the order of time: each heading is needed once.
            tokens = block.tokens if heading.text in said else block.tokens + heading.tokens
            if used + tokens > room:
                break
            used += tokens
            said.add(heading.text)
            blocks[index] = block
        texts: list[str] = []
        above = ""
        for index in sorted(blocks):
            if headings[index].text != above:
                above = headings[index].text
                texts.append(above)
            texts.append(blocks[index].text)
        products = sum(block.parts for index, block in blocks.items() if actions[index].action in self._searches)
        return _Chosen(texts, used, (len(blocks), len(actions) - len(blocks), 0, products, 0), is_least=False)

    def _least(self, example: Example, anchor: int, heading: Block, room: int) -> "_Chosen":
        """Return the one action that always stays, with as many of its attributes or products as fit."""
        action, others = example.actions[anchor], len(example.actions) - 1
        full = block = self._block(action, example)
        lost = (0, 0, 0)
        if action.action in self._searches:
            products = self._products(action, example)
            while heading.tokens + block.tokens > room and block.parts:
                block = self._lines.search(action.action, action.query or "", products[: block.parts - 1])
            lost = (0, block.parts, full.parts - block.parts)
        else:
            names = self._template.drop_first
            for count in range(1, len(names) + 1):
                if heading.tokens + block.tokens <= room:
                    break
                block = self._lines.on_item(action, frozenset(names[:count]))
            lost = (full.parts - block.parts, 0, 0)
        return _Chosen([heading.text, block.text], heading.tokens + block.tokens, (1, others, *lost), is_least=True)

    def _block(self, action: Action, example: Example) -> Block:
        if action.action in self._searches:
            return self._lines.search(action.action, action.query or "", self._products(action, example))
        return self._lines.on_item(action)

    def _products(self, action: Action, example: Example) -> tuple[Product, ...]:
        return example.shown.get(action.query or "", ())[: self._products_per_query]

    def _headings(self, example: Example) -> Sequence[Block]:
        """Return the heading of each action; an older one is never nearer than a newer one, whatever their times say."""
        if not example.ages:
            return [_NO_HEADING] * len(example.actions)
        ages = list(accumulate(reversed(example.ages), max))
        return [self._lines.heading(age) for age in reversed(ages)]

    def _anchor(self, actions: Sequence[Action]) -> int:
        for index in range(len(actions) - 1, -1, -1):
            if actions[index].action in self._searches:
                return index
        return len(actions) - 1


class _Chosen(NamedTuple):
    """Lines oldest to newest, their tokens, and the counts of Rendered behind its tokens; `is_least`: nothing more can be left out."""

    texts: list[str]
    tokens: int
    counts: tuple[int, int, int, int, int]
    is_least: bool


_NO_HEADING = Block("", 0, 0)
