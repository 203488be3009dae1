"""The item table of the ID space, read without torch."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashionrec.lake.storage import here

COLD = 0  # row of the item table that items share which training never saw


def item_vectors(folder: Path, item_ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of items in the ID space, (items, dim) float32, L2-normalised, and which of them were trained, (items,).

    Items that training never saw share the cold vector.
    """
    table, rows = _item_table(folder)
    found = np.fromiter((rows.get(item_id, COLD) for item_id in item_ids), dtype=np.int64, count=len(item_ids))
    vectors = table[found]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), found != COLD


# Loaded once per worker process; a folder belongs to one training run and never changes.
@cache
def _item_table(folder: Path) -> tuple[NDArray[np.float32], dict[str, int]]:
    from safetensors.numpy import load_file

    folder = here(folder)
    item_ids = json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))
    return load_file(folder / "model.safetensors")["table.weight"], {item_id: row for row, item_id in enumerate(item_ids, start=COLD + 1)}
