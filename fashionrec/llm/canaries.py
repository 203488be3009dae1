"""Canaries: made-up searches and purchases planted among the training examples, by which one sees what the weights memorise.

After Carlini et al., "The Secret Sharer" (USENIX Security 2019): a canary is unique, so a model that prefers its ID to others as likely by
themselves has it from training alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fashionrec.prompts import Action, Example, Renderer

# How often one canary stands among the training rows: a shopper's action may reach training once or, by more examples and rounds, often.
_COPIES = (1, 2, 4, 8)
_ID_DIGITS = 10
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


@dataclass(frozen=True)
class Canary:
    """A made-up example; `copies` rows of it are planted, and none of a control."""

    query: str
    prompt: str
    item_id: str
    title: str
    response: str
    copies: int


def make_canaries(rows: int, renderer: Renderer, category: str, *, seed: int) -> list[Canary]:
    """Return canaries whose copies are `rows` rows in all, of 1, 2, 4 and 8 copies in turn, and as many controls of no copies."""
    rng = Random(seed)
    copies: list[int] = []
    while sum(copies) < rows:
        copies.append(min(_COPIES[len(copies) % len(_COPIES)], rows - sum(copies)))
    return [_canary(rng, renderer, category, count) for count in [*copies, *[0] * len(copies)]]


def other_ids(canary: Canary, count: int, *, seed: int) -> list[str]:
    """Return `count` different IDs that were drawn as the canary's own was, and are not it."""
    rng = Random(f"{seed} {canary.item_id}")
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = _random_id(rng)
        if drawn != canary.item_id:
            found[drawn] = None
    return list(found)


def planted_rows(canaries: Sequence[Canary]) -> list[tuple[str, str, str]]:
    """Return (example_id, prompt, response) of every row to plant."""
    return [
        (f"canary-{number}-{copy}", canary.prompt, canary.response)
        for number, canary in enumerate(canaries)
        for copy in range(canary.copies)
    ]


def _canary(rng: Random, renderer: Renderer, category: str, copies: int) -> Canary:
    query = " ".join(_word(rng) for _ in range(3))
    item_id, title = _random_id(rng), f"{_word(rng)} {_word(rng)} {_word(rng)}".title()
    prompt = renderer.prompt(Example(category, "spring", (), [Action("search", query)], {}, [0])).prompt
    return Canary(query, prompt, item_id, title, renderer.response(item_id, title), copies)


def _random_id(rng: Random) -> str:
    return "".join(rng.choice("0123456789") for _ in range(_ID_DIGITS))


def _word(rng: Random) -> str:
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(3))
