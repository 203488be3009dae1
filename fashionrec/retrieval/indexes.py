"""What is known of a category's items, one folder each: FAISS indexes of both spaces, descriptions, days on sale, and purchases.

An index holds all items that were on sale within the evaluation's reach, those in stock tonight first. Search is exact (IndexFlatIP over
L2-normalised vectors): 1.4 million items of 128 dimensions take 21 ms per query. All files are mapped into memory read-only: processes of
one machine share their pages.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from fashionrec.errors import UserError
from fashionrec.index_folders import collect_built, slug
from fashionrec.retrieval.purchases import Purchases, count_purchases

if TYPE_CHECKING:
    import pandas as pd

# Both give (texts, dim) float32, L2-normalised; the first also which items were trained, (items,).
IdVectors = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]

_LENGTH_TOLERANCE = 1e-3


class RetrievalError(UserError):
    """An index is missing, broken or not the one that belongs to the run."""


@dataclass(frozen=True)
class CategoryIndex:
    """The items of a category in the order of its rows: first those in stock tonight, of them first those that training saw, then by ID.

    `as_of` is the day for which it was built, as days from 1970-01-01 like all days here. An item is on sale from `on_sale_from` up to
    before `on_sale_to`; `sold_out` (pairs, 2) holds (day, row) for the evenings on which the catalogue had it out of stock. `family` and
    `tastes` (items, attributes) number the values of attributes, 0 for none.
    """

    as_of: int
    in_stock_count: int
    item_ids: NDArray[np.bytes_]  # (items,)
    by_id: NDArray[np.int64]  # (items,): rows in the order of their IDs
    id_place: NDArray[np.int64]  # (items,): places in that order; the rows' own order tells of older evenings what is in stock tonight
    titles: Any  # pyarrow.StringArray, (items,)
    trained: NDArray[np.bool_]  # (items,): False where the ID vector is the shared cold one
    family: NDArray[np.int32]  # (items,)
    family_order: NDArray[np.int64]  # (items,): rows in the order of their families
    tastes: NDArray[np.int32]  # (items, attributes)
    taste_values: Sequence[Mapping[str, int]]  # (attributes,): the numbers of their values
    prices: NDArray[np.float32]  # (items,), NaN for none
    on_sale_from: NDArray[np.int32]  # (items,)
    on_sale_to: NDArray[np.int32]  # (items,)
    sold_out: NDArray[np.int32]  # (pairs, 2), ascending
    purchases: Purchases
    ids: Any  # faiss.IndexFlatIP, (items, dim)
    title: Any  # faiss.IndexFlatIP, (items, dim)

    @property
    def item_count(self) -> int:
        return len(self.item_ids)

    def rows_of(self, item_ids: Sequence[str | None]) -> NDArray[np.int64]:
        """Return the rows of items by ID, (asked,), -1 where there is none of that name."""
        asked = np.array([(item_id or "").encode() for item_id in item_ids], np.bytes_)
        if not len(asked) or not self.item_count:
            return np.full(len(asked), -1, np.int64)
        place = np.minimum(np.searchsorted(self.item_ids, asked, sorter=self.by_id), self.item_count - 1)
        rows = np.asarray(self.by_id)[place]
        found: NDArray[np.int64] = np.where(self.item_ids[rows] == asked, rows, -1)
        return found

    def taste_numbers(self, values: Sequence[str | None]) -> NDArray[np.int32]:
        """Return the numbers of values, attribute after attribute of one item after the other, (touched, attributes), 0 for unknown."""
        width = len(self.taste_values)
        numbers = [self.taste_values[place % width].get(value or "", 0) for place, value in enumerate(values)]
        return np.array(numbers, np.int32).reshape(len(values) // max(width, 1), width)

    def on_sale(self, as_of: int) -> NDArray[np.bool_]:
        """Return which items may be given on an evening, (items,): on sale on the day after it, and not sold out on the evening itself.

        Of the night of the index and later that is what is in stock.
        """
        if as_of >= self.as_of:
            return np.arange(self.item_count) < self.in_stock_count
        listed: NDArray[np.bool_] = (self.on_sale_from <= as_of + 1) & (self.on_sale_to > as_of + 1)
        start, end = np.searchsorted(self.sold_out[:, 0], [as_of, as_of + 1])
        listed[self.sold_out[start:end, 1]] = False
        return listed


class Built(NamedTuple):
    """How many items an index holds, and how many of them training never saw."""

    item_count: int
    untrained_count: int


def build_indexes(
    items: DataFrame,
    purchases: DataFrame,
    folder: Path,
    *,
    as_of: int,
    id_vectors: IdVectors,
    encode: Encode,
    staging: str | None = None,
) -> dict[str, Built]:
    """Write `folder`/<slug>/ for every category, one Spark task each.

    Args:
        items: rows of `catalogue.rankable_items`.
        purchases: rows of `catalogue.purchases_by_category`.
        as_of: the run's date, as days from 1970-01-01.
        staging: see `index_folders.collect_built`.

    Returns:
        What was built, by category.
    """

    def build_one(of_category: "pd.DataFrame", bought: "pd.DataFrame") -> "pd.DataFrame":
        return write_category(of_category, bought, folder, as_of=as_of, id_vectors=id_vectors, encode=encode)

    built = (
        items.groupBy("category")
        .cogroup(purchases.groupBy("category"))
        .applyInPandas(build_one, "category string, items long, untrained long")
    )
    return {row["category"]: Built(row["items"], row["untrained"]) for row in collect_built(built, folder, staging)}


def write_category(
    items: "pd.DataFrame", purchases: "pd.DataFrame", folder: Path, *, as_of: int, id_vectors: IdVectors, encode: Encode
) -> "pd.DataFrame":
    """Write the folder of the one category that `items` holds and return one row: category, items, untrained. Runs in a Spark worker.

    Raises:
        RetrievalError: a vector holds something that is no number, or is not of length 1: its similarities would mean nothing.
    """
    import faiss
    import pandas as pd
    import pyarrow as pa

    if items.empty:  # purchases of what no catalogue holds any more
        return pd.DataFrame({"category": [], "items": [], "untrained": []}, dtype=object)
    items = items.sort_values("item_id", ignore_index=True)
    vectors, trained = id_vectors(items.item_id.tolist())
    # Tonight's searches are of the first rows: of all in stock in the title space, of those that were trained in the ID space.
    order = np.lexsort((~trained, ~items.in_stock.to_numpy(bool)))
    items, vectors, trained = items.iloc[order].reset_index(drop=True), vectors[order], trained[order]
    category = str(items.category.iloc[0])
    into = folder / slug(category)
    into.mkdir(parents=True, exist_ok=True)
    for name, matrix in (("id", vectors), ("title", encode(items.title.tolist()))):
        _require_unit(matrix, items.item_id.tolist(), f"{category}, {name} space")
        index = faiss.IndexFlatIP(matrix.shape[1])
        index.add(np.ascontiguousarray(matrix, dtype=np.float32))
        faiss.write_index(index, str(into / f"{name}.faiss"))
    family = _numbered(items.family)
    row_of = pd.Series(items.index, index=items.item_id)
    bought = purchases[purchases.item_id.isin(row_of.index)]
    counted = count_purchases(
        pd.factorize(bought.user_id)[0].astype(np.int64),
        row_of[bought.item_id].to_numpy(np.int64),
        bought.day.to_numpy(np.int64),
        items=len(items),
    )
    sold_out = items.sold_out.explode().dropna()
    tastes = np.array(items.tastes.tolist(), dtype=object).reshape(len(items), -1)
    numbered = [pd.factorize(values) for values in tastes.T]
    arrays = {
        "item_ids": np.array([item_id.encode() for item_id in items.item_id], np.bytes_),
        "trained": trained,
        "family": family,
        "family_order": np.argsort(family, kind="stable"),
        "tastes": np.array([numbers + 1 for numbers, _ in numbered], np.int32).T.reshape(len(items), -1),
        "prices": items.price.to_numpy(np.float32),
        "on_sale_from": items.on_sale_from.to_numpy(np.int32),
        "on_sale_to": items.on_sale_to.to_numpy(np.int32),
        "sold_out": np.array(sorted(zip(sold_out, sold_out.index, strict=True)), np.int32).reshape(-1, 2),
        **{f"purchases_{name}": array for name, array in counted._asdict().items()},
    }
    arrays["by_id"] = np.argsort(arrays["item_ids"], kind="stable")
    arrays["id_place"] = np.argsort(arrays["by_id"])
    for name, array in arrays.items():
        np.save(into / f"{name}.npy", array)
    titles = pa.record_batch({"title": pa.array(items.title, pa.string())})
    with pa.OSFile(str(into / "titles.arrow"), "wb") as sink, pa.ipc.new_file(sink, titles.schema) as writer:
        writer.write_batch(titles)
    values = [{value: number for number, value in enumerate(names, start=1)} for _, names in numbered]
    known = {"category": category, "as_of": as_of, "in_stock_count": int(items.in_stock.sum()), "taste_values": values}
    (into / "index.json").write_text(json.dumps(known), encoding="utf-8")
    load_index(into)
    return pd.DataFrame({"category": [category], "items": [len(items)], "untrained": [int((~trained).sum())]})


def load_index(folder: Path) -> CategoryIndex:
    """Return what is known of a category.

    Raises:
        RetrievalError: a file is missing or cut, does not hold one row per item, or an index fails to find its own first vector.
    """
    import faiss
    import pyarrow as pa

    try:
        known = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        names = [name for name in CategoryIndex.__annotations__ if (folder / f"{name}.npy").exists()]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
        counted = Purchases(*(np.load(folder / f"purchases_{name}.npy", mmap_mode="r") for name in Purchases._fields))
        titles = pa.ipc.open_file(pa.memory_map(str(folder / "titles.arrow"))).get_batch(0)["title"]
        # IO_FLAG_MMAP alone is ignored for Flat indexes.
        ids, title = (faiss.read_index(str(folder / f"{name}.faiss"), faiss.IO_FLAG_MMAP_IFC) for name in ("id", "title"))
        index = CategoryIndex(
            as_of=known["as_of"],
            in_stock_count=known["in_stock_count"],
            taste_values=known["taste_values"],
            titles=titles,
            purchases=counted,
            ids=ids,
            title=title,
            **arrays,
        )
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise RetrievalError(
            f"index {folder}: cannot be read ({str(error).splitlines()[0][:200]}); run the step build_indexes again"
        ) from None
    # What is sold out holds rows of its own.
    if short := [name for name, array in arrays.items() if name != "sold_out" and len(array) != index.item_count]:
        raise RetrievalError(f"index {folder}/{short[0]}.npy: does not hold one row per item; run the step build_indexes again")
    for name, vectors in (("id", ids), ("title", title)):
        if vectors.ntotal != index.item_count or len(titles) != index.item_count or not _finds_itself(vectors):
            raise RetrievalError(f"index {folder}/{name}.faiss: does not find what it holds; run the step build_indexes again")
    return index


def _numbered(values: "pd.Series[str]") -> NDArray[np.int32]:
    """Return a number for each value, from 1; 0 where there is none."""
    import pandas as pd

    return (pd.factorize(values)[0] + 1).astype(np.int32)


def _require_unit(matrix: NDArray[np.float32], item_ids: Sequence[str], space: str) -> None:
    lengths = np.linalg.norm(matrix, axis=1)
    # Said this way round, what is no number is refused as well.
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_TOLERANCE))
    if len(wrong):
        names = ", ".join(item_ids[row] for row in wrong[:5])
        raise RetrievalError(f"index of {space}: the vectors of {len(wrong):,} items ({names}) are not of length 1; train the space again")


def _finds_itself(index: Any) -> bool:
    # A freed or swapped buffer gives garbage without a word. Several items may share a vector, so the vector is compared and not the row.
    first = index.reconstruct_n(0, 1)
    similarity, row = index.search(first, 1)
    return bool(abs(similarity[0, 0] - 1) < 1e-3 and np.allclose(index.reconstruct(int(row[0, 0])), first[0], atol=1e-3))
