"""The synthetic world as files of the raw contract: Arrow columns, written as Parquet or as gzipped JSON lines."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fashionrec.lake.spec import table_spec
from fashionrec.sources.lines import write_lines
from fashionrec.sources.world.search import NOTHING
from fashionrec.sources.world.shoppers import ACTIONS, SEARCH, Events
from fashionrec.sources.world.stock import Ints, Stock
from fashionrec.sources.world.words import NOUNS, SIZES

FileFormat = Literal["jsonl", "parquet"]
# Share of the items that cannot be bought for a day, and that are reduced, and by how much.
_SOLD_OUT, _REDUCED, _REDUCTION = 0.05, 0.1, 0.2


def write_events(
    root: Path, events: Events, start: date, days: int, *, texts: Sequence[str], item_ids: Ints, prefix: str, file_format: FileFormat
) -> None:
    """Write events that are sorted by time, one folder per day, empty or not; `query` is a place in `texts`, `item` one in `item_ids`."""
    ids = pa.array(item_ids).cast(pa.string())
    words = pa.array(texts, pa.string())
    bounds = np.searchsorted(events.second, np.arange(days + 1) * 86_400)
    for day in range(days):
        folder = root / str(start + timedelta(days=day))
        table = _events_table(events, slice(bounds[day], bounds[day + 1]), start, words, ids, prefix)
        _write(folder, "events", table, file_format)


def item_text(stock: Stock, item_ids: Ints, start: date) -> Mapping[str, pa.Array]:
    """Return the columns of a category's items that never change, and `title_new`, what a title becomes."""
    nouns = NOUNS[stock.category]
    noun, style = stock.codes["noun"], stock.codes["style"]
    size_offsets = np.cumsum([0, *(len(SIZES[one.sizes]) for one in nouns)])
    size = _words([size for one in nouns for size in SIZES[one.sizes]], size_offsets[noun] + stock.size)
    heads = [" ".join(filter(None, (one.gender, word, one.name))) for one in nouns for word in stock.words["style"]]
    brand, colour, season = (_words(stock.words[name], stock.codes[name]) for name in ("brand", "colour", "season"))
    head = pc.binary_join_element_wise(brand, _words(heads, noun * len(stock.words["style"]) + style), " ")
    last = _words([f", {word}" if word != "All Season" else "" for word in stock.words["season"]], stock.codes["season"])
    with_size = pc.binary_join_element_wise(head, colour, size, ", ")
    without = pc.binary_join_element_wise(head, colour, ", ")
    attributes = {
        "type": _words([one.name for one in nouns], noun),
        "style": _words(stock.words["style"], style),
        "season": season if len(stock.words["season"]) > 1 else _words([""], np.zeros(len(stock), np.int64)),
        "occasion": _words(stock.words["occasion"], stock.codes["occasion"]),
        "gender": _words([one.gender for one in nouns], noun),
        "holiday": _words(stock.words["holiday"], stock.codes["holiday"]),
        "material": _words(stock.words["material"], stock.codes["material"]),
    }
    return {
        "item_id": pa.array(item_ids[stock.first : stock.first + len(stock)]).cast(pa.string()),
        "title": pc.binary_join_element_wise(pc.if_else(pa.array(stock.size_in_title), with_size, without), last, ""),
        "title_new": pc.binary_join_element_wise(with_size, last, ""),
        "brand": brand,
        "colour": colour,
        "size": size,
        "first_available_date": pa.array(np.datetime64(start, "D") + stock.arrives).cast(pa.string()),
        "attributes": _maps(attributes),
    }


