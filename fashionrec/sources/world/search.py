"""The search engine of the synthetic world: what a query shows, and the many wordings of one wish."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fashionrec.sources.world.stock import FACETS, Floats, Ints, Stock
from fashionrec.sources.world.words import NOUNS, SIZES, misspell

Bools = NDArray[np.bool_]
Pages = NDArray[np.int32]

RESULTS, PAID = 12, 2
SHOWN = RESULTS + PAID
NOTHING = -1
# Candidates that the engine looks at: the best of those that match the whole query, and of those that match its noun.
_MATCHES, _FILLERS = 40, 32
# How a wish is typed: as it is, for whom, in a shorter word, turned round, with a size, with a slip of the finger.
_WORDINGS = (0.56, 0.15, 0.14, 0.05, 0.04, 0.06)
_SIZED, _SLIPPED, _SLIPS = 4, 5, 16


class Shop:
    """A stock with what the search engine looks up in it."""

    def __init__(self, stock: Stock, days: int, first_query: int) -> None:
        self.stock, self.first_query = stock, first_query
        self.nouns = NOUNS[stock.category]
        best = -stock.popularity
        noun = stock.codes["noun"]
        self.groups: dict[str, tuple[Ints, Ints]] = {}
        for facet in ("", *FACETS):
            size = len(stock.words[facet]) if facet else 1
            key = noun * size + (stock.codes[facet] if facet else 0)
            order = np.lexsort((best, key))
            self.groups[facet] = order, np.searchsorted(key[order], np.arange(len(self.nouns) * size + 1))
        changes = np.zeros((len(self.nouns), days + 1), np.int64)
        np.add.at(changes, (noun, np.clip(stock.arrives, 0, days)), 1)
        np.add.at(changes, (noun, np.clip(stock.leaves, 0, days)), -1)
        # Shape (nouns, days): whether anything of that noun is on sale.
        self.sells = changes.cumsum(axis=1)[:, :days] > 0

    @property
    def query_shape(self) -> tuple[int, ...]:
        """A query is noun, facet (0 for none), value, wording, detail; as one number, those of a shop begin at `first_query`."""
        return len(self.nouns), len(FACETS) + 1, max(map(len, self.stock.words.values())), len(_WORDINGS), _SLIPS

    @property
    def query_count(self) -> int:
        return int(np.prod(self.query_shape))

    def broad_query(self, noun: Ints) -> Ints:
        """Return the plain queries for nouns, whatever their number."""
        return noun % len(self.nouns) * (self.query_count // len(self.nouns)) + self.first_query


@dataclass(frozen=True)
class Wish:
    """What searches are for, one row per search; `facet` is a place in FACETS, NOTHING for a broad query."""

    user: Ints
    late: Ints
    noun: Ints
    day: Ints
    month: Ints
    facet: Ints
    value: Ints


def results(rng: np.random.Generator, one: Shop, wish: Wish) -> tuple[Pages, Bools]:
    """Return the pages of searches, (searches, SHOWN): items of the stock or NOTHING, best first, and which places were paid for.

    The engine ranks by relevance, then popularity, with a little daily noise, among what is on sale on that day.
    """
    stock, count = one.stock, len(wish.noun)
    pool = np.full((count, _MATCHES + _FILLERS), NOTHING, np.int64)
    pool[:, _MATCHES:] = _best(one.groups[""], wish.noun, _FILLERS)
    for number, facet in enumerate(FACETS):
        rows = np.flatnonzero(wish.facet == number)
        pool[rows, :_MATCHES] = _best(one.groups[facet], wish.noun[rows] * len(stock.words[facet]) + wish.value[rows], _MATCHES)
        # What matches the whole query stands among the matches already.
        fillers = pool[rows, _MATCHES:]
        pool[rows, _MATCHES:] = np.where(stock.codes[facet][fillers] == wish.value[rows, None], NOTHING, fillers)
    score = stock.popularity[pool] + rng.normal(0, 0.15, pool.shape)
    score[:, :_MATCHES] += 2.5
    gone = (pool == NOTHING) | (stock.arrives[pool] > wish.day[:, None]) | (stock.leaves[pool] <= wish.day[:, None])
    score[gone] = -np.inf
    pool[gone] = NOTHING
    best = np.argsort(-score, axis=1)[:, :RESULTS]
    organic = np.take_along_axis(pool, best, axis=1)
    return _with_paid_places(rng, one, wish, organic)


def _best(group: tuple[Ints, Ints], key: Ints, count: int) -> Ints:
    """Return the most popular items of each group, (rows, count), NOTHING beyond its end."""
    order, starts = group
    places = starts[key][:, None] + np.arange(count)
    inside = places < starts[key + 1][:, None]
    return np.where(inside, order[np.minimum(places, len(order) - 1)], NOTHING)


def _with_paid_places(rng: np.random.Generator, one: Shop, wish: Wish, organic: Ints) -> tuple[Pages, Bools]:
    """Mix up to two paid items of the same noun into one page in four: the first on top, the second as the sixth."""
    order, starts = one.groups[""]
    sizes = starts[wish.noun + 1] - starts[wish.noun]
    paid = order[starts[wish.noun][:, None] + (rng.random((len(sizes), PAID)) * sizes[:, None]).astype(np.int64)]
    off_sale = (one.stock.arrives[paid] > wish.day[:, None]) | (one.stock.leaves[paid] <= wish.day[:, None])
    shown_already = (paid[:, :, None] == organic[:, None, :]).any(axis=2)
    shown_already[:, 1] |= paid[:, 1] == paid[:, 0]
    none = (rng.random(len(sizes)) >= 0.25)[:, None] | off_sale | shown_already
    paid = np.where(none, NOTHING, paid)
    page = np.concatenate([organic, paid], axis=1)
    places = np.where(page == NOTHING, 99.0, np.concatenate([np.arange(RESULTS), [-0.5, 3.5]]))
    order_on_page = np.argsort(places, axis=1, kind="stable")
    return np.take_along_axis(page, order_on_page, axis=1).astype(np.int32), (order_on_page >= RESULTS) & (
        np.take_along_axis(page, order_on_page, axis=1) != NOTHING
    )


def query_codes(rng: np.random.Generator, one: Shop, wish: Wish, sizes: Floats) -> Ints:
    """Return each search's query as a number for `query_text`; `sizes` (searches,): how large each shopper is, 0 to 1."""
    wording = np.minimum(np.searchsorted(np.cumsum(_WORDINGS), rng.random(len(wish.noun))), len(_WORDINGS) - 1)
    size_counts = np.array([len(SIZES[noun.sizes]) for noun in one.nouns])[wish.noun]
    own_size = (sizes * size_counts).astype(np.int64)
    detail = np.where(wording == _SIZED, own_size, np.where(wording == _SLIPPED, rng.integers(0, _SLIPS, len(wording)), 0))
    return np.ravel_multi_index((wish.noun, wish.facet + 1, wish.value, wording, detail), one.query_shape) + one.first_query


def query_text(one: Shop, code: int) -> str:
    """Return the words of a query."""
    noun_place, facet, value, wording, detail = (int(part) for part in np.unravel_index(code - one.first_query, one.query_shape))
    noun = one.nouns[noun_place]
    thing = noun.name.lower()
    word = one.stock.words[FACETS[facet - 1]][value].lower().replace("'", "") if facet else ""
    plain = f"{word} {thing}".strip()
    size = SIZES[noun.sizes][detail % len(SIZES[noun.sizes])].lower()
    wordings = (
        plain,
        f"{noun.gender.lower().replace(chr(39), '')} {plain}".strip(),
        f"{noun.short} {word}".strip(),
        f"{thing} {word}".strip(),
        plain if len(SIZES[noun.sizes]) == 1 else f"{plain} size {size}",
        misspell(plain, 1 + detail * (len(plain) - 3) // (_SLIPS - 1)),
    )
    return wordings[wording]
