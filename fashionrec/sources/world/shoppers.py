"""What the shoppers of the synthetic world do: journeys of sessions, each a search, clicks that compare, and at the end mostly a purchase.

All of it is arrays, one row per journey, search or event; there is no loop over shoppers or events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from fashionrec.sources.world.search import NOTHING, SHOWN, Bools, Pages, Shop, Wish, query_codes, results
from fashionrec.sources.world.stock import FACETS, Floats, Ints, Stock, skewed
from fashionrec.sources.world.words import COLOURS, HOLIDAYS, NOUNS, OCCASION_MONTHS, OCCASIONS, SEASONS, SIZES, STYLES, VERTICALS

SEARCH, CLICK, PURCHASE = 0, 1, 2
ACTIONS = ("search", "click", "purchase")
# Mean number of searches and clicks on the way to a decision in fashion, and how many searches beyond the first (of two at most).
FASHION_ACTIONS, MORE_SEARCHES = 6.2, 0.25
BUYS = 0.85
_LOG_PLACES = np.log(np.arange(1, SHOWN + 1))


@dataclass(frozen=True)
class Shoppers:
    """Users of one block, with `home` a place in the list of shops.

    Likes have the shape (users, 2, ...): before and after a change of mind.
    """

    first: int
    home: Ints
    women: Bools
    colours: Ints
    brands: Ints
    styles: Ints
    occasions: Ints
    size: Floats
    price_level: Floats
    price_drift: Floats
    changes_on: Ints
    devices: Ints


@dataclass(frozen=True)
class Events:
    """Events in any order, one array per column; `item` and `query` are numbers in the world, NOTHING where an event has none.

    `shown` (events, SHOWN) holds the items of a search's page, `paid` those that were paid for; both only as rows of searches, to which
    `page` points. `second` counts from the world's first midnight.
    """

    second: Ints
    user: Ints
    step: Ints
    action: NDArray[np.int8]
    query: Ints
    item: Ints
    position: Ints
    sponsored: Bools
    device: NDArray[np.int8]
    page: Ints
    shown: Pages
    paid: Bools


def in_order(events: Events) -> Events:
    """Return the events sorted by time, then user; the pages stay where they are."""
    order = np.lexsort((events.step, events.user, events.second))
    return replace(events, **{one.name: getattr(events, one.name)[order] for one in fields(Events) if one.name not in ("shown", "paid")})


def make_shoppers(rng: np.random.Generator, home: Ints, *, first: int, categories: Sequence[str], brand_count: int, days: int) -> Shoppers:
    """Return users with tastes, sizes and budgets that change slowly; `home` says in which category each shops most."""
    count = len(home)
    styles = np.stack([_some(rng, len(STYLES[category]), 2, count * 2).reshape(count, 2, 2) for category in categories], axis=1)
    return Shoppers(
        first,
        home,
        rng.random(count) < 0.6,
        _some(rng, len(COLOURS), 2, count * 2).reshape(count, 2, 2),
        rng.integers(0, brand_count, (count, 2, 2)),
        styles,
        rng.integers(0, len(OCCASIONS), (count, 2)),
        rng.random(count),
        rng.normal(0, 0.4, count),
        rng.normal(0, 0.15, count),
        # Half of them change their mind at some time.
        rng.integers(0, 2 * days, count),
        rng.integers(1, 4, count),
    )


def shop(
    rng: np.random.Generator, shoppers: Shoppers, shops: Sequence[Shop], journeys: Ints, *, wander: float, calendar: "Calendar"
) -> Events:
    """Return what a block of users does; `journeys` says how many paths each goes, `wander` how many of them outside the home category."""
    user = np.repeat(np.arange(len(journeys)), journeys)
    day = calendar.draw(rng, len(user))
    strays = rng.random(len(user)) < wander
    category = np.where(strays, rng.integers(0, len(shops), len(user)), shoppers.home[user])
    parts = [
        _in_one_category(rng, shoppers, shops[place], place, user[category == place], day[category == place], calendar)
        for place in range(len(shops))
    ]
    return join([part for part in parts if len(part.user)])


def join(parts: Sequence[Events]) -> Events:
    """Return all events of some blocks."""
    pages = np.cumsum([0, *(len(part.shown) for part in parts)])
    columns = {one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Events)}
    moved = [np.where(part.page >= 0, part.page + start, NOTHING) for part, start in zip(parts, pages, strict=False)]
    return Events(**{**columns, "page": np.concatenate(moved)})


class Calendar:
    """The days of a world: how busy each is, and what it makes people want."""

    def __init__(self, months: Ints, weekdays: Ints) -> None:
        self.months, self.days = months, len(months)
        busy = np.where(weekdays >= 5, 1.25, 1.0) * np.where(months >= 11, 1.3, 1.0)
        self._until = np.cumsum(busy / busy.sum())
        wanted = np.zeros((13, len(SEASONS)))
        for month in range(1, 13):
            for ahead, season in enumerate(coming_seasons(month)):
                wanted[month, SEASONS.index(season)] = (1.1, 0.3, -0.8, -0.8)[ahead]
        occasions = [[0.9 if month in OCCASION_MONTHS.get(name, ()) else -0.1 for name in OCCASIONS] for month in range(13)]
        holidays = [[0.0 if not one.months else 1.6 if month in one.months else -0.8 for one in HOLIDAYS] for month in range(13)]
        # Month by value: what is added to the logarithm of an item's appeal.
        self.appeal = {"season": wanted, "occasion": np.array(occasions), "holiday": np.array(holidays)}

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        return np.minimum(np.searchsorted(self._until, rng.random(count)), self.days - 1)


def coming_seasons(month: int) -> tuple[str, ...]:
    """Return the four seasons beginning with the one that shoppers of that month dress for."""
    year = ("Winter", "Spring", "Summer", "Autumn")
    now = month % 12 // 3
    return year[now:] + year[:now]


def _in_one_category(
    rng: np.random.Generator, shoppers: Shoppers, one: Shop, place: int, user: Ints, first_day: Ints, calendar: Calendar
) -> Events:
    """Return the events of journeys in one category, given as the user and the first day of each."""
    vertical = VERTICALS[one.stock.vertical]
    more = MORE_SEARCHES / vertical.actions
    clicks_beyond_one = FASHION_ACTIONS / vertical.actions / (1 + 2 * more) - 2
    noun = _draw_nouns(rng, shoppers.women[user], first_day, one)
    sessions = 1 + rng.binomial(2, more, len(user))
    buys = rng.random(len(user)) < BUYS
    journey = np.repeat(np.arange(len(user)), sessions)
    nth = _place_in_run(sessions)
    gaps = np.where(nth > 0, rng.integers(1, 3, len(journey)), 0)
    day = first_day[journey] + _cumulative_in_run(gaps, sessions)
    last = nth == sessions[journey] - 1
    kept = day < calendar.days  # the world ends before the journey does: an open path
    journey, nth, day, last = journey[kept], nth[kept], day[kept], last[kept]
    by, month = user[journey], calendar.months[day]
    late = (day > shoppers.changes_on[by]).astype(np.int64)
    pull = vertical.calendar_pull
    wish = Wish(by, late, noun[journey], day, month, *_modifiers(rng, shoppers, one, place, by, late, month, nth > 0, pull))
    shown, paid = results(rng, one, wish)
    liking = _liking(shoppers, one.stock, place, wish, shown, calendar, pull)
    bought = _draw(rng, liking - 1.3 * _LOG_PLACES - 1.2 * paid)
    purchases = last & buys[journey]
    target = np.where(purchases, shown[np.arange(len(shown)), bought], NOTHING)
    clicks = 1 + rng.poisson(clicks_beyond_one, len(shown))
    looks = _looked_at(rng, one.stock, shown, target, liking - 0.8 * _LOG_PLACES - 1.2 * paid)
    query = query_codes(rng, one, wish, shoppers.size[wish.user])
    return _as_events(
        rng, shoppers, one.stock, wish, shown, paid, query=query, looks=looks, clicks=clicks, target=target, calendar=calendar
    )


def _draw_nouns(rng: np.random.Generator, women: Bools, day: Ints, one: Shop) -> Ints:
    """Return what each journey is for: something on sale on its first day, mostly for the user's gender."""
    gender = np.array([0 if not noun.gender else 1 if noun.gender.startswith("W") else 2 for noun in one.nouns])
    wanted = np.array([[1, 0.1, 3], [1, 3, 0.1]])[:, gender] * (1 + np.arange(len(one.nouns))) ** -0.5
    weights = np.cumsum(wanted[women.astype(int)] * one.sells[:, day].T, axis=1)
    drawn: Ints = (weights < weights[:, -1:] * rng.random((len(day), 1))).sum(axis=1)
    return drawn


