"""A SYNTHETIC world in the raw contract: no row of it was ever observed in a shop.

It exists because no public data that may be carried along joins searches, clicks and purchases with texts. It is made to show the paper's
characteristics (section 3), with the paper's ratios between fashion, electronics and toys as its parameters (`words.VERTICALS`):

- C1: items come and go (`stock`). A vertical's items new in a month, of as many on sale, are fashion's divided by 3.6 and 6.7.
- C2: shoppers compare before they buy (`shoppers`): searches and clicks on the way are fashion's divided by 1.55 and 1.81.
- C3: season, occasion and holiday pull demand through the year; in the other verticals by less (our own choice).
- C4: one wish is typed in many words. The other verticals get as many shoppers as make their different queries a day fashion's divided by
  2.63 and 2.38, counted in the very events that are written.

One seed, one world: the same arguments give the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from fashionrec.errors import UserError
from fashionrec.sources.synthetic import mark_synthetic
from fashionrec.sources.world.files import FileFormat, item_text, write_catalog, write_events
from fashionrec.sources.world.search import NOTHING, RESULTS, SHOWN, Shop, query_text
from fashionrec.sources.world.shoppers import (
    ACTIONS,
    BUYS,
    CLICK,
    FASHION_ACTIONS,
    SEARCH,
    Calendar,
    Events,
    in_order,
    join,
    make_shoppers,
    shop,
)
from fashionrec.sources.world.stock import Ints, items_ever, make_stock, skewed
from fashionrec.sources.world.words import CATEGORIES, FASHION, NOUNS, SEASONS, STYLES, VERTICALS, brands

# Table 1 of the paper: users, items and interactions.
TABLE_1 = {
    "Clothing": (274_285, 1_386_910, 3_635_414),
    "Footwear": (63_273, 380_385, 714_628),
    "Accessories & Jewelry": (106_104, 524_433, 1_376_999),
    "Luggage & Bags": (10_611, 61_550, 131_647),
}
_BLOCK = 20_000
_DAYS_BETWEEN_CATALOGUES = 30
_ROBOT_EVENTS_PER_SECOND = 2
Draw = Callable[[np.random.Generator, int], tuple[Ints, Ints]]


@dataclass(frozen=True)
class _Fashion:
    """The part of a world that its arguments size: items per category, shoppers, what each block's home and journeys are drawn by."""

    items: Mapping[str, int]
    user_count: int
    draw: Draw
    wander: float


def make_world(
    raw_interactions: Path,
    raw_catalog: Path,
    *,
    end_date: date,
    days: int,
    user_count: int,
    items_per_category: int,
    seed: int,
    verticals: Sequence[str] = (FASHION,),
    heavy_user_events: int = 200,
    file_format: FileFormat = "jsonl",
) -> dict[str, int]:
    """Write a world by explicit counts: shoppers of some 44 events, a fifth of whose journeys leave their home category.

    Args:
        raw_interactions, raw_catalog: where the date folders go: one per day; a catalogue of the first day, every 30 days, and the last.
        end_date, days: the last day, and how many there are.
        user_count: shoppers of fashion; other verticals get as many more as their queries ask for.
        items_per_category: items that a category of fashion has in all these days; fewer are on sale at a time.
        verticals: fashion, electronics, toys; fashion is always there.
        heavy_user_events: events of one more user, the last: a robot with two events a second.
        file_format: gzipped JSON lines, or Parquet, which large worlds need.

    Returns:
        Counts of users, items, events, searches, clicks and purchases.

    Raises:
        UserError: the words do not suffice for the queries of another vertical.
    """

    def draw(rng: np.random.Generator, count: int) -> tuple[Ints, Ints]:
        # One user in twelve has only just come: a single journey.
        return skewed(rng, len(TABLE_1), 0.3, count), np.where(rng.random(count) < 1 / 12, 1, 4 + rng.poisson(3, count))

    size = _Fashion(dict.fromkeys(CATEGORIES[FASHION], items_per_category), user_count, draw, 0.2)
    return _write(raw_interactions, raw_catalog, size, end_date, days, seed, verticals, heavy_user_events, file_format)


