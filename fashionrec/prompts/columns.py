"""Arrow batches to examples and back: column by column, because rows as Python objects cost more than their rendering."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashionrec.prompts.calendar import Calendar
from fashionrec.prompts.lines import Action, Product
from fashionrec.prompts.render import Example

# Fields of an action, in the order of Action; `attributes` and the times come apart.
ACTION_FIELDS = ("action", "query", "item_id", "title", "brand", "colour", "size", "price")


def examples_of(batch: pa.RecordBatch, calendar: Calendar, *, holiday_days: int) -> Iterator[Example]:
    """Yield the example of each row.

    The batch has `category`, `marketplace`, `as_of_date`; the lists `action`, `query`, ... of ACTION_FIELDS, `attributes` (maps) and
    `event_at` (timestamps in UTC), all as long as the path; and `shown`, a list of structs (query, products), or null.
    """
    categories, as_of_dates = _values(batch["category"]), batch["as_of_date"].to_pylist()
    markets = [calendar.market(code) for code in _values(batch["marketplace"])]
    ends = _ends(batch["action"])
    actions = _actions(batch)
    ages = _ages(batch)
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


def _actions(batch: pa.RecordBatch) -> list[Action]:
    """Return the actions of all rows, one after the other."""
    columns = [_values(batch[name].flatten()) for name in ACTION_FIELDS]
    return list(map(Action._make, zip(*columns, _pairs(batch["attributes"].flatten()), strict=True)))


def _pairs(maps: pa.MapArray) -> list[tuple[tuple[str, str], ...]]:
    """Return each map as pairs; none of a null one. An item's pairs are the same object each time: equal at a glance."""
    # keys and items stand for the whole of the buffers, also where the array is a slice of them.
    pairs = list(zip(_values(maps.keys), _values(maps.items), strict=True))
    offsets = maps.offsets.to_numpy().tolist()
    filled = maps.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [tuple(pairs[a:b]) if is_filled else () for a, b, is_filled in zip(offsets[:-1], offsets[1:], filled, strict=True)]


def _ages(batch: pa.RecordBatch) -> list[int]:
    """Return the whole days from each action's date to the day after its row's as-of date."""
    lengths = np.diff(np.array([0, *_ends(batch["event_at"])]))
    predicted = np.repeat(batch["as_of_date"].cast(pa.int32()).to_numpy() + 1, lengths)
    times: NDArray[np.int64] = batch["event_at"].flatten().cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    ages: list[int] = np.maximum(predicted - times // _MICROS_PER_DAY, 0).tolist()
    return ages


def _shown(column: pa.ListArray) -> list[Mapping[str, tuple[Product, ...]]]:
    """Return the memory's products by query, per row."""
    searches = column.flatten()
    queries, products = _values(searches.field("query")), searches.field("products")
    flat = products.flatten()
    named = list(map(Product._make, zip(_values(flat.field("item_id")), _values(flat.field("title")), strict=True)))
    starts = [0, *_ends(products)]
    by_search = [tuple(named[a:b]) for a, b in zip(starts[:-1], starts[1:], strict=True)]
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