def _modifiers(
    rng: np.random.Generator, shoppers: Shoppers, one: Shop, place: int, user: Ints, late: Ints, month: Ints, narrow: Bools, pull: float
) -> tuple[Ints, Ints]:
    """Return what each query asks for beside the noun as (facet, value); a first search is often broad, later ones rarely."""
    words = one.stock.words
    seasonal = len(words["season"]) > 1
    # none, then as in FACETS
    broad = np.array([0.41, 0.25, 0.16, 0.07 * seasonal, 0.06, 0.02, 0.03])
    close = np.array([0.08, 0.39, 0.29, 0.09 * seasonal, 0.08, 0.02, 0.05])
    odds = np.where(narrow[:, None], np.cumsum(close / close.sum()), np.cumsum(broad / broad.sum()))
    facet = np.minimum((odds < rng.random((len(user), 1))).sum(axis=1), len(FACETS)) - 1
    value = np.zeros(len(user), np.int64)
    liked = {"colour": shoppers.colours, "style": shoppers.styles[:, place], "brand": shoppers.brands}
    for number, name in enumerate(FACETS):
        rows = np.flatnonzero(facet == number)
        if name in liked:
            taste = liked[name][user[rows], late[rows], rng.integers(0, 2, len(rows))]
            value[rows] = np.where(rng.random(len(rows)) < 0.6, taste, skewed(rng, len(words[name]), 0.8, len(rows)))
        elif name == "season":
            value[rows] = _COMING[month[rows], skewed(rng, 4, 0.8 + 0.4 * pull, len(rows))]
        else:
            value[rows] = _draw(rng, pull * _CALENDAR_QUERIES[name][month[rows]])
    return facet, value


