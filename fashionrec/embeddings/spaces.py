"""What workers read of the trained models: vectors of items and of titles. torch is imported only where titles are encoded."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def item_vectors(folder: Path, item_ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of items in the ID space, (items, dim) float32, L2-normalised, and which of them were trained, (items,).

    Items that training never saw share the cold vector.
    """
    vectors, cold, rows = _item_table(folder)
    found = np.fromiter((rows.get(item_id, -1) for item_id in item_ids), dtype=np.int64, count=len(item_ids))
    trained = found >= 0
    return np.where(trained[:, None], vectors[found], cold), trained


def encode_titles(folder: Path, titles: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of titles (or queries) in the title space, (titles, dim) float32, L2-normalised; equal titles are encoded once."""
    from fashionrec.embeddings import title

    model, tokenizer = _title_model(folder)
    distinct, places = np.unique(np.asarray(titles, dtype=object).astype(str), return_inverse=True)
    return title.encode(model, tokenizer, distinct.tolist())[places]


# Loaded once per worker process; a folder belongs to one training run and never changes.
@cache
def _item_table(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, int]]:
    from safetensors.numpy import load_file

    table = load_file(folder / "table.safetensors")
    item_ids = json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))
    return table["vectors"], table["cold"], {item_id: row for row, item_id in enumerate(item_ids)}


@cache
def _title_model(folder: Path) -> tuple[Any, Any]:
    from fashionrec.embeddings import title

    return title.load(folder)
