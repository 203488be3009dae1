"""The items of the synthetic world: families of one brand, style and noun in several colours and sizes, that come and go."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fashionrec.sources.world.words import (
    CATEGORIES,
    COLOURS,
    FASHION,
    HOLIDAYS,
    MATERIALS,
    NOUNS,
    OCCASIONS,
    SEASONS,
    SIZES,
    STYLES,
    VERTICALS,
    Brand,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Share of the fashion items on sale that are new after a month; the paper gives ratios between verticals only.
MONTHLY_TURNOVER = 0.1
DAYS_PER_MONTH = 30.44
# No item leaves sooner: every one is in a monthly catalogue at least once.
SHORTEST_LIFE_DAYS = 45
NEVER = 1_000_000
# What a query may ask for beside the noun.
FACETS = ("colour", "style", "season", "occasion", "holiday", "brand")


@dataclass(frozen=True)
class Stock:
    """The items of one category that are on sale at any time of the world. Every array has the shape (items,).

    `codes` hold places in the lists of words (`words`), `size` one in the noun's own list. `first` is the number of the first item among
    all items of the world. Days count from the world's first day; `arrives` may be before it.
    """

    category: str
    vertical: str
    first: int
    words: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, Ints]
    size: Ints
    family: Ints
    size_in_title: NDArray[np.bool_]
    popularity: Floats
    price: Floats
    arrives: Ints
    leaves: Ints
    retitled: Ints

    def __len__(self) -> int:
        return len(self.family)


def monthly_turnover(vertical: str) -> float:
    """Return the share of a vertical's items on sale that are new after a month."""
    return MONTHLY_TURNOVER / VERTICALS[vertical].new_items


def items_ever(vertical: str, fashion_items: int, days: int) -> int:
    """Return how many items a vertical has over all days, if as many are on sale at a time as of `fashion_items` of fashion."""
    months = days / DAYS_PER_MONTH
    on_sale = fashion_items / (1 + monthly_turnover(FASHION) * months)
    return max(1, round(on_sale * (1 + monthly_turnover(vertical) * months)))


def vertical_of(category: str) -> str:
    return next(vertical for vertical, names in CATEGORIES.items() if category in names)


def make_stock(rng: np.random.Generator, category: str, *, first: int, count: int, days: int, labels: tuple[Brand, ...]) -> Stock:
    """Return the items of a category."""
    vertical = vertical_of(category)
    nouns, styles = NOUNS[category], STYLES[category]
    seasons = SEASONS if vertical == FASHION else ("All Season",)
    keys, variants = _families(rng, (len(nouns), len(labels), len(styles), len(seasons)), count)
    family = np.repeat(np.arange(len(keys)), variants)[:count]
    noun, brand, style, season = keys.T
    holiday = np.where(rng.random(len(keys)) < 0.15, rng.integers(1, len(HOLIDAYS), len(keys)), 0)
    # Zero: the catalogue does not say what it is made of.
    material = np.where(rng.random(len(keys)) < 0.35, rng.integers(1, len(MATERIALS[category]) + 1, len(keys)), 0)
    levels = np.array([label.level for label in labels])
    usual = np.array([one.price for one in nouns])
    price = usual[noun] * levels[brand] * rng.lognormal(0, 0.15, len(keys))
    fame = rng.lognormal(0, 0.8, len(keys))
    colour, size, same_colour = _variants(rng, family, np.array([len(SIZES[one.sizes]) for one in nouns])[noun])
    arrives, leaves = _time_on_sale(rng, family, days, monthly_turnover(vertical))
    codes = {"noun": noun, "brand": brand, "style": style, "season": season, "holiday": holiday, "material": material}
    codes["occasion"] = skewed(rng, len(OCCASIONS), 0.3, len(keys))
    return Stock(
        category,
        vertical,
        first,
        {
            "brand": tuple(label.name for label in labels),
            "style": styles,
            "season": seasons,
            "occasion": OCCASIONS,
            "holiday": tuple(one.name for one in HOLIDAYS),
            "colour": COLOURS,
            "material": ("", *MATERIALS[category]),
        },
        {name: code[family] for name, code in codes.items()} | {"colour": colour},
        size,
        family,
        same_colour,
        np.log(fame[family] * rng.lognormal(0, 0.5, count)),
        price[family].round(2),
        arrives,
        leaves,
        # One item in fifty is described anew within a month: its title then names its size.
        np.where(rng.random(count) < 0.02 * days / DAYS_PER_MONTH, rng.integers(0, days, count), NEVER),
    )


def _families(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> tuple[Ints, Ints]:
    """Return different families as (noun, brand, style, season), shape (families, 4), and their numbers of variants, `count` in sum."""
    noun_count, brand_count, style_count, season_count = shape
    found = np.empty(0, np.int64)
    while True:
        more = (
            skewed(rng, noun_count, 0.5, count),
            rng.integers(0, brand_count, count),
            skewed(rng, style_count, 0.5, count),
            rng.integers(0, season_count, count),
        )
        drawn = np.concatenate([found, np.ravel_multi_index(more, shape)])
        _, firsts = np.unique(drawn, return_index=True)
        found = drawn[np.sort(firsts)]
        variants = rng.integers(2, 6, len(found))
        needed = int(np.searchsorted(np.cumsum(variants), count)) + 1
        if needed <= len(found):
            return np.stack(np.unravel_index(found[:needed], shape), axis=1), variants[:needed]


def _variants(rng: np.random.Generator, family: Ints, size_counts: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Return colour and size of each item, and whether it has the colour of the one before and differs from it in size."""
    count = len(family)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(family)) + 1])
    place = np.arange(count) - starts[family]
    sizes = size_counts[family]
    palettes = rng.random((family[-1] + 1, len(COLOURS))).argsort(axis=1)
    # Every fifth variant differs from the one before only in size; its title then says the size.
    same_colour = (place > 0) & (place < sizes) & (rng.random(count) < 0.2)
    new_colours = np.cumsum(~same_colour)
    colour = palettes[family, new_colours - new_colours[starts][family]]
    first_size = rng.integers(0, sizes[starts])
    return colour, (first_size[family] + place) % sizes, same_colour


def _time_on_sale(rng: np.random.Generator, family: Ints, days: int, turnover: float) -> tuple[Ints, Ints]:
    """Return first day and the day after the last, so that at any time as many items are on sale."""
    count, family_count = len(family), int(family[-1]) + 1
    new_share = 1 - 1 / (1 + turnover * days / DAYS_PER_MONTH)
    # Families come as a whole; the very first is there for good, so that no category is ever empty.
    is_new = (rng.random(family_count) < new_share) & (np.arange(family_count) > 0)
    arrives = np.where(is_new, rng.integers(0, days, family_count), -rng.integers(1, 400, family_count))[family]
    stays = rng.exponential(DAYS_PER_MONTH / turnover, count).astype(np.int64)
    leaves = np.where(is_new[family], arrives + np.maximum(stays, SHORTEST_LIFE_DAYS), stays + 1)
    leaves[family == 0] = NEVER
    return arrives, leaves


def skewed(rng: np.random.Generator, count: int, exponent: float, size: int) -> Ints:
    """Return indexes below `count`, the smaller the likelier (Zipf's law with that exponent), shape (size,)."""
    weights = np.arange(1, count + 1) ** -exponent
    return np.minimum(np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(size)), count - 1)
