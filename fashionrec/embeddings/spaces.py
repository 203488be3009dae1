"""What workers read of the trained encoders: vectors of sessions and of titles. torch is imported where they are encoded."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fashionrec.embeddings.title_encoder import ENCODER_FILE, encode_texts, read_encoder
from fashionrec.lake.storage import here


def session_vectors(folder: Path, sessions: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """Return the vectors of sessions in the ID space, (sessions, dim) float32, L2-normalised; zeros for a session without items.

    Args:
        folder: of a version of the model `id`.
        sessions: item IDs, oldest to newest; only the newest that the encoder reads count.
    """
    from fashionrec.embeddings import core

    model, rows, max_actions = _session_encoder(folder)
    vectors = np.zeros((len(sessions), model.table.embedding_dim), np.float32)
    filled = [place for place, session in enumerate(sessions) if len(session)]
    if filled:
        newest = pd.Series([list(sessions[place])[-max_actions:] for place in filled])
        vectors[filled] = core.encode(model, core.table_rows(newest, rows))
    return vectors


def encode_titles(folder: Path, titles: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of titles (or queries) in the title space, (titles, dim) float32, L2-normalised; equal titles are encoded once."""
    distinct, places = np.unique(np.asarray(titles, dtype=object).astype(str), return_inverse=True)
    return _title_encoder(folder)(distinct.tolist())[places]


# Loaded once per worker process; a folder belongs to one training run and never changes.
@cache
def _session_encoder(folder: Path) -> tuple[Any, Any, int]:
    from fashionrec.embeddings import core

    return core.load(here(folder))


@cache
def _title_encoder(folder: Path) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    folder = here(folder)
    if (folder / ENCODER_FILE).exists():
        return partial(encode_texts, read_encoder(folder))
    from fashionrec.embeddings import title

    return partial(title.encode, *title.load(folder))
