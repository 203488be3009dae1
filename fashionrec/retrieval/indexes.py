"""One pair of FAISS indexes per category: items by ID vector, items by title vector.

An index holds ALL items of its category's snapshot, because the evaluation ranks among all of them. Those in stock come first, so that a
search among them alone is a search of a range of rows, as fast as one of all. Search is exact (IndexFlatIP over L2-normalised vectors):
1.4 million items of 128 dimensions take 21 ms per query.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from fashionrec.errors import UserError
from fashionrec.index_folders import new_staging, slug, swap_in

if TYPE_CHECKING:
    import pandas as pd

# Both give (texts, dim) float32, L2-normalised; the first also which items were trained, (items,).
IdVectors = Callable[[Sequence[str]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
Encode = Callable[[Sequence[str]], NDArray[np.float32]]

_BUILD = "build.json"
_LENGTH_TOLERANCE = 1e-3


class RetrievalError(UserError):
    """An index is missing, broken or not the one that belongs to the run."""


@dataclass(frozen=True)
class CategoryIndex:
    """The items of a category in the order of the rows of its two indexes: first those in stock."""

    item_ids: list[str]
    titles: list[str]
    in_stock_count: int
    trained: NDArray[np.bool_]  # (items,): False where the ID vector is the shared cold one
    ids: Any  # faiss.IndexFlatIP, (items, dim)
    title: Any  # faiss.IndexFlatIP, (items, dim)


class Built(NamedTuple):
    """How many items an index holds, and how many of them training never saw."""

    item_count: int
    untrained_count: int


def build_indexes(
    items: DataFrame, folder: Path, *, id_vectors: IdVectors, encode: Encode, build: dict[str, str], staging: Path
) -> dict[str, Built]:
    """Write `folder`/<slug>/{id.faiss,title.faiss,items.json} for every category, one Spark task each; swap the folder in at the end.

    Args:
        items: one row per item: item_id, title, category, in_stock.
        build: what the indexes were made from; `check_build` compares it.
        staging: folder to write into first, named `.<name of folder>.<run>` beside it.

    Returns:
        What was built, by category.
    """
    new_staging(staging, folder)

    def build_one(frame: "pd.DataFrame") -> "pd.DataFrame":
        return write_category(frame, staging, id_vectors=id_vectors, encode=encode)

    built = (
        items.select("item_id", "title", "category", "in_stock")
        .groupBy("category")
        .applyInPandas(build_one, "category string, items long, untrained long")
        .collect()
    )
    (staging / _BUILD).write_text(json.dumps(build), encoding="utf-8")
    swap_in(staging, folder)
    return {row["category"]: Built(row["items"], row["untrained"]) for row in built}


def write_category(frame: "pd.DataFrame", folder: Path, *, id_vectors: IdVectors, encode: Encode) -> "pd.DataFrame":
    """Write the indexes of the one category that `frame` holds and return one row: category, items, untrained. Runs in a Spark worker.

    Raises:
        RetrievalError: a vector holds something that is no number, or is not of length 1: its similarities would mean nothing.
    """
    import faiss
    import pandas as pd

    frame = frame.sort_values(["in_stock", "item_id"], ascending=[False, True])
    category = str(frame.category.iloc[0])
    into = folder / slug(category)
    into.mkdir(exist_ok=True)
    vectors, trained = id_vectors(frame.item_id.tolist())
    for name, matrix in (("id", vectors), ("title", encode(frame.title.tolist()))):
        _require_unit(matrix, frame.item_id.tolist(), f"{category}, {name} space")
        index = faiss.IndexFlatIP(matrix.shape[1])
        index.add(np.ascontiguousarray(matrix, dtype=np.float32))
        faiss.write_index(index, str(into / f"{name}.faiss"))
    rows: dict[str, Any] = {"item_ids": frame.item_id.tolist(), "titles": frame.title.tolist()}
    rows |= {"in_stock_count": int(frame.in_stock.sum()), "trained": trained.astype(int).tolist()}
    (into / "items.json").write_text(json.dumps({"category": category, **rows}), encoding="utf-8")
    load_index(into)
    return pd.DataFrame({"category": [category], "items": [len(frame)], "untrained": [int((~trained).sum())]})


def check_build(folder: Path, expected: dict[str, str]) -> dict[str, str]:
    """Return what the indexes below `folder` were made from.

    Raises:
        RetrievalError: there are none, or they were made from something else than `expected`: their vectors would not be comparable.
    """
    try:
        build: dict[str, str] = json.loads((folder / _BUILD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RetrievalError(f"indexes: none under {folder}; run the step build_indexes first") from None
    differing = [f"{key} {build.get(key)} instead of {value}" for key, value in expected.items() if build.get(key) != value]
    if differing:
        raise RetrievalError(f"indexes: those under {folder} were made from {', '.join(differing)}; run the step build_indexes again")
    return build


def load_index(folder: Path) -> CategoryIndex:
    """Return the indexes of a category, mapped into memory read-only: processes of one machine share their pages.

    Raises:
        RetrievalError: a file is missing or cut, does not hold one vector per item, or fails to find its own first vector.
    """
    import faiss

    try:
        rows = json.loads((folder / "items.json").read_text(encoding="utf-8"))
        # IO_FLAG_MMAP alone is ignored for Flat indexes.
        ids, title = (faiss.read_index(str(folder / f"{name}.faiss"), faiss.IO_FLAG_MMAP_IFC) for name in ("id", "title"))
    except (OSError, RuntimeError, ValueError) as error:
        raise RetrievalError(
            f"index {folder}: cannot be read ({str(error).splitlines()[0][:200]}); run the step build_indexes again"
        ) from None
    for name, index in (("id", ids), ("title", title)):
        if index.ntotal != len(rows["item_ids"]) or not _finds_itself(index):
            raise RetrievalError(f"index {folder}/{name}.faiss: does not find what it holds; run the step build_indexes again")
    return CategoryIndex(rows["item_ids"], rows["titles"], rows["in_stock_count"], np.array(rows["trained"], dtype=bool), ids, title)


def vectors(index: Any) -> NDArray[np.float32]:
    """Return all vectors of a FAISS index in the order of its rows, (items, dim) float32."""
    found: NDArray[np.float32] = index.reconstruct_n(0, index.ntotal)
    return found


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
