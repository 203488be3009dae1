"""What the tiny base learns from: repeats, picked lines and made-up prompts, each a list of tokens and which of them count in the loss.

Everything is drawn at random: no user, item or event of the demo's world or of any shop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from fashionrec.llm.tiny_text import ATTRIBUTES, KINDS, IdStyle, random_family, random_query, random_title, random_word
from fashionrec.prompts import Action, Example, Product, Renderer, Template, TokenCounter, render_answer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Sample(NamedTuple):
    """Tokens, and for each whether the model is to predict it; `answer_start` is where the final answer begins."""

    tokens: list[int]
    learn: list[bool]
    answer_start: int


Task = Callable[[Random], Sample]


@dataclass(frozen=True)
class Size:
    """How long made-up prompts are: most tokens, most journeys before the last one, most products below a search."""

    budget: int
    journeys: int
    products: int
    # Share of prompts that carry the instruction: it is always the same, so a few are enough to get used to it.
    instruction_rate: float


SHORT = Size(budget=380, journeys=0, products=5, instruction_rate=0.1)
LONG = Size(budget=960, journeys=5, products=7, instruction_rate=0.7)


def repeat(rng: Random, vocabulary: int, end: int) -> Sample:
    """Return 6 to 24 random tokens, a separator, the same tokens again."""
    words = [rng.randrange(end + 1, vocabulary) for _ in range(rng.randint(6, 24))]
    tokens = [*words, end, *words, end]
    start = len(words) + 1
    return Sample(tokens, [False] * start + [True] * (len(words) + 1), start)


def pick(rng: Random, tokenizer: "Tokenizer", end: int, questions: int = 4) -> Sample:
    """Return lines of ID and title, then some times two words of one of them and that line."""
    style = IdStyle(rng)
    products = [Product(style(rng), random_title(rng, rng.choice(list(KINDS)))) for _ in range(rng.randint(4, 8))]
    text = "".join(f"{render_answer(*product)}\n" for product in products)
    tokens = tokenizer.encode(text).ids
    learn = [False] * len(tokens)
    start = 0
    for product in rng.sample(products, min(questions, len(products))):
        question = tokenizer.encode(f"searched: {random_query(rng, product.title)}\nAnswer:\n").ids
        answer = [*tokenizer.encode(render_answer(*product)).ids, end]
        start = len(tokens) + len(question)
        tokens += question + answer
        learn += [False] * len(question) + [True] * len(answer)
    return Sample(tokens, learn, start)


def prompt(rng: Random, tokenizer: "Tokenizer", end: int, template: Template, size: Size) -> Sample:
    """Return a made-up prompt and its answer: the first product of the last search that says the query's words and was not clicked.

    Where there is none, the answer is the newest product of the actions. A line that repeats a product shown above it counts in the loss,
    too: it can be predicted but for the choice, so that a prompt teaches many copies instead of one.
    """
    example, target = made_up_example(rng, size)
    with_instruction = rng.random() < size.instruction_rate
    rendered = _renderer(tokenizer, template, size, with_instruction, rng.random() < 0.8).prompt(example)
    encoded = tokenizer.encode(rendered.prompt)
    learn = [False] * len(encoded.ids)
    for begin, finish in _repeated_spans(rendered.prompt):
        for index, (first, last) in enumerate(encoded.offsets):
            if begin <= first and last <= finish:
                learn[index] = True
    answer = [*tokenizer.encode(render_answer(*target)).ids, end]
    return Sample(encoded.ids + answer, learn + [True] * len(answer), len(encoded.ids))


@cache
def _renderer(tokenizer: "Tokenizer", template: Template, size: Size, with_instruction: bool, attributes: bool) -> Renderer:
    said = template if with_instruction else template.model_copy(update={"instruction": ""})
    return Renderer(
        said, TokenCounter(tokenizer), budget=size.budget, answer_tokens=64, products_per_query=size.products, attributes=attributes
    )


def made_up_example(rng: Random, size: Size) -> tuple[Example, Product]:
    """Return a made-up path of one or more journeys, and the product that its rule names."""
    category = rng.choice(list(KINDS))
    style = IdStyle(rng)
    actions: list[Action] = []
    shown: dict[str, tuple[Product, ...]] = {}
    searches = rng.random() < 0.85
    for _ in range(rng.randint(0, size.journeys) if searches else rng.randint(2, 4 + 3 * size.journeys)):
        query, products = _results(rng, category, style, size)
        if searches:
            shown[query] = tuple(products)
            actions.append(Action("search", query))
            actions += [_on_item(rng, "click", product) for product in rng.sample(products, min(len(products), rng.randint(0, 3)))]
        if not searches or rng.random() < 0.6:
            actions.append(_on_item(rng, "purchase", rng.choice(products)))
    query, products = _results(rng, category, style, size)
    if searches:
        shown[query] = tuple(products) if rng.random() < 0.95 else ()
        actions.append(Action("search", query))
    clicked = rng.sample(products, min(len(products) - 1, rng.choice((0, 0, 1, 2, 3))))
    actions += [_on_item(rng, "click", product) for product in clicked]
    candidates = [p for p in shown.get(query, ()) if p not in clicked and set(query.split()) <= set(_words_of(p.title))]
    newest = [Product(action.item_id, action.title) for action in actions if action.item_id and action.title]
    if not candidates and not newest:
        return made_up_example(rng, size)
    ages = sorted((int(rng.paretovariate(0.5)) - 1 for _ in actions), reverse=True)
    holidays = tuple(rng.sample(ATTRIBUTES["holiday"], rng.randint(0, 2)))
    example = Example(category, rng.choice(ATTRIBUTES["season"][:4]), holidays, actions, shown, ages)
    return example, candidates[0] if candidates else newest[-1]


def _results(rng: Random, category: str, style: IdStyle, size: Size) -> tuple[str, list[Product]]:
    """Return a query and its products: variants of a few families, or anything of the category."""
    count = rng.randint(2, size.products)
    titles: list[str] = []
    while len(titles) < count:
        titles += random_family(rng, category) if rng.random() < 0.6 else [random_title(rng, category)]
    products = [Product(style(rng), title) for title in titles[:count]]
    # Mostly a query that the first products fit, sometimes one that means a certain product.
    meant = products[0] if rng.random() < 0.75 else rng.choice(products)
    return random_query(rng, meant.title), products


def _on_item(rng: Random, action: str, product: Product) -> Action:
    fields: dict[str, Any] = {name: rng.choice(ATTRIBUTES[name]) for name in ("colour", "size") if rng.random() < 0.5}
    if rng.random() < 0.5:
        fields["price"] = round(rng.lognormvariate(3.5, 1), 2)
    if rng.random() < 0.4:
        fields["brand"] = random_word(rng).capitalize()
    further = {name: rng.choice(ATTRIBUTES[name]) for name in ("material", "season", "occasion", "holiday") if rng.random() < 0.3}
    return Action(action, item_id=product.item_id, title=product.title, **fields, attributes=tuple(further.items()))


def _words_of(title: str) -> list[str]:
    return title.lower().replace(",", "").split()


def _repeated_spans(text: str) -> list[tuple[int, int]]:
    """Return where a line on an item repeats the ID and title of a product above it, as (begin, end) in characters."""
    spans: list[tuple[int, int]] = []
    seen: set[str] = set()
    place = 0
    for line in text.splitlines(keepends=True):
        mark, _, product = line.rstrip().partition(" ")
        named = product.partition(" (")[0]
        if mark in ("clicked:", "bought:") and named in seen:
            begin = place + len(mark) + 1
            spans.append((begin, begin + len(named)))
        seen.add(named)
        place += len(line)
    return spans