def make_table_1_world(
    raw_interactions: Path,
    raw_catalog: Path,
    *,
    end_date: date,
    days: int,
    scale: float,
    seed: int,
    verticals: Sequence[str] = (FASHION,),
    heavy_user_events: int = 200,
    file_format: FileFormat = "parquet",
) -> dict[str, int]:
    """Write a world of the sizes of the paper's Table 1 times `scale`: users, items and interactions per category of fashion.

    A shopper keeps to one category, since Table 1 counts users of a category. The rest is as in `make_world`.
    """
    sizes = np.array([TABLE_1[category] for category in CATEGORIES[FASHION]]) * scale
    users = np.maximum(sizes[:, 0].round().astype(np.int64), 1)
    # A few actions of journeys are lost at the world's end.
    journeys = sizes[:, 2] / users / (FASHION_ACTIONS + BUYS) * (1 + 0.6 / days)

    def draw(rng: np.random.Generator, count: int) -> tuple[Ints, Ints]:
        home = rng.choice(len(users), count, p=users / users.sum())
        # Most come once or twice, few come often.
        more = np.maximum(journeys - 1, 0.01)[home]
        return home, 1 + rng.negative_binomial(0.8, 0.8 / (0.8 + more))

    items = {category: max(int(size), 1) for category, size in zip(CATEGORIES[FASHION], sizes[:, 1], strict=True)}
    size = _Fashion(items, int(users.sum()), draw, 0.0)
    return _write(raw_interactions, raw_catalog, size, end_date, days, seed, verticals, heavy_user_events, file_format)


def _write(
    raw_interactions: Path,
    raw_catalog: Path,
    size: _Fashion,
    end_date: date,
    days: int,
    seed: int,
    verticals: Sequence[str],
    heavy_user_events: int,
    file_format: FileFormat,
) -> dict[str, int]:
    start = end_date - timedelta(days=days - 1)
    dates = [start + timedelta(days=day) for day in range(days)]
    calendar = Calendar(np.array([day.month for day in dates]), np.array([day.weekday() for day in dates]))
    shops = _shops(size, seed, days, [FASHION, *(name for name in verticals if name != FASHION)])
    events = _all_events(size, seed, calendar, shops)
    user_count = int(events.user.max()) + 1
    if heavy_user_events:
        events = join([events, _robot(shops[FASHION][0], heavy_user_events, days, user_count)])
        user_count += 1
    events, texts = _spelt(in_order(events), [one for part in shops.values() for one in part])
    stocks = [one.stock for part in shops.values() for one in part]
    names = _item_ids(seed, sum(map(len, stocks)))
    raw_interactions.mkdir(parents=True, exist_ok=True)
    mark_synthetic(raw_interactions)
    write_events(raw_interactions, events, start, days, texts=texts, item_ids=names, prefix=str(seed), file_format=file_format)
    snapshots = sorted({*range(0, days, _DAYS_BETWEEN_CATALOGUES), days - 1})
    text = [item_text(stock, names, start) for stock in stocks]
    for day in snapshots:
        rng = np.random.default_rng([seed, 3, day])
        write_catalog(raw_catalog / str(dates[day]), rng, stocks, text, day, file_format=file_format)
    counts = np.bincount(events.action, minlength=len(ACTIONS))
    done = dict(zip(("searches", "clicks", "purchases"), map(int, counts), strict=True))
    return {"users": user_count, "items": len(names), "events": len(events.user), **done}


