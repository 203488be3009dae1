"""Titles as a language model garbles them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.embeddings.texts import normalised, words
from fashionrec.embeddings.title_noise import noisy_titles

TITLES = ["Acme Wrap Dress, Red, XS, Summer", "Norvane Wrap Dress, Off White, M", "Acme Rain Jacket, Blue", "Oxford Shirt"]
VALUES = [
    {"brand": "Acme", "colour": "Red", "size": "XS", "season": "Summer"},
    {"brand": "Norvane", "colour": "Off White", "size": "M"},
    {"brand": "Acme", "colour": "Blue", "size": "L"},
    {"material": "Wool"},
]
POOL = {name: {row[name] for row in VALUES if name in row} for name in ("brand", "colour", "size", "season")}


def fault(title, garbled, values):
    """Return which fault a garbled title has, judged by what is left of its title."""
    before, after = words(title), words(garbled)
    if sorted(before) == sorted(after):
        return "order"
    if after == before[: len(after)]:
        assert len(after) * 2 >= len(title.replace(",", "").split())
        return "cut"
    for name, value in values.items():
        if any(garbled == re.sub(rf"\b{value}\b", other, title) for other in POOL.get(name, set()) - {value}):
            return "wrong value"
    assert sum(one != other for one, other in zip(title.split(), garbled.split(), strict=True)) == 1
    return "wrong word"


@pytest.mark.parametrize("row", range(len(TITLES)))
def test_every_garbled_title_has_exactly_one_fault_and_all_faults_come(row):
    found = [fault(TITLES[row], noisy_titles(TITLES, VALUES, np.random.default_rng(seed))[row], VALUES[row]) for seed in range(120)]
    # The last title holds none of its values, so a word of another title takes the place of one.
    replaced = "wrong value" if row < 3 else "wrong word"
    assert set(found) == {"order", "cut", replaced}
    assert min(found.count(kind) for kind in set(found)) > 10


def test_one_seed_gives_the_same_noise_and_another_seed_other_noise():
    first, again, other = (noisy_titles(TITLES * 5, VALUES * 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_a_single_word_can_only_be_replaced():
    assert noisy_titles(["Dress", "Shirt"], [{}, {}], np.random.default_rng(0)) == ["Shirt", "Dress"]


def test_a_title_that_nothing_can_be_done_to_stays():
    assert noisy_titles(["Dress"], [{}], np.random.default_rng(0)) == ["Dress"]
    assert noisy_titles([], [], np.random.default_rng(0)) == []


@given(st.lists(st.text(min_size=1, max_size=30), min_size=2, max_size=6, unique_by=normalised), st.integers(0, 99))
def test_any_titles_are_garbled_without_an_error_and_none_is_left_empty(titles, seed):
    values = [{"colour": title[:3], "size": title} for title in titles]
    for title, garbled in zip(titles, noisy_titles(titles, values, np.random.default_rng(seed)), strict=True):
        assert garbled == title or normalised(garbled) not in ("", normalised(title))
