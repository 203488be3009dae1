"""A small SYNTHETIC fashion world in the raw contract: no row of it was ever observed in a shop.

It exists because no public data that may be carried along joins searches, clicks and purchases with texts. It is built to show the paper's
characteristics: shoppers compare variants (C2), season and occasion matter (C3), and the top results of a query are what is bought (C4).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionrec.ingest.lines import write_lines
from fashionrec.ingest.world_words import BRANDS, COLOURS, NOUNS, OCCASIONS, SEASONS, SIZES, STYLES, misspell

RESULTS_PER_SEARCH = 12
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shelf:
    """The items of one category, column by column; every array has the shape (items,)."""

    category: str
    rows: list[dict[str, Any]]
    facets: Mapping[str, NDArray[np.str_]]
    family: NDArray[np.int64]
    popularity: Floats
    price: Floats
    day_number: NDArray[np.int64]


@dataclass(frozen=True)
class Taste:
    """What one user likes: a value per facet that gains weight, and a price level."""

    home: int
    gender: str
    likes: Mapping[str, frozenset[str]]
    price_level: float


def make_world(
    raw_interactions: Path, raw_catalog: Path, *, end_date: date, days: int, user_count: int, items_per_category: int, seed: int
) -> dict[str, int]:
    """Write a world whose last day is `end_date` as one folder of events per day and one catalogue; the same arguments give the same bytes.

    Returns:
        Counts of users, items, events, searches, clicks and purchases.
    """
    rng = np.random.default_rng(seed)
    start = end_date - timedelta(days=days - 1)
    ids = iter((rng.choice(900_000, len(NOUNS) * items_per_category, replace=False) + 100_000).tolist())
    shelves = [_stock(rng, category, [str(next(ids)) for _ in range(items_per_category)], start, days) for category in NOUNS]
    events: list[dict[str, Any]] = []
    for user in range(user_count):
        events += _life(rng, f"user-{user:05d}", shelves, start, days)
    events.sort(key=lambda event: (event["event_at"], event["user_id"]))
    by_day: dict[str, list[dict[str, Any]]] = {str(start + timedelta(days=day)): [] for day in range(days)}
    for number, event in enumerate(events):
        by_day[event["event_at"][:10]].append({"event_id": f"{seed}-{number:07d}", **event})
    for day, rows in by_day.items():
        write_lines(raw_interactions / day / "events.jsonl.gz", _as_lines(rows))
    items = [row for shelf in shelves for row in shelf.rows]
    write_lines(raw_catalog / str(end_date) / "items.jsonl.gz", _as_lines(sorted(items, key=lambda row: str(row["item_id"]))))
    actions = [event["action"] for event in events]
    return {
        "users": user_count,
        "items": len(items),
        "events": len(events),
        **{name: actions.count(action) for name, action in (("searches", "search"), ("clicks", "click"), ("purchases", "purchase"))},
    }


def _stock(rng: np.random.Generator, category: str, ids: Sequence[str], start: date, days: int) -> Shelf:
    """Return a category's items: families of one brand, style and noun, each in several colours or sizes."""
    rows: list[dict[str, Any]] = []
    families: list[int] = []
    popularity: list[float] = []
    seen: set[tuple[str, ...]] = set()
    while len(rows) < len(ids):
        noun = NOUNS[category][_skewed(rng, len(NOUNS[category]), 0.5)]
        brand, style = BRANDS[int(rng.integers(len(BRANDS)))], STYLES[category][_skewed(rng, len(STYLES[category]), 0.5)]
        season, occasion = SEASONS[int(rng.integers(len(SEASONS)))], OCCASIONS[_skewed(rng, len(OCCASIONS), 0.3)]
        key = (noun.name, brand.name, style, season)
        if key in seen:
            continue
        seen.add(key)
        price = noun.price * brand.level * float(rng.lognormal(0, 0.15))
        fame = float(rng.lognormal(0, 0.8))
        palette = rng.permutation(len(COLOURS))
        sizes = rng.permutation(SIZES[noun.sizes])
        for variant in range(min(int(rng.integers(2, 6)), len(ids) - len(rows))):
            # Every fifth variant differs from the one before only in size; its title then says the size.
            same_colour = variant > 0 and len(sizes) > variant and rng.random() < 0.2
            colour = rows[-1]["colour"] if same_colour else COLOURS[palette[variant]]
            size = str(sizes[variant % len(sizes)])
            tail = [colour, *([size] if same_colour else []), *([] if season == "All Season" else [season])]
            rows.append(
                {
                    "item_id": ids[len(rows)],
                    "title": ", ".join([" ".join(filter(None, (brand.name, noun.gender, style, noun.name))), *tail]),
                    "category": category,
                    "brand": brand.name,
                    "colour": colour,
                    "size": size,
                    "price": round(price, 2),
                    "currency": "EUR",
                    "in_stock": bool(rng.random() > 0.05),
                    # 6% come on sale in the second half of the world's days: items that training has seen little of.
                    "first_available_date": str(
                        start
                        + timedelta(days=int(rng.integers(days // 2, days)) if rows and rng.random() < 0.06 else -int(rng.integers(1, 400)))
                    ),
                    "image_url": None,
                    "attributes": {"type": noun.name, "style": style, "season": season, "occasion": occasion}
                    | ({"gender": noun.gender} if noun.gender else {}),
                }
            )
            families.append(len(seen))
            popularity.append(fame * float(rng.lognormal(0, 0.5)))
    facets = {name: np.array([row["attributes"][name] for row in rows]) for name in ("type", "style", "season", "occasion")}
    facets |= {name: np.array([row[name] for row in rows]) for name in ("brand", "colour")}
    return Shelf(
        category,
        rows,
        facets,
        np.array(families),
        np.log(np.array(popularity)),
        np.array([row["price"] for row in rows]),
        np.array([(date.fromisoformat(row["first_available_date"]) - start).days for row in rows]),
    )


def _life(rng: np.random.Generator, user_id: str, shelves: Sequence[Shelf], start: date, days: int) -> list[dict[str, Any]]:
    """Return all events of one user: a number of journeys, most of them in the user's home category."""
    taste = _taste(rng, len(shelves))
    # One user in twelve has only just come: a single journey.
    journey_count = 1 if rng.random() < 1 / 12 else 4 + int(rng.poisson(3))
    first_days = np.sort(rng.integers(0, days, journey_count))
    events: list[dict[str, Any]] = []
    for first_day in first_days.tolist():
        shelf = shelves[taste.home if rng.random() < 0.8 else int(rng.integers(len(shelves)))]
        events += [{"user_id": user_id, **event} for event in _journey(rng, taste, shelf, start=start, days=days, first_day=first_day)]
    return events


def _taste(rng: np.random.Generator, category_count: int) -> Taste:
    categories = list(NOUNS)
    home = _skewed(rng, category_count, 0.3)
    likes = {
        "colour": _some(rng, COLOURS, 2),
        "style": _some(rng, STYLES[categories[home]], 2),
        "brand": _some(rng, [brand.name for brand in BRANDS], 2),
        "occasion": _some(rng, OCCASIONS, 1),
    }
    return Taste(home, "Women's" if rng.random() < 0.6 else "Men's", likes, float(rng.normal(0, 0.4)))


def _journey(rng: np.random.Generator, taste: Taste, shelf: Shelf, *, start: date, days: int, first_day: int) -> list[dict[str, Any]]:
    """Return one path: one to three sessions of searching for one kind of thing, and mostly a purchase at its end."""
    on_sale = set(shelf.facets["type"][shelf.day_number <= first_day].tolist())
    nouns = [noun for noun in NOUNS[shelf.category] if noun.name in on_sale]
    weights = np.array(
        [(3.0 if noun.gender == taste.gender else 1.0 if not noun.gender else 0.1) / (1 + i) ** 0.5 for i, noun in enumerate(nouns)]
    )
    noun = nouns[int(rng.choice(len(nouns), p=weights / weights.sum()))]
    session_count = 1 + int(rng.random() < 0.4) + int(rng.random() < 0.1)
    buys = rng.random() < 0.85
    events: list[dict[str, Any]] = []
    day = first_day
    for session in range(session_count):
        at = datetime.combine(start + timedelta(days=day), time(7), UTC) + timedelta(seconds=int(rng.integers(0, 15 * 3600)))
        facet, value = _modifier(rng, taste, shelf, narrow=session > 0, month=at.month)
        shown = _search(rng, shelf, noun=noun.name, facet=facet, value=value, day=day)
        last = session == session_count - 1
        bought = _choose(rng, taste, shelf, shown, 1, steepness=1.3)[0] if last and buys else None
        seen = _compared(rng, taste, shelf, shown, bought)
        query = _wording(rng, noun, value)
        actions = [{"action": "search", "query": query, "results": [shelf.rows[i]["item_id"] for i in shown]}]
        actions += [_item_action("click", shelf, shown, i) for i in seen]
        actions += [_item_action("purchase", shelf, shown, bought)] if bought is not None else []
        for action in actions:
            events.append({"event_at": f"{at:%Y-%m-%dT%H:%M:%SZ}", **_EMPTY, **action})
            at += timedelta(seconds=int(rng.integers(8, 180)))
        day += int(rng.integers(1, 3))
        if day >= days:  # the world ends before the journey does: an open path
            break
    return events


_EMPTY: dict[str, Any] = {"action": None, "query": None, "item_id": None, "position": None, "results": None}


def _modifier(rng: np.random.Generator, taste: Taste, shelf: Shelf, *, narrow: bool, month: int) -> tuple[str, str]:
    """Return what a query asks for beside the noun as (facet, value); ("", "") for a broad query."""
    odds = (0.1, 0.4, 0.3, 0.1, 0.1) if narrow else (0.45, 0.25, 0.16, 0.07, 0.07)
    facet = ("", "colour", "style", "season", "occasion")[int(rng.choice(5, p=odds))]
    if not facet:
        return "", ""
    values = {"colour": COLOURS, "style": STYLES[shelf.category], "season": _coming_seasons(month), "occasion": OCCASIONS}[facet]
    liked = sorted(set(values) & taste.likes.get(facet, frozenset()))
    return facet, str(rng.choice(liked)) if liked and rng.random() < 0.6 else values[_skewed(rng, len(values), 0.8)]


def _coming_seasons(month: int) -> tuple[str, ...]:
    """Return the four seasons beginning with the one that shoppers of that month dress for."""
    year = ("Winter", "Spring", "Summer", "Autumn")
    now = month % 12 // 3
    return year[now:] + year[:now]


def _search(rng: np.random.Generator, shelf: Shelf, *, noun: str, facet: str, value: str, day: int) -> NDArray[np.int64]:
    """Return the items of the shelf shown for a query, best first: by relevance, then popularity, with a little daily noise."""
    relevance = 6.0 * (shelf.facets["type"] == noun)
    if facet:
        relevance = relevance + 2.5 * (shelf.facets[facet] == value)
    score = relevance + shelf.popularity + rng.normal(0, 0.15, len(shelf.rows))
    score[(shelf.day_number > day) | (shelf.facets["type"] != noun)] = -math.inf
    best: NDArray[np.int64] = np.argsort(-score, kind="stable")[: min(RESULTS_PER_SEARCH, int(np.isfinite(score).sum()))]
    return best


def _choose(rng: np.random.Generator, taste: Taste, shelf: Shelf, shown: NDArray[np.int64], count: int, *, steepness: float) -> list[int]:
    """Return different items of those shown, drawn by taste and position: each is `position ** -steepness` as likely to be looked at."""
    liking = sum(0.7 * np.isin(shelf.facets[facet][shown], sorted(liked)) for facet, liked in taste.likes.items())
    typical = np.log(shelf.price[shown]) - np.log(shelf.price[shown]).mean()
    appeal = np.exp(liking - np.abs(typical - taste.price_level)) * np.arange(1, len(shown) + 1) ** -steepness
    return [int(i) for i in rng.choice(shown, min(count, len(shown)), replace=False, p=appeal / appeal.sum())]


def _compared(rng: np.random.Generator, taste: Taste, shelf: Shelf, shown: NDArray[np.int64], bought: int | None) -> list[int]:
    """Return the items clicked before the decision; a buyer mostly compares the variants of what is bought, too."""
    seen = _choose(rng, taste, shelf, shown, int(rng.integers(1, 5)), steepness=0.8)
    if bought is not None:
        variants = np.flatnonzero((shelf.family == shelf.family[bought]) & np.isin(np.arange(len(shelf.rows)), shown))
        seen += [int(i) for i in rng.permutation(variants)[:2] if rng.random() < 0.7]
        seen += [bought] if rng.random() < 0.7 else []
    return list(dict.fromkeys(seen))


def _item_action(action: str, shelf: Shelf, shown: NDArray[np.int64], item: int) -> dict[str, Any]:
    return {"action": action, "item_id": shelf.rows[item]["item_id"], "position": int(np.flatnonzero(shown == item)[0]) + 1}


def _wording(rng: np.random.Generator, noun: Any, value: str) -> str:
    """Return one of the ways in which people type the same wish; one in fourteen has a slip of the finger."""
    thing = noun.name.lower()
    plain = f"{value} {thing}".strip().lower()
    kind = rng.random()
    if kind < 0.6:
        return plain
    if kind < 0.78:
        return f"{noun.gender.lower().replace(chr(39), '')} {plain}".strip()
    if kind < 0.93:
        return f"{noun.short} {value}".strip().lower()
    return misspell(plain, int(rng.integers(1, len(plain) - 1)))


def _some(rng: np.random.Generator, values: Sequence[str], count: int) -> frozenset[str]:
    return frozenset(str(value) for value in rng.choice(values, count, replace=False))


def _skewed(rng: np.random.Generator, count: int, exponent: float) -> int:
    """Return an index below `count`, the smaller the likelier (Zipf's law with that exponent)."""
    weights = np.arange(1, count + 1) ** -exponent
    return int(rng.choice(count, p=weights / weights.sum()))


def _as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
