"""Titles as a language model garbles them: cut short, with one wrong attribute, or with their words in another order."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from fashionrec.embeddings.texts import normalised

_T = TypeVar("_T")


def noisy_titles(titles: Sequence[str], values: Sequence[Mapping[str, str]], rng: np.random.Generator) -> list[str]:
    """Return each title with one fault, by lot: cut short, one wrong attribute, or its words in another order.

    A wrong attribute is a value that stands in the title (a colour, a size, a brand ...), replaced by another value of the same attribute;
    where the title has none, one of its words is replaced by a word of another title. The result differs from its title in more than case
    and spaces, unless no fault is possible (a single word, and no other title).

    Args:
        titles: what is garbled.
        values: of each title's item, by attribute; the other values of an attribute are those of the other titles.
        rng: gives all choices, so that one seed gives one result.
    """
    known: dict[str, set[str]] = {}
    for of_item in values:
        for name, value in of_item.items():
            known.setdefault(name, set()).add(value)
    others = {name: sorted(found) for name, found in known.items()}
    every_word = sorted({normalised(word): word for title in titles for word in title.split()}.values())
    return [_garbled(title, of_item, others, every_word, rng) for title, of_item in zip(titles, values, strict=True)]


def _garbled(
    title: str, values: Mapping[str, str], others: Mapping[str, Sequence[str]], every_word: Sequence[str], rng: np.random.Generator
) -> str:
    faults: tuple[Callable[[], str], ...] = (
        lambda: _cut(title, rng),
        lambda: _wrong_value(title, values, others, rng) or _wrong_word(title, every_word, rng),
        lambda: _shuffled(title, rng),
    )
    for number in rng.permutation(len(faults)):
        garbled = faults[int(number)]()
        if normalised(garbled) not in ("", normalised(title)):
            return garbled
    return title


def _cut(title: str, rng: np.random.Generator) -> str:
    """Return the title without its last words; at least half of them stay."""
    words = title.split()
    if len(words) < 2:
        return title
    kept = int(rng.integers((len(words) + 1) // 2, len(words)))
    return " ".join(words[:kept]).rstrip(",;:-")


def _wrong_value(title: str, values: Mapping[str, str], others: Mapping[str, Sequence[str]], rng: np.random.Generator) -> str:
    """Return the title with one attribute's value replaced; empty where it holds none that has another value."""
    places = []
    for name, value in sorted(values.items()):
        found = re.search(rf"(?<!\w){re.escape(value)}(?!\w)", title, re.IGNORECASE) if value.strip() else None
        wrong = [other for other in others[name] if normalised(other) != normalised(value)] if found else []
        if found and wrong:
            places.append((found.span(), wrong))
    if not places:
        return ""
    (start, end), wrong = _any_of(places, rng)
    return title[:start] + _any_of(wrong, rng) + title[end:]


def _shuffled(title: str, rng: np.random.Generator) -> str:
    words = title.split()
    return " ".join(words[place] for place in rng.permutation(len(words)))


def _wrong_word(title: str, every_word: Sequence[str], rng: np.random.Generator) -> str:
    words = title.split()
    if not words:
        return title
    place, other = int(rng.integers(len(words))), int(rng.integers(len(every_word)))
    if normalised(every_word[other]) == normalised(words[place]):
        other = (other + 1) % len(every_word)
    words[place] = every_word[other]
    return " ".join(words)


def _any_of(choices: Sequence[_T], rng: np.random.Generator) -> _T:
    return choices[int(rng.integers(len(choices)))]