def write_catalog(
    folder: Path,
    rng: np.random.Generator,
    stocks: Sequence[Stock],
    text: Sequence[Mapping[str, pa.Array]],
    day: int,
    *,
    file_format: FileFormat,
) -> None:
    """Write the items that are on sale on a day of the world, with that day's stock, price and titles, in the order of their IDs."""
    parts = []
    for stock, words in zip(stocks, text, strict=True):
        on_sale = np.flatnonzero((stock.arrives <= day) & (stock.leaves > day))
        price = stock.price[on_sale] * np.where(rng.random(len(on_sale)) < _REDUCED, 1 - _REDUCTION, 1)
        take = pa.array(on_sale)
        columns = {name: column.take(take) for name, column in words.items()}
        columns["title"] = pc.if_else(pa.array(stock.retitled[on_sale] <= day), columns.pop("title_new"), columns["title"])
        count = len(on_sale)
        columns |= {
            "category": pa.array([stock.category]).take(pa.array(np.zeros(count, np.int64))),
            "price": pa.array(price.round(2)),
            "currency": pa.array(["EUR"]).take(pa.array(np.zeros(count, np.int64))),
            "in_stock": pa.array(rng.random(count) >= _SOLD_OUT),
            "image_url": pa.nulls(count, pa.string()),
        }
        parts.append(pa.table({name: columns[name] for name in table_spec("raw_catalog").struct.names}))
    table = pa.concat_tables(parts)
    _write(folder, "items", table.take(pc.sort_indices(table["item_id"])), file_format)


def _events_table(events: Events, rows: slice, start: date, texts: pa.Array, ids: pa.Array, prefix: str) -> pa.Table:
    action = events.action[rows]
    is_search = action == SEARCH
    user = pc.utf8_lpad(pa.array(events.user[rows]).cast(pa.string()), 5, "0")
    number = pc.utf8_lpad(pa.array(np.arange(rows.start, rows.stop)).cast(pa.string()), 7, "0")
    at = pa.array(np.datetime64(start, "s") + events.second[rows])
    page = events.page[rows]
    shown = events.shown[page]
    is_result = (shown != NOTHING) & is_search[:, None]
    position = events.position[rows]
    return pa.table(
        {
            "event_id": pc.binary_join_element_wise(prefix, number, "-"),
            "user_id": pc.binary_join_element_wise("user", user, "-"),
            "event_at": pc.strftime(at, "%Y-%m-%dT%H:%M:%SZ"),
            "action": _words(ACTIONS, action),
            "query": _taken(texts, events.query[rows], is_search),
            "item_id": _taken(ids, events.item[rows], ~is_search),
            "position": pa.array(position.astype(np.int32), mask=position == NOTHING),
            "results": _lists(ids, shown, is_result, is_search),
            "sponsored": pa.array(events.sponsored[rows], mask=is_search),
            "sponsored_results": _lists(ids, shown, is_result & events.paid[page], is_search),
            "device_id": pc.binary_join_element_wise("device", user, pa.array(events.device[rows]).cast(pa.string()), "-"),
        }
    )


def _taken(words: pa.Array, places: Ints, given: NDArray[np.bool_]) -> pa.Array:
    """Return the words at `places`, null where none is given."""
    return words.take(pa.array(np.where(given, places, 0), mask=~given))


def _lists(ids: pa.Array, items: NDArray[np.int32], kept: NDArray[np.bool_], given: NDArray[np.bool_]) -> pa.Array:
    """Return one list of IDs per row, null where none is given."""
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), ids.take(pa.array(items[kept])), mask=pa.array(~given))


def _words(words: Sequence[str], places: Ints | NDArray[np.int8]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(places))


def _maps(columns: Mapping[str, pa.Array]) -> pa.Array:
    """Return one map per row of the columns' words that are not empty."""
    count = len(next(iter(columns.values())))
    every = pa.chunked_array(list(columns.values())).combine_chunks()
    filled = np.asarray(pc.not_equal(every, "")).reshape(len(columns), count).T
    row, key = np.nonzero(filled)
    offsets = pa.array(np.concatenate([[0], np.cumsum(filled.sum(axis=1))]).astype(np.int32))
    return pa.MapArray.from_arrays(offsets, _words(list(columns), key), every.take(pa.array(key * count + row)))


def _write(folder: Path, name: str, table: pa.Table, file_format: FileFormat) -> None:
    """Write one file in one move: readers see all of it or none."""
    if file_format == "jsonl":
        write_lines(folder / f"{name}.jsonl.gz", "".join(map(_as_line, table.to_pylist(maps_as_pydicts="strict"))))
        return
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.parquet"
    pq.write_table(table, unfinished, compression="zstd", row_group_size=200_000)
    unfinished.replace(folder / f"{name}.parquet")


def _as_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":")) + "\n"
