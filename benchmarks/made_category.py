"""A category of any size, and requests for it, all made up: what bench-retrieval measures with."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fashionrec.retrieval.arrays import Floats, Ints
from fashionrec.retrieval.indexes import write_category

CATEGORY, TODAY, EVENINGS = "Clothing", 20_513, 60
TOUCHED, ELSEWHERE, REMEMBERED = 12, 10, 10
PURCHASES_PER_ITEM, PURCHASES_PER_USER, ITEMS_PER_FAMILY = 3, 5, 4
CENTRES, _NOISES = 1000, 1 << 14


class MadeUp:
    """Vectors of texts that need no model: a text's hash chooses one of 1,000 centres and what is added to it. Empty sessions have none."""

    def __init__(self, dim: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.centres, self.noises = (unit(rng.standard_normal((count, dim), np.float32)) for count in (CENTRES, _NOISES))

    def __call__(self, texts: Sequence[str]) -> Floats:
        return self.of(np.fromiter((zlib.crc32(text.encode()) for text in texts), np.int64, len(texts)))

    def of_sessions(self, sessions: Sequence[Sequence[str]]) -> Floats:
        return self([session[-1] for session in sessions])

    def of_items(self, item_ids: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
        return self(item_ids), np.arange(len(item_ids)) % 50 > 0

    def of(self, numbers: Ints) -> Floats:
        return unit(self.centres[numbers % CENTRES] + self.noises[numbers // CENTRES % _NOISES])


def make_category(folder: Path, items: int, dim: int, attributes: Sequence[str]) -> None:
    """Write the index of a category of so many items."""
    rng = np.random.default_rng(4)
    rows = np.arange(items)
    values = rng.integers(0, np.linspace(5, 60, len(attributes)).astype(int), (items, len(attributes)))
    names = np.array([f"value {number}" for number in range(60)], dtype=object)
    gone = rng.random(items) < 0.1
    since, left = TODAY - rng.integers(0, 1000, items), TODAY - rng.integers(0, 90, items)
    sold_out = [list(TODAY - rng.choice(EVENINGS, 2, replace=False)) if chosen else [] for chosen in rng.random(items) < 0.03]
    families = [f"Brand {number % 977} model {number}" for number in rows // ITEMS_PER_FAMILY]
    frame = pd.DataFrame(
        {
            "item_id": item_ids(rows),
            "title": [f"{family}, size {row % ITEMS_PER_FAMILY}" for family, row in zip(families, rows.tolist(), strict=True)],
            "category": CATEGORY,
            "in_stock": ~gone,
            "family": families,
            "tastes": list(names[values]),
            "price": rng.lognormal(3, 0.7, items),
            "on_sale_from": np.minimum(since, left - 1),
            "on_sale_to": np.where(gone, left, 1 << 20),
            "sold_out": sold_out,
        }
    )
    count = PURCHASES_PER_ITEM * items
    bought = pd.DataFrame(
        {
            "user_id": rng.integers(0, max(count // PURCHASES_PER_USER, 1), count),
            "item_id": frame.item_id.to_numpy()[skewed(rng, items, count)],
            "day": TODAY - rng.integers(0, 365, count),
        }
    )
    folder.mkdir()
    ids, titles = MadeUp(dim, 1), MadeUp(dim, 2)
    write_category(frame, bought, folder, as_of=TODAY, id_vectors=ids.of_items, encode=titles)


def write_requests(folder: Path, count: int, *, evenings: int, items: int, attributes: Sequence[str]) -> None:
    """Write `count` rows with the columns of `list_requests` and a number, spread over the last `evenings`."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    for start in range(0, count, 10_000):
        size = min(10_000, count - start)
        numbers = np.arange(start, start + size)
        as_of = TODAY - rng.integers(0, evenings, size) - (evenings > 1)
        ago = np.sort(rng.integers(0, 60, (size, TOUCHED)), axis=1)
        touched = {
            "item_id": item_ids(skewed(rng, items, size * TOUCHED)),
            "day": pa.array((as_of[:, None] - ago).ravel(), pa.int32()),
            "bought": rng.random(size * TOUCHED) < 0.25,
        }
        remembered = {
            "place": pa.array(np.zeros(size * REMEMBERED), pa.int32()),
            "item_id": item_ids(skewed(rng, items, size * REMEMBERED)),
            "score": pa.array(np.tile(np.linspace(1, 0.1, REMEMBERED), size), pa.float32()),
        }
        values = pa.array([f"value {number}" for number in rng.integers(0, 30, size * ELSEWHERE * len(attributes))])
        users = [f"user {number}" for number in numbers]
        columns = {
            "number": numbers,
            "example_id": users,
            "user_id": users,
            "category": [CATEGORY] * size,
            "horizon": ["overnight"] * size,
            "as_of": pa.array(as_of, pa.int32()),
            "touched": _lists(_structs(touched), TOUCHED),
            "elsewhere": _lists(_lists(values, len(attributes)), ELSEWHERE),
            "queries": [[f"query {number % 50_000}"] for number in numbers],
            "remembered": _lists(_structs(remembered), REMEMBERED),
            "item_id": item_ids(skewed(rng, items, size)),
            "title": [f"Brand {number % 977} model {number}" for number in numbers],
            "log_prob": pa.array(-rng.random(size), pa.float32()),
            "user": numbers,
            "protocols": [["leave_one_out"]] * size,
            "target_item_id": item_ids(skewed(rng, items, size)),
            "target_bought_before": np.zeros(size, bool),
        }
        pq.write_table(pa.table(columns), folder / f"{start}.parquet")


def skewed(rng: np.random.Generator, items: int, count: int) -> Ints:
    """Draw rows of items, few of which are drawn often: the same ones by any generator."""
    shares = np.cumsum(np.random.default_rng(6).lognormal(0, 1.5, items))
    return np.searchsorted(shares, rng.random(count) * shares[-1])


def item_ids(rows: Ints) -> list[str]:
    return [f"{row:07}" for row in rows.tolist()]


def unit(vectors: Floats) -> Floats:
    unit: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _structs(columns: Mapping[str, Any]) -> pa.StructArray:
    return pa.StructArray.from_arrays([pa.array(column) for column in columns.values()], list(columns))


def _lists(values: pa.Array, width: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, width), pa.int32()), values)