_COMING = np.array([[SEASONS.index(name) for name in coming_seasons(month)] for month in range(13)])
_CALENDAR_QUERIES = {
    "occasion": np.array(
        [[1.2 * (month in OCCASION_MONTHS.get(name, ())) - 0.2 * i for i, name in enumerate(OCCASIONS)] for month in range(13)]
    ),
    # Nobody types "for no holiday".
    "holiday": np.array([[2.5 * (month in one.months) if one.months else -99.0 for one in HOLIDAYS] for month in range(13)]),
}


def _liking(shoppers: Shoppers, stock: Stock, place: int, wish: Wish, shown: Pages, calendar: Calendar, pull: float) -> Floats:
    """Return how much each shown item appeals, as a logarithm, (searches, SHOWN): taste, size, budget, and the time of year."""
    user, late = wish.user, wish.late
    liking = np.where(shown == NOTHING, -np.inf, 0.0)
    likes: Mapping[str, Ints] = {
        "colour": shoppers.colours[user, late],
        "brand": shoppers.brands[user, late],
        "style": shoppers.styles[user, place, late],
        "occasion": shoppers.occasions[user, late][:, None],
    }
    for facet, values in likes.items():
        codes = stock.codes[facet][shown]
        liking += 0.7 * sum(codes == values[:, [column]] for column in range(values.shape[1])).astype(bool)
    for facet, table in calendar.appeal.items():
        if len(stock.words[facet]) > 1:
            liking += pull * table[wish.month[:, None], stock.codes[facet][shown]]
    size_counts = np.array([len(SIZES[noun.sizes]) for noun in NOUNS[stock.category]])
    fitting = (shoppers.size[user] * size_counts[wish.noun]).astype(np.int64)
    liking += 0.3 * (stock.size[shown] == fitting[:, None])
    cost = np.log(np.maximum(stock.price[shown], 0.01))
    is_item = shown != NOTHING
    typical = (cost * is_item).sum(axis=1, keepdims=True) / np.maximum(is_item.sum(axis=1, keepdims=True), 1)
    budget = shoppers.price_level[user] + shoppers.price_drift[user] * wish.day / calendar.days
    appeal: Floats = liking - np.abs(cost - typical - budget[:, None])
    return appeal


