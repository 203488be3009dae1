"""What the tiny base learns from: repeats, lines and made-up prompts, as tokens and which of them count in the loss.

Everything is drawn at random: no user, item or event of the demo's world or of any shop.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from fashionrec.prompts import Action, Example, Product, Renderer, Template, TokenCounter, render_answer
from tools.tiny_base.text import ATTRIBUTES, COLOURS, KINDS, IdStyle, random_family, random_query, random_title, random_word

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from torch import Tensor

END = "<|endoftext|>"


class Sample(NamedTuple):
    """Tokens; those of answers; and others that can be predicted since they repeat what stands above. The last answer ends the tokens."""

    tokens: list[int]
    answers: list[bool]
    repeats: list[bool]


Task = Callable[[Random], Sample]


@dataclass(frozen=True)
class Size:
    """How long made-up prompts are: most tokens, most journeys before the last one, most products below a search."""

    budget: int
    journeys: int
    products: int
    # Share of prompts that carry the instruction: it is always the same, so a few are enough to get used to it.
    instruction_rate: float


SHORT = Size(budget=300, journeys=1, products=5, instruction_rate=0.1)
LONG = Size(budget=480, journeys=4, products=6, instruction_rate=0.5)
LONGEST = Size(budget=960, journeys=9, products=6, instruction_rate=0.8)


def repeat(rng: Random, size: int, longest: int) -> Sample:
    """Return 3 to `longest` random tokens of the first `size`, again and again, 32 in all or twice as many: dense repeats teach to copy."""
    words = [1 + rng.randrange(size - 1) for _ in range(rng.randint(3, longest))]
    tokens = (words * 11)[: max(32, 2 * len(words))]
    answers = [place > len(words) for place in range(len(tokens))]
    return Sample(tokens, answers, [False] * len(tokens))


def lines(rng: Random, tokenizer: "Tokenizer", end: int) -> Sample:
    """Return lines of ID and title, then the same in another order: once its first token is known, each can be copied."""
    products = _catalogue(rng, rng.choice((1, 2, 3, 4, 6, 8)))
    tokens = tokenizer.encode("".join(f"{render_answer(*product)}\n" for product in products)).ids
    tokens.append(end)
    answers = [False] * len(tokens)
    for product in rng.sample(products, len(products)):
        line = tokenizer.encode(f"{render_answer(*product)}\n").ids
        tokens += line
        answers += [False] + [True] * (len(line) - 1)
    return Sample(tokens, answers, [False] * len(tokens))


def _catalogue(rng: Random, count: int) -> list[Product]:
    """Return products of all categories, one after another or variants of one family."""
    style = IdStyle(rng)
    titles: list[str] = []
    while len(titles) < count:
        category = rng.choice(list(KINDS))
        titles += random_family(rng, category) if rng.random() < 0.4 else [random_title(rng, category)]
    return [Product(style(rng), title) for title in rng.sample(titles, count)]


def prompt(rng: Random, tokenizer: "Tokenizer", end: int, template: Template, size: Size, *, new: bool = False) -> Sample:
    """Return a made-up prompt and its answer by `right_answer`; at times each earlier journey of it is answered, too.

    A `new` answer is a product that the prompt does not name: as the right one but for its ID and colour, which cannot be known. Without
    them, a model learns only in fine-tuning that shoppers buy such products, and unlearns copying on the way.

    A line that repeats a product shown above it counts in the loss, too: it can be predicted but for the choice, so that a prompt teaches
    many copies instead of one.
    """
    answered = rng.random() < 0.6
    renderer = _renderer(tokenizer, template, size, rng.random() < size.instruction_rate, rng.random() < 0.7)
    text = renderer.prompt(made_up_example(rng, size)).prompt
    body = text.removesuffix(template.end)
    tokens: list[int] = []
    answers: list[bool] = []
    repeats: list[bool] = []
    seen: set[str] = set()
    places = [0, *(_journeys(body) if answered else ()), len(body)]
    if not PRODUCT.search(body, 0, places[1]):
        # Cut so short that it names no product, it asks for nothing.
        return prompt(rng, tokenizer, end, template, size, new=new)
    for begin, finish in pairwise(places):
        encoded = tokenizer.encode(body[begin:finish] + template.end)
        tokens += encoded.ids
        answers += [False] * len(encoded.ids)
        repeats += _inside(_repeated_spans(body[begin:finish], seen), encoded.offsets)
        right = right_answer(body[:finish])
        answer = [*tokenizer.encode(render_answer(*(_unseen(rng, right) if new else right))).ids, end]
        tokens += answer
        answers += [True] * len(answer)
        repeats += [False] * len(answer)
    return Sample(tokens, answers, repeats)


# A line that names a product: its mark, ID, title; brackets with attributes may follow, and no made-up title has any.
PRODUCT = re.compile(r"^(\d+\.|clicked:|bought:) (\S+) \| (.*?)(?: \(.*)?$", re.MULTILINE)


def right_answer(text: str) -> Product:
    """Return the first product of the last search that was not clicked; where nothing was found, the newest product of the actions."""
    _, _, last = text.rpartition("searched: ")
    clicked = {line[2] for line in PRODUCT.finditer(text) if line[1] == "clicked:"}
    found = [line for line in PRODUCT.finditer(last) if line[1][0].isdigit()]
    line = next((line for line in found if line[2] not in clicked), None) or list(PRODUCT.finditer(text))[-1]
    return Product(line[2], line[3])


def _unseen(rng: Random, product: Product) -> Product:
    """Return another product in the style of one: other digits in its ID, another colour in its title."""
    item_id = re.sub(r"\d", lambda _: rng.choice("0123456789"), product.item_id)
    title = re.sub(r"[A-Za-z]+", lambda word: rng.choice(COLOURS).capitalize() if word[0].lower() in COLOURS else word[0], product.title)
    return Product(item_id, title)


def _journeys(body: str) -> list[int]:
    """Return where each search but the first begins, or the heading above it, in characters."""
    return [match.start() for match in re.finditer(r"^(?:[A-Z][a-z ]+:\n)?searched:", body, re.MULTILINE)][1:]


def _inside(spans: Iterable[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[bool]:
    """Return for each token whether it lies within a span and not at its beginning."""
    places = {place for begin, finish in spans for place in range(begin + 1, finish)}
    return [first in places for first, _ in offsets]


@cache
def _renderer(tokenizer: "Tokenizer", template: Template, size: Size, with_instruction: bool, attributes: bool) -> Renderer:
    said = template if with_instruction else template.model_copy(update={"instruction": ""})
    return Renderer(
        said, _counter(tokenizer), budget=size.budget, answer_tokens=64, products_per_query=size.products, attributes=attributes
    )


_counter = cache(TokenCounter)


def made_up_example(rng: Random, size: Size) -> Example:
    """Return a made-up path of one or more journeys that names one product at least."""
    category = rng.choice(list(KINDS))
    style = IdStyle(rng)
    actions: list[Action] = []
    shown: dict[str, tuple[Product, ...]] = {}
    searches = rng.random() < 0.9
    for _ in range(rng.randint(1, 1 + size.journeys) if searches else rng.randint(2, 4 + 2 * size.journeys)):
        query, products = _results(rng, category, style, size)
        if searches:
            shown[query] = tuple(products[: rng.randint(2, len(products))]) if rng.random() < 0.9 else ()
            actions.append(Action("search", query))
        clicked = rng.sample(products, min(len(products) - 1, rng.choice((0, 0, 1, 1, 2, 3))) or (not shown.get(query)))
        actions += [_on_item(rng, "click", product) for product in clicked]
        if not searches or rng.random() < 0.2:
            actions.append(_on_item(rng, "purchase", rng.choice(products)))
    ages = sorted((int(rng.paretovariate(0.5)) - 1 for _ in actions), reverse=True)
    holidays = tuple(rng.sample(ATTRIBUTES["holiday"], rng.randint(0, 2)))
    return Example(category, rng.choice(ATTRIBUTES["season"][:4]), holidays, actions, shown, ages)


def _results(rng: Random, category: str, style: IdStyle, size: Size) -> tuple[str, list[Product]]:
    """Return a query and its products: variants of a few families, or anything of the category."""
    count = rng.randint(2, size.products + 1)
    titles: list[str] = []
    while len(titles) < count:
        titles += random_family(rng, category) if rng.random() < 0.6 else [random_title(rng, category)]
    products = [Product(style(rng), title) for title in titles[:count]]
    return random_query(rng, rng.choice(products).title), products


def _on_item(rng: Random, action: str, product: Product) -> Action:
    fields: dict[str, Any] = {name: rng.choice(ATTRIBUTES[name]) for name in ("colour", "size") if rng.random() < 0.5}
    if rng.random() < 0.5:
        fields["price"] = round(rng.lognormvariate(3.5, 1), 2)
    if rng.random() < 0.3:
        fields["brand"] = random_word(rng).capitalize()
    further = {name: rng.choice(ATTRIBUTES[name]) for name in ("material", "season", "occasion", "holiday") if rng.random() < 0.25}
    return Action(action, item_id=product.item_id, title=product.title, **fields, attributes=tuple(further.items()))


def _repeated_spans(text: str, seen: set[str]) -> list[tuple[int, int]]:
    """Return where a line on an item repeats the ID and title of a product in `seen`, in characters; all products are put into `seen`."""
    spans = [(line.start(2), line.end(3)) for line in PRODUCT.finditer(text) if f"{line[2]} {line[3]}" in seen or _twice(line, text)]
    seen.update(f"{line[2]} {line[3]}" for line in PRODUCT.finditer(text))
    return spans


def _twice(line: re.Match[str], text: str) -> bool:
    return f" {line[2]} | {line[3]}" in text[: line.start()]


def tasks(tokenizer: "Tokenizer", template: Template) -> dict[str, Task]:
    """Return what is practised, by name."""
    end = int(tokenizer.token_to_id(END) or 0)
    return {
        "bytes": partial(repeat, size=256, longest=10),
        "tokens": partial(repeat, size=tokenizer.get_vocab_size(), longest=20),
        "lines": partial(lines, tokenizer=tokenizer, end=end),
        "short": partial(prompt, tokenizer=tokenizer, end=end, template=template, size=SHORT),
        "long": partial(prompt, tokenizer=tokenizer, end=end, template=template, size=LONG),
        "new": partial(prompt, tokenizer=tokenizer, end=end, template=template, size=LONG, new=True),
        "longest": partial(prompt, tokenizer=tokenizer, end=end, template=template, size=LONGEST),
    }


def padded(samples: Sequence[Sample]) -> tuple["Tensor", "Tensor", "Tensor"]:
    """Return tokens, which of them are answers, and which others count, all (samples, longest)."""
    import torch

    def filled(rows: Sequence[Sequence[int]], dtype: "torch.dtype") -> "Tensor":
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)

    tokens, answers, repeats = zip(*samples, strict=True)
    return filled(tokens, torch.long), filled(answers, torch.bool), filled(repeats, torch.bool)
