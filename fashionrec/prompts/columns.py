"""Arrow batches to examples and back: column by column, because rows as Python objects cost more than their rendering."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashionrec.prompts.calendar import Calendar
from fashionrec.prompts.lines import Action, Product
from fashionrec.prompts.render import Example


def examples_of(batch: pa.RecordBatch, calendar: Calendar, *, holiday_days: int) -> Iterator[Example]:
    """Yield the example of each row.

    The batch has `category`, `marketplace`, `as_of_date` and `actions` as the table `sequences` has them, and `shown`, a list of structs
    (query, products), or null.
    """
    categories, as_of_dates = _values(batch["category"]), batch["as_of_date"].to_pylist()
    markets = [calendar.market(code) for code in _values(batch["marketplace"])]
    ends = _ends(batch["actions"])
    steps = batch["actions"].flatten()
    actions = _actions(steps)
    ages = _ages(steps.field("event_at"), np.repeat(batch["as_of_date"].cast(pa.int32()).to_numpy(), np.diff([0, *ends])))
    shown = _shown(batch["shown"])
    start = 0
    for row, end in enumerate(ends):
        market, as_of_date = markets[row], as_of_dates[row]
        yield Example(
            category=categories[row],
            season=calendar.season(market, as_of_date),
            holidays=calendar.coming(market, as_of_date, holiday_days),
            actions=actions[start:end],
            shown=shown[row],
            ages=ages[start:end],
        )
        start = end


def _actions(steps: pa.StructArray) -> list[Action]:
    """Return the actions of all rows, one after the other."""
    columns = (_pairs(steps.field(name)) if name == "attributes" else _values(steps.field(name)) for name in Action._fields)
    return list(map(Action._make, zip(*columns, strict=True)))


def _pairs(maps: pa.MapArray) -> list[tuple[tuple[str, str], ...]]:
    """Return each map as pairs; none of a null one. An item's pairs are the same object each time: equal at a glance."""
    # keys and items stand for the whole of the buffers, also where the array is a slice of them.
    pairs = list(zip(_values(maps.keys), _values(maps.items), strict=True))
    offsets = maps.offsets.to_numpy().tolist()
    filled = maps.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [tuple(pairs[a:b]) if is_filled else () for (a, b), is_filled in zip(pairwise(offsets), filled, strict=True)]


def _ages(event_at: pa.TimestampArray, as_of_days: NDArray[np.int32]) -> list[int]:
    """Return the whole days from each action's date to the day after its row's as-of date, given in days since 1970; all in UTC."""
    days = event_at.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() // _MICROS_PER_DAY
    ages: list[int] = np.maximum(as_of_days + 1 - days, 0).tolist()
    return ages


def _shown(column: pa.ListArray) -> list[Mapping[str, tuple[Product, ...]]]:
    """Return the memory's products by query, per row."""
    searches = column.flatten()
    queries, products = _values(searches.field("query")), searches.field("products")
    flat = products.flatten()
    named = list(map(Product._make, zip(_values(flat.field("item_id")), _values(flat.field("title")), strict=True)))
    starts = [0, *_ends(products)]
    by_search = [tuple(named[a:b]) for a, b in pairwise(starts)]
    found: list[Mapping[str, tuple[Product, ...]]] = []
    start = 0
    for end in _ends(column):
        found.append(dict(zip(queries[start:end], by_search[start:end], strict=True)))
        start = end
    return found


def _ends(lists: pa.ListArray) -> list[int]:
    """Return where each row's values end in the flattened array; those of a null row nowhere."""
    lengths: NDArray[np.int64] = lists.value_lengths().fill_null(0).to_numpy()
    ends: list[int] = np.cumsum(lengths).tolist()
    return ends


def _values(array: pa.Array) -> Sequence[Any]:
    """Return strings or numbers as Python objects, None for null; equal strings are one object, whose hash is computed once."""
    if pa.types.is_floating(array.type):
        numbers = array.fill_null(0).to_numpy().astype(object)
        numbers[array.is_null().to_numpy(zero_copy_only=False)] = None
        return list(numbers)
    return list(array.to_pandas(deduplicate_objects=True))


_MICROS_PER_DAY = 24 * 60 * 60 * 1_000_000