def _looked_at(rng: np.random.Generator, stock: Stock, shown: Pages, target: Ints, appeal: Floats) -> Ints:
    """Return the places on the page in the order in which they would be clicked, (searches, SHOWN).

    A buyer mostly compares the variants of what is bought, too, and looks at it last.
    """
    buying = (target != NOTHING)[:, None]
    is_target = buying & (shown == target[:, None])
    variants = buying & (stock.family[shown] == stock.family[target][:, None])
    return np.argsort(-(appeal + 1.5 * variants + 0.5 * is_target + rng.gumbel(size=appeal.shape)), axis=1)


def _as_events(
    rng: np.random.Generator,
    shoppers: Shoppers,
    stock: Stock,
    wish: Wish,
    shown: Pages,
    paid: Bools,
    *,
    query: Ints,
    looks: Ints,
    clicks: Ints,
    target: Ints,
    calendar: Calendar,
) -> Events:
    """Return one row per search, click and purchase."""
    count = len(shown)
    clicks = np.minimum(clicks, (shown != NOTHING).sum(axis=1))
    buys = target != NOTHING
    lengths = 1 + clicks + buys
    page = np.repeat(np.arange(count), lengths)
    step = _place_in_run(lengths)
    action = np.where(step == 0, SEARCH, np.where(step <= clicks[page], CLICK, PURCHASE)).astype(np.int8)
    target_place = (shown == target[:, None]).argmax(axis=1)
    place = np.where(action == CLICK, looks[page, np.clip(step - 1, 0, SHOWN - 1)], target_place[page])
    item = np.where(action == SEARCH, NOTHING, shown[page, place])
    sponsored = (action != SEARCH) & paid[page, place]
    # A page's organic positions count past the paid places.
    position = place + 1 - np.cumsum(paid, axis=1)[page, place]
    # One in fifty sits up late, into the next day; the world's last day has none.
    night = (rng.random(count) < 0.02) & (wish.day < calendar.days - 1)
    opens = np.where(night, 23 * 3600 + rng.integers(1800, 3600, count), 7 * 3600 + rng.integers(0, 15 * 3600, count))
    waits = np.where(step > 0, rng.integers(8, 180, len(page)), 0)
    user = wish.user[page]
    return Events(
        (wish.day * 86_400 + opens)[page] + _cumulative_in_run(waits, lengths),
        user + shoppers.first,
        step,
        action,
        np.where(action == SEARCH, query[page], NOTHING),
        np.where(item == NOTHING, NOTHING, item + stock.first),
        np.where((action == SEARCH) | sponsored, NOTHING, position),
        sponsored,
        (rng.integers(0, 4, count) % shoppers.devices[wish.user]).astype(np.int8)[page],
        np.where(action == SEARCH, page, NOTHING),
        np.where(shown == NOTHING, NOTHING, shown + np.int32(stock.first)),
        paid,
    )


def _some(rng: np.random.Generator, count: int, taken: int, rows: int) -> Ints:
    """Return different numbers below `count`, (rows, taken)."""
    return rng.random((rows, count)).argsort(axis=1)[:, :taken]


def _draw(rng: np.random.Generator, logits: Floats) -> Ints:
    """Return one column per row, each as likely as the exponential of its number."""
    drawn: Ints = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    return drawn


def _place_in_run(lengths: Ints) -> Ints:
    """Return 0, 1, 2, ... for each run of the given lengths, one after the other."""
    places: Ints = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return places


def _cumulative_in_run(values: Ints, lengths: Ints) -> Ints:
    """Return the running sum within each run."""
    total = np.cumsum(values)
    starts = np.cumsum(lengths) - lengths
    before = np.where(starts > 0, total[np.maximum(starts - 1, 0)], 0) if len(total) else total
    sums: Ints = total - np.repeat(before, lengths)
    return sums