def _shops(size: _Fashion, seed: int, days: int, verticals: Sequence[str]) -> dict[str, list[Shop]]:
    """Return the shops of each vertical; other verticals have as many items on sale at a time as all of fashion."""
    shops: dict[str, list[Shop]] = {}
    first = first_query = 0
    for vertical in verticals:
        if vertical not in VERTICALS:
            raise UserError(f"no vertical {vertical!r}; there are {', '.join(VERTICALS)}")
        shops[vertical] = []
        for category in CATEGORIES[vertical]:
            count = size.items[category] if vertical == FASHION else items_ever(vertical, sum(size.items.values()), days)
            # So many that there are several times more families to be made than are needed.
            per_brand = len(NOUNS[category]) * len(STYLES[category]) * (len(SEASONS) if vertical == FASHION else 1)
            rng = np.random.default_rng([seed, 1, first])
            stock = make_stock(rng, category, first=first, count=count, days=days, labels=brands(max(10, count // per_brand)))
            one = Shop(stock, days, first_query)
            first, first_query = first + count, first_query + one.query_count
            shops[vertical].append(one)
    return shops


def _all_events(size: _Fashion, seed: int, calendar: Calendar, shops: Mapping[str, list[Shop]]) -> Events:
    """Return the events of all verticals."""
    starts = range(0, size.user_count, _BLOCK)
    blocks = [_block(size, seed, calendar, shops[FASHION], first, min(_BLOCK, size.user_count - first)) for first in starts]
    parts = [join(blocks)]
    first = size.user_count
    for vertical in list(shops)[1:]:
        needed = round(len(_first_users(parts[0])) / VERTICALS[vertical].queries)
        parts.append(_with_different_queries(size, seed, calendar, shops[vertical], first, needed))
        first = int(parts[-1].user.max()) + 1
    return join(parts)


def _spelt(events: Events, shops: Sequence[Shop]) -> tuple[Events, list[str]]:
    """Return the events with `query` a place in the returned list of texts."""
    codes, query = np.unique(events.query, return_inverse=True)
    owners = np.searchsorted([one.first_query for one in shops], codes, side="right") - 1
    texts = ["" if code == NOTHING else query_text(shops[owner], code) for owner, code in zip(owners.tolist(), codes.tolist(), strict=True)]
    return replace(events, query=query), texts


def _block(size: _Fashion, seed: int, calendar: Calendar, shops: Sequence[Shop], first: int, count: int) -> Events:
    """Return the events of the users from `first` on."""
    rng = np.random.default_rng([seed, 2, first])
    home, journeys = size.draw(rng, count)
    categories = [one.stock.category for one in shops]
    brand_count = min(len(one.stock.words["brand"]) for one in shops)
    shoppers = make_shoppers(rng, home % len(shops), first=first, categories=categories, brand_count=brand_count, days=calendar.days)
    return shop(rng, shoppers, shops, journeys, wander=size.wander, calendar=calendar)


def _first_users(events: Events) -> Ints:
    """Return, for each day and query of it, the lowest user who typed it, in ascending order."""
    rows = np.flatnonzero(events.action == SEARCH)
    day_and_query = events.second[rows] // 86_400 * (int(events.query.max()) + 1) + events.query[rows]
    order = np.lexsort((events.user[rows], day_and_query))
    ordered = day_and_query[order]
    return np.sort(events.user[rows][order][np.concatenate([[True], ordered[1:] != ordered[:-1]])])


def _with_different_queries(size: _Fashion, seed: int, calendar: Calendar, shops: Sequence[Shop], first: int, needed: int) -> Events:
    """Return the events of as many users, from `first` on, as make so many different queries, those of each day counted anew."""
    blocks: list[Events] = []
    count = max(1, min(_BLOCK, size.user_count // 2))
    for start in range(first, first + 4 * size.user_count + count, count):
        blocks.append(_block(size, seed, calendar, shops, start, count))
        typed = _first_users(join(blocks))
        if len(typed) >= needed:
            return _of_users(join(blocks), int(typed[max(needed - 1, 0)]))
    raise UserError(
        f"{shops[0].stock.category}: {needed / calendar.days:,.0f} different queries a day are wanted, more than its words can make; "
        "make the world with fewer shoppers or more days"
    )


def _of_users(events: Events, last: int) -> Events:
    """Return the events of the users up to `last`."""
    kept = events.user <= last
    searches = kept & (events.action == SEARCH)
    pages = events.page[searches]
    columns = {name: getattr(events, name)[kept] for name in Events.__dataclass_fields__ if name not in ("shown", "paid", "page")}
    page = np.full(len(kept), NOTHING)
    page[searches] = np.arange(len(pages))
    return Events(**columns, page=page[kept], shown=events.shown[pages], paid=events.paid[pages])


def _robot(one: Shop, count: int, days: int, user: int) -> Events:
    """Return what a robot does: from the middle of the world on, a search and the first nine of its results, over and over."""
    number = np.arange(count)
    per_second = max(_ROBOT_EVENTS_PER_SECOND, -(-2 * count // (days * 86_400)))
    lasts = count // per_second + 1
    begin = min(days // 2 * 86_400 + 2 * 3600, days * 86_400 - lasts)
    stock = one.stock
    on_sale = np.flatnonzero((stock.arrives <= begin // 86_400) & (stock.leaves > (begin + lasts) // 86_400))
    turn, step = number // 10, number % 10
    width = min(RESULTS, len(on_sale))
    shown = np.full((turn[-1] + 1, SHOWN), NOTHING, np.int32)
    shown[:, :width] = on_sale[(10 * np.arange(len(shown))[:, None] + np.arange(width)) % len(on_sale)] + stock.first
    is_search = step == 0
    place = np.where(is_search, 0, (step - 1) % width)
    return Events(
        second=begin + number // per_second,
        user=np.full(count, user),
        step=number,
        action=np.where(is_search, SEARCH, CLICK).astype(np.int8),
        query=np.where(is_search, one.broad_query(turn), NOTHING),
        item=np.where(is_search, NOTHING, shown[turn, place]),
        position=np.where(is_search, NOTHING, place + 1),
        sponsored=np.zeros(count, bool),
        device=np.zeros(count, np.int8),
        page=np.where(is_search, turn, NOTHING),
        shown=shown,
        paid=np.zeros(shown.shape, bool),
    )


def _item_ids(seed: int, count: int) -> Ints:
    """Return different numbers of equally many digits, six at least, in no order."""
    digits = 6
    while count > 9 * 10 ** (digits - 1) // 50:
        digits += 1
    low = 10 ** (digits - 1)
    ids: Ints = np.random.default_rng([seed, 0]).choice(9 * low, count, replace=False) + low
    return ids
